"""The command that repeats a run: rerun."""

from pathlib import Path
from typing import Annotated

import typer

from ..printing import echo, nearby, print_table
from .checks import check_checkpoint
from .options import option
from .outputs import OUTPUT


def rerun(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Folder that adapt or metatrain made.")],
    out: Annotated[Path | None, option(OUTPUT, "FOLDER", "Keep the new one here. Default: it is removed.")] = None,
) -> None:
    """Repeat the run that made a checkpoint, and compare: the same numbers again?

    Exit status 1 where anything differs.
    """
    check_checkpoint(checkpoint)
    from ..recipes.rerunning import rerun as run

    differences = run(checkpoint, out=out)
    if not differences:
        echo(f"{nearby(checkpoint)}: the same weights, metrics and predictions, bit by bit")
        return
    print_table(f"{nearby(checkpoint)} differs", ("what", "how"), [list(row) for row in differences.items()])
    raise typer.Exit(1)
