"""The commands that show what a model makes of pictures: report."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from ..printing import nearby
from .options import CACHE, DEVICE, METHOD, OUTPUT, option, words, writable


def report(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a checkpoint that `fsiqa adapt` made.")],
    out: Annotated[Path, option(OUTPUT, "FILE", "The page to write.", "--out", "-o", callback=writable)] = Path(
        "report.html"
    ),
    baselines: Annotated[
        str, option(METHOD, "LIST", "Methods that learn from the same ratings, between commas; or none.")
    ] = "ridge,clip_iqa",
    device: DEVICE = None,
    cache: CACHE = None,
) -> None:
    """Write a report on an adapted model: one HTML page with agreement, figures and pictures. Needs the extra `app`."""
    from ..resources import is_checkpoint

    if not is_checkpoint(model):
        raise InputError(f"{model}: not a checkpoint (`fsiqa adapt` makes one, in runs/adapt)")
    try:
        from ..app.report import report as run
    except ImportError as error:
        raise InputError(f"fsiqa report needs {error.name}: pip install 'fewshot-iqa[app]'") from None

    names = [] if baselines == "none" else words(baselines)
    typer.echo(f"wrote {nearby(run(model, out, baselines=names, device=device, cache=cache))}")
