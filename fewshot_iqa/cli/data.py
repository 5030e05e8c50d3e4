"""The commands on data sets."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from ..files import open_text
from ..printing import nearby
from .options import OUTPUT, option, with_table_options, writable

NAME = Annotated[str | None, typer.Argument(metavar="NAME", help="A data set from `fsiqa tasks`. Default: csv.")]

data = typer.Typer(help="Check data sets, convert their ratings, split them.", no_args_is_help=True)


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
        typer.echo(f"PROBLEM  {problem}")
    typer.echo("it cannot be used as it is" if found.problems else "it can be used")
    raise typer.Exit(1 if found.problems else 0)


@data.command("convert")
@with_table_options
def convert(
    table: dict[str, Any],
    name: NAME = None,
    out: Annotated[Path, option(OUTPUT, "FILE", "Write the table here.", "--out", "-o", callback=writable)] = Path(
        "labels.csv"
    ),
) -> None:
    """Write the ratings of a data set as a plain table, which `--labels` reads."""
    from ..recipes.datasets import convert as run

    own = table.get("labels")
    if own is not None and Path(own).exists() and Path(own).resolve() == out.resolve():
        raise InputError(f"--out {out}: is the table itself; name another file")
    found = run(name, **table)
    with open_text(out) as file:
        found.table.to_csv(file, index=False)  # ratings as they are, unrounded
    typer.echo(f"{len(found.table)} pictures in {nearby(out)}, with {', '.join(map(str, found.table))}")
    file_name = shlex.quote(nearby(out))
    split_too = f" --splits {file_name}" if found.is_split else ""
    typer.echo(f"read it with --labels {file_name} {found.options}{split_too}")


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
    typer.echo(f"{len(files)} splits in {nearby(out)}: {files[0].name} to {files[-1].name}")


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
