"""The commands that make pictures: distort, synthesize."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from ..printing import echo
from .options import numbers, option, words
from .outputs import DISTORTED, OUTPUT, replacing, sheet_file


def distort(
    photo: Annotated[Path, typer.Argument(help="The photograph.")],
    types: Annotated[
        list[str] | None,
        typer.Option("--type", help="A name or id, as `jpeg`, 10 or tid2013/jpeg; several are applied in their order."),
    ] = None,
    levels: Annotated[
        list[float] | None, typer.Option("--level", help="1 to 5, whole or between; one for all types, or one each.")
    ] = None,
    out: Annotated[
        Path | None, option(OUTPUT, "FILE", "The result, a .png.", "-o", "--out", callback=replacing(DISTORTED))
    ] = None,
    sheet: Annotated[
        Path | None,
        option(
            OUTPUT,
            "FILE",
            "Draw all types (or each --type; also kadid10k, tid2013) at all levels.",
            callback=sheet_file,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the random numbers.")] = 0,
) -> None:
    """Distort a photograph, or draw a sheet of all distortions of it."""
    from ..recipes.pictures import distort_file, draw_sheet

    if (out is None) == (sheet is None):
        raise InputError("give -o FILE for a distorted picture, or --sheet FILE for a sheet of all distortions")
    if sheet is not None:
        if levels:
            raise InputError("--level does not go with --sheet, which shows every level")
        draw_sheet(photo, sheet, types or ("kadid10k",), seed=seed)
        echo(f"sheet in {sheet}")
    elif out is not None:
        if not types or not levels or len(levels) not in (1, len(types)):
            raise InputError("give --type and --level: one level for all types, or one for each")
        steps = list(zip(types, levels * len(types) if len(levels) == 1 else levels, strict=True))
        applied = distort_file(photo, out, steps, seed=seed)
        echo(f"{' -> '.join(f'{name} {level:g}' for name, level in applied)} in {out}")


def synthesize(
    folder: Annotated[Path, typer.Argument(help="Folder of clean photographs.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the data set.")],
    types: Annotated[
        str, typer.Option(help="Names or ids between commas, or a whole set: kadid10k, tid2013.")
    ] = "kadid10k",
    levels: Annotated[str, typer.Option(help="Levels between commas, 1 to 5, whole or between.")] = "1,2,3,4,5",
    short_side: Annotated[
        int, typer.Option(help="Reduce photographs to this shorter side first, as KADID's are; 0 keeps their size.")
    ] = 384,
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Make a synthetic data set, structured as KADID-10k, from clean photographs. Repeat the command to resume."""
    from ..recipes.pictures import synthesize as run

    result = run(
        folder, out, types=words(types), levels=numbers("--levels", levels), short_side=short_side or None, seed=seed,
        workers=workers,
    )  # fmt: skip
    for line in result.failed:
        echo(line, err=True)
    echo(f"{result.pictures} pictures in {out}, labels in {result.labels}")
