"""The commands that show what a model makes of pictures: browse and report."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from ..printing import echo, nearby
from .checks import check_checkpoint, from_extra
from .options import BROWSER, CACHE, DATA, DEVICE, METHOD, PORT, option, words
from .outputs import OUTPUT, PAGE, replacing, writable


def browse(
    source: Annotated[
        Path,
        typer.Argument(metavar="MODEL|SCORES", help="A checkpoint or exported model; or a table of `score --csv`."),
    ],
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[FOLDER]", help="Folder of the images. Default: where the table names them."),
    ] = None,
    ratings: Annotated[
        Path, option(OUTPUT, "FILE", "Put corrected ratings here.", "--ratings", "-o", callback=writable)
    ] = Path("ratings.csv"),
    scale: Annotated[str, option(METHOD, "NAME", "Of the ratings. acr: five grades; continuous: 0 to 100.")] = "acr",
    rater: Annotated[
        str, option(DATA, "NAME", "Name of the rater. Default: the only one of the ratings, else the page asks.")
    ] = "",
    device: DEVICE = None,
    cache: CACHE = None,
    port: PORT = None,
    browser: BROWSER = True,
) -> None:
    """Look at scored images in a gallery in the browser: sort, filter, select, correct ratings. Needs the extra `app`.

    A model scores the folder meanwhile.
    """
    if not source.exists():
        raise InputError(f"{source}: no such model or table (`fsiqa adapt` makes a model, in runs/adapt)")
    if folder is not None and not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    with from_extra("app", "fsiqa browse"):
        from ..app.browse import browse as run

    ended = run(
        source, folder, ratings=ratings, scale=scale, rater=rater, device=device, cache=cache,
        port=port, browser=browser, say=echo,
    )  # fmt: skip
    if not ended:  # a thread inside a model would abort an orderly exit
        sys.stdout.flush()
        os._exit(0)


def report(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a checkpoint that `fsiqa adapt` made.")],
    out: Annotated[Path, option(OUTPUT, "FILE", "The page to write.", "--out", "-o", callback=replacing(PAGE))] = Path(
        "report.html"
    ),
    baselines: Annotated[
        str, option(METHOD, "LIST", "Methods that learn from the same ratings, between commas; or none.")
    ] = "ridge,clip_iqa",
    device: DEVICE = None,
    cache: CACHE = None,
) -> None:
    """Write a report on an adapted model: one HTML page with agreement, figures and pictures. Needs the extra `app`."""
    check_checkpoint(model)
    with from_extra("app", "fsiqa report"):
        from ..app.report import report as run

    names = [name for name in words(baselines) if name not in ("", "none")]
    echo(f"wrote {nearby(run(model, out, baselines=names, device=device, cache=cache))}")
