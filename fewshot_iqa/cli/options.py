"""The options that several commands share."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from ..files import require_writable

DATA, METHOD, PROTOCOL, OUTPUT = "Data", "Method", "Protocol", "Output"  # the groups of options in the help


def writable(path: Path | None) -> Path | None:
    """A file of results; InputError where it cannot be written, before anything is computed for it."""
    if path:
        require_writable(path)
    return path


def drawable(path: Path | None) -> Path | None:
    """A figure's file; InputError where its suffix names no format, or it cannot be written."""
    if path and path.suffix.lower() not in (".png", ".pdf", ".svg", ".jpg"):
        raise InputError(f"{path}: figures are .png, .pdf, .svg or .jpg")
    return writable(path)


CONFIG = Annotated[
    str, typer.Option(help="A name from `fsiqa configs`, or a .yaml file.", rich_help_panel=METHOD, metavar="NAME")
]
CLIP = Annotated[
    str | None,
    typer.Option(help="tiny, NAME:PRETRAINED, or NAME:/path/to/weights.", rich_help_panel=METHOD, metavar="NAME"),
]
DEVICE = Annotated[
    str | None,
    typer.Option(help="cpu, cuda, ... Default: a GPU where there is one.", rich_help_panel=METHOD, metavar="NAME"),
]
CACHE = Annotated[
    Path | None,
    typer.Option(
        help="Keep the features of images here, to encode each once.", rich_help_panel=METHOD, metavar="FOLDER"
    ),
]
SET = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a dotted.key of the method, or a task.key of the task.",
        rich_help_panel=METHOD,
    ),
]
START = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="FOLDER",
        help="Start from a checkpoint, shipped or none. Default: runs/metatrain, else shipped, if it fits.",
        rich_help_panel=METHOD,
    ),
]
SHOTS = Annotated[
    str | None,
    typer.Option(
        help="Ratings to draw: 50, or 20%. Default: learn from all.", rich_help_panel=PROTOCOL, metavar="NUMBER"
    ),
]
SEED = Annotated[
    int | None, typer.Option(min=0, help="Random seed. Default: the configuration's.", rich_help_panel=PROTOCOL)
]
WORKERS = Annotated[int, typer.Option(min=1, help="Trials in parallel, one process each.", rich_help_panel=PROTOCOL)]
PLAN = Annotated[str, typer.Option(help="The plan, a .yaml file.", metavar="FILE")]
CHECKPOINT = Annotated[Path, typer.Option(help="Folder of the checkpoint.", rich_help_panel=OUTPUT, metavar="FOLDER")]
RESULTS = Annotated[
    Path,
    typer.Option(
        help="Folder of the results. Repeat a command to resume it.", rich_help_panel=OUTPUT, metavar="FOLDER"
    ),
]
RESUME = Annotated[bool, typer.Option("--resume", help="Resume an interrupted run.", rich_help_panel=OUTPUT)]
JSON = Annotated[
    Path | None,
    typer.Option(
        "--json", metavar="FILE", callback=writable, help="Also write the result here.", rich_help_panel=OUTPUT
    ),
]
CSV = Annotated[
    Path | None,
    typer.Option("--csv", metavar="FILE", callback=writable, help="Write the table here.", rich_help_panel=OUTPUT),
]
FIGURE = Annotated[
    Path | None, typer.Option(metavar="FILE", callback=drawable, help="Draw the curves.", rich_help_panel=OUTPUT)
]
TASK = Annotated[
    str | None,
    typer.Option(
        help="A data set from `fsiqa tasks`. Default: csv with --labels, else demo.",
        rich_help_panel=DATA,
        metavar="NAME",
    ),
]


def _table(
    labels: Annotated[
        Path | None,
        typer.Option(help="Your table of ratings: .csv, .tsv or .xlsx.", rich_help_panel=DATA, metavar="FILE"),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="Folder of the images. Default: that of the table.", rich_help_panel=DATA, metavar="FOLDER"),
    ] = None,
    image_column: Annotated[
        str | None,
        typer.Option(help="Default: image, file, filename, name, ...", rich_help_panel=DATA, metavar="COLUMN"),
    ] = None,
    score_column: Annotated[
        str | None, typer.Option(help="Default: score, mos, rating, ...", rich_help_panel=DATA, metavar="COLUMN")
    ] = None,
    range_: Annotated[
        str | None,
        typer.Option(
            "--range",
            help="Ends of the rating scale, such as 1,5. Default: of the shots.",
            rich_help_panel=DATA,
            metavar="LOW,HIGH",
        ),
    ] = None,
    lower_is_better: Annotated[
        bool, typer.Option("--lower-is-better", help="Low ratings are good, as in DMOS.", rich_help_panel=DATA)
    ] = False,
    group: Annotated[
        str | None,
        typer.Option(
            help="Column of groups that a split keeps whole. Default: group, else prompt.",
            rich_help_panel=DATA,
            metavar="COLUMN",
        ),
    ] = None,
    test: Annotated[
        float | None,
        typer.Option(help="Share of the groups held out as test set. Default: 0.2.", rich_help_panel=PROTOCOL),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Test on each of so many folds of the groups.", rich_help_panel=PROTOCOL)
    ] = None,
) -> None:
    """The options of `recipes.sources.TableOptions`, declared here once."""


def with_table_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a table of ratings; it takes them as its argument `table`, a dictionary."""
    options = inspect.signature(_table).parameters
    own = inspect.signature(command)
    parameters = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in own.parameters.items()
        for each in (options.values() if name == "table" else [parameter])
    ]

    @wraps(command)
    def run(**given: Any) -> None:
        table = {name.rstrip("_"): given.pop(name) for name in options}
        command(table={name: value for name, value in table.items() if value not in (None, False)}, **given)

    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {}
    return run


def numbers(option: str, text: str) -> list[float]:
    """Numbers between commas."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} {text}: expected numbers between commas") from None


def words(text: str) -> list[str]:
    """Words between commas."""
    return [part.strip() for part in text.split(",")]
