"""The options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError

CONFIG = Annotated[str, typer.Option(help="Method: a name from `fsiqa configs`, or a .yaml file.")]
CLIP = Annotated[str | None, typer.Option(help="tiny, NAME:PRETRAINED, or NAME:/path/to/weights.")]
SEED = Annotated[int | None, typer.Option(help="Default: the configuration's.")]
DEVICE = Annotated[str | None, typer.Option(help="cpu, cuda, ... Default: a GPU where there is one.")]
SET = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override dotted.key of the method, or task.key of the task."),
]
JSON = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result here as well.")]
RESUME = Annotated[bool, typer.Option("--resume", help="Go on from where an interrupted run stopped.")]


def numbers(option: str, text: str) -> list[float]:
    """Numbers between commas."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} {text}: expected numbers between commas") from None
