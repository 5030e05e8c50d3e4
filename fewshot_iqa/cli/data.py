"""The commands on data sets."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from ..files import write_csv
from ..printing import echo, nearby
from .options import option, with_table_options
from .outputs import OUTPUT, Commands, table_file

NAME = Annotated[str | None, typer.Argument(metavar="NAME", help="A data set from `fsiqa tasks`. Default: csv.")]

data = Commands(help="Check data sets, convert their ratings, split them.", no_args_is_help=True)


@data.command("info")
def info(name: Annotated[str, typer.Argument(metavar="NAME", help="A data set from `fsiqa tasks`.")]) -> None:
    """Say what a data set is: its files, scale, splits, traps, terms, and where to get it."""
    from ..config import load_task
    from ..recipes.describing import describe

    _print_lines(describe(load_task(name)))


@data.command("check")
@with_table_options
def check(
    table: dict[str, Any],
    name: NAME = None,
    direction: Annotated[
        bool, option(OUTPUT, None, "Compare 64 ratings with the shipped model.", "--direction/--no-direction")
    ] = True,
) -> None:
    """Check that a data set is all there and means what it should; exit status 1 if it cannot be used."""
    from ..recipes.checking import check as run

    found = run(name, direction=direction, **table)
    _print_lines([("data set", found.task), *found.lines])
    for problem in found.problems:
        echo(f"PROBLEM  {problem}")
    echo("it cannot be used as it is" if found.problems else "it can be used")
    raise typer.Exit(1 if found.problems else 0)


@data.command("convert")
@with_table_options
def convert(
    table: dict[str, Any],
    name: NAME = None,
    out: Annotated[
        Path,
        option(OUTPUT, "FILE", "Write the table here.", "--out", "-o", callback=table_file("image", "score", "group")),
    ] = Path("labels.csv"),
) -> None:
    """Write the ratings of a data set as a plain table, which `--labels` reads."""
    from ..recipes.datasets import convert as run

    found = run(name, **table)
    write_csv(out, found.table, digits=None)  # ratings as they are
    echo(f"{len(found.table)} pictures in {nearby(out)}, with {', '.join(map(str, found.table))}")
    file_name = shlex.quote(nearby(out))
    split_too = f" --splits {file_name}" if found.is_split else ""
    echo(f"read it with --labels {file_name} {found.options}{split_too}")


@data.command("split")
@with_table_options
def split(
    table: dict[str, Any],
    name: NAME = None,
    seeds: Annotated[int, option(OUTPUT, "N", "Number of splits.", min=1)] = 10,
    out: Annotated[Path, option(OUTPUT, "FOLDER", "Write a file for each seed here.", "--out", "-o")] = Path("splits"),
) -> None:
    """Write random splits of whole groups, one file for each seed, to publish and to read back with `--splits`."""
    from ..recipes.datasets import split as run

    files = run(out, name, seeds=seeds, **table)
    echo(f"{len(files)} splits in {nearby(out)}: {files[0].name} to {files[-1].name}")


def _print_lines(lines: list[tuple[str, str]]) -> None:
    """Two columns, the second folded to the width of the screen."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")
    for name, text in lines:
        shown.add_row(Text(name), Text(text))
    Console().print(shown)
