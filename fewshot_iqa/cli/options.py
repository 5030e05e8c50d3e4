"""The options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from ..printing import open_text


def writable(path: Path | None) -> Path | None:
    """A file for the results; InputError where it cannot be written, before anything is computed for it. What is in it
    stays."""
    if path:
        new = not path.exists()
        open_text(path, "a").close()
        if new:
            path.unlink()
    return path


def drawable(path: Path | None) -> Path | None:
    """A figure's file; InputError where its suffix names no format, or it cannot be written."""
    if path and path.suffix.lower() not in (".png", ".pdf", ".svg", ".jpg"):
        raise InputError(f"{path}: figures are .png, .pdf, .svg or .jpg")
    return writable(path)


CONFIG = Annotated[str, typer.Option(help="Method: a name from `fsiqa configs`, or a .yaml file.")]
TASK = Annotated[str, typer.Option(help="Source of rated pictures, from `fsiqa tasks`.")]
SHOTS = Annotated[str, typer.Option(help="How many to learn from: 50, or 20%.")]
PLAN = Annotated[str, typer.Option(help="The plan, a .yaml file.")]
CLIP = Annotated[str | None, typer.Option(help="tiny, NAME:PRETRAINED, or NAME:/path/to/weights.")]
SEED = Annotated[int | None, typer.Option(min=0, help="Default: the configuration's.")]
DEVICE = Annotated[str | None, typer.Option(help="cpu, cuda, ... Default: a GPU where there is one.")]
SET = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override dotted.key of the method, or task.key of the task."),
]
JSON = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", callback=writable, help="Write the result here as well.")
]
CSV = Annotated[Path | None, typer.Option("--csv", metavar="FILE", callback=writable, help="Write the table here.")]
FIGURE = Annotated[Path | None, typer.Option(metavar="FILE", callback=drawable, help="Draw the curves.")]
RESUME = Annotated[bool, typer.Option("--resume", help="Go on from where an interrupted run stopped.")]
CHECKPOINT = Annotated[Path, typer.Option(help="Folder of the checkpoint.")]
RESULTS = Annotated[Path, typer.Option(help="Folder of the results; repeat the command to go on.")]
START = Annotated[
    str | None,
    typer.Option("--from", help="Checkpoint, or none. Default: runs/metatrain, else the shipped one, if it fits."),
]
ROOT = Annotated[Path | None, typer.Option(help="Folder of the pictures.")]
LABELS = Annotated[Path | None, typer.Option(help="Table of ratings, a path or a file inside root.")]
IMAGE_COLUMN = Annotated[str | None, typer.Option(help="Default: image.")]
SCORE_COLUMN = Annotated[str | None, typer.Option(help="Default: score.")]
GROUP = Annotated[
    str | None, typer.Option(help="Column of what must not be on both sides of the split. Default: group, else prompt.")
]
WORKERS = Annotated[int, typer.Option(min=1, help="Trials at a time, in processes of their own.")]
LOWER_IS_BETTER = Annotated[bool, typer.Option("--lower-is-better", help="For ratings such as DMOS.")]
TEST = Annotated[float | None, typer.Option(help="Share of the groups kept for the test. Default: 0.2.")]
FOLDS = Annotated[int | None, typer.Option(min=2, help="Test on each of so many parts of the groups.")]


def numbers(option: str, text: str) -> list[float]:
    """Numbers between commas."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} {text}: expected numbers between commas") from None


def words(text: str) -> list[str]:
    """Words between commas."""
    return [part.strip() for part in text.split(",")]
