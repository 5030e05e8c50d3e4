"""The options that several commands share."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from .outputs import OUTPUT, drawable, json_result

DATA, METHOD, PROTOCOL = "Data", "Method", "Protocol"  # the groups of options in the help


def option(panel: str, metavar: str | None, help: str, *names: str, **more: Any) -> Any:
    """An option in a group of the help."""
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=panel, **more)


CONFIG = Annotated[str, option(METHOD, "NAME", "A name from `fsiqa configs`, or a .yaml file.")]
CLIP = Annotated[str | None, option(METHOD, "NAME", "tiny, NAME:PRETRAINED, or NAME:/path/to/weights.")]
DEVICE = Annotated[str | None, option(METHOD, "NAME", "cpu, cuda, ... Default: a GPU where there is one.")]
CACHE = Annotated[Path | None, option(METHOD, "FOLDER", "Keep the features of images here: each is encoded once.")]
SET = Annotated[
    list[str] | None,
    option(METHOD, "KEY=VALUE", "Override a dotted.key of the method, or a task.key of the task.", "--set"),
]
START = Annotated[
    str | None,
    option(
        METHOD,
        "FOLDER",
        "Start from a checkpoint, shipped or none. Default: runs/metatrain, else shipped, if it fits.",
        "--from",
    ),
]
SHOTS = Annotated[str | None, option(PROTOCOL, "N|N%", "Ratings to draw: 50, or 20%. Default: learn from all.")]
SEED = Annotated[int | None, option(PROTOCOL, "N", "Random seed. Default: the configuration's.", min=0)]
WORKERS = Annotated[int, option(PROTOCOL, "N", "Trials in parallel, one process each.", min=1)]
PLAN = Annotated[str, typer.Option(help="The plan, a .yaml file.", metavar="FILE")]
CHECKPOINT = Annotated[Path, option(OUTPUT, "FOLDER", "Folder of the checkpoint.")]
RESULTS = Annotated[Path, option(OUTPUT, "FOLDER", "Folder of the results. Repeat the command to resume.")]
RESUME = Annotated[bool, option(OUTPUT, None, "Resume an interrupted run.", "--resume")]
JSON = Annotated[Path | None, option(OUTPUT, "FILE", "Also write the result here.", "--json", callback=json_result)]
FIGURE = Annotated[Path | None, option(OUTPUT, "FILE", "Draw the curves.", callback=drawable)]
PORT = Annotated[int | None, option(OUTPUT, "N", "Port of the page. Default: a free one.", min=1, max=65535)]
BROWSER = Annotated[bool, option(OUTPUT, None, "Open the page in a browser.", "--browser/--no-browser")]
TASK = Annotated[
    str | None, option(DATA, "NAME", "A data set from `fsiqa tasks`. Default: csv with --labels, else demo.")
]


def _table(
    labels: Annotated[Path | None, option(DATA, "FILE", "Your table of ratings: .csv, .tsv, .xlsx or .xls.")] = None,
    root: Annotated[Path | None, option(DATA, "FOLDER", "Folder of the images. Default: that of the table.")] = None,
    image_column: Annotated[str | None, option(DATA, "COLUMN", "Default: image, file, filename, name, ...")] = None,
    score_column: Annotated[
        str | None, option(DATA, "COLUMN", "Default: score, mos, rating, ... Several raters: a,b,c")
    ] = None,
    range_: Annotated[
        str | None, option(DATA, "LOW,HIGH", "Ends of the rating scale, such as 1,5. Default: of the shots.", "--range")
    ] = None,
    lower_is_better: Annotated[
        bool, option(DATA, None, "Low ratings are good, as in DMOS.", "--lower-is-better")
    ] = False,
    skip_incomplete: Annotated[
        bool, option(DATA, None, "Leave out rows without a rating or a picture.", "--skip-incomplete")
    ] = False,
    group: Annotated[
        str | None, option(DATA, "COLUMN", "Column of groups that a split keeps whole. Default: group, else prompt.")
    ] = None,
    splits: Annotated[
        str | None, option(PROTOCOL, "NAME", "Split of the data set, random, or split files. Default: its first.")
    ] = None,
    test: Annotated[
        float | None, option(PROTOCOL, "SHARE", "Share of the groups held out as test set. Default: 0.2.")
    ] = None,
    folds: Annotated[int | None, option(PROTOCOL, "N", "Test on each of N folds of the groups.", min=2)] = None,
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
        command(table={name: value for name, value in table.items() if value is not None}, **given)

    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]  # typer reads it
    run.__annotations__ = {}
    return run


def numbers(name: str, text: str) -> list[float]:
    """Numbers between commas."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{name} {text}: expected numbers between commas") from None


def counts(name: str, text: str) -> list[int]:
    """Positive whole numbers between commas."""
    found = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in found):
        raise InputError(f"{name} {text}: expected whole numbers between commas")
    return [int(part) for part in found]


def words(text: str) -> list[str]:
    """Words between commas."""
    return [part.strip() for part in text.split(",")]
