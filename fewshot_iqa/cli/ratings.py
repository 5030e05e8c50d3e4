"""The commands on votes: `fsiqa ratings summarize`."""

from pathlib import Path
from typing import Annotated

import typer

from ..printing import decimals, print_table
from .options import DATA, METHOD, OUTPUT, option, writable

AGREEMENT = ("inconsistency", "srcc_others", "srcc_self", "std_self")

ratings = typer.Typer(help="Mean opinion scores from the votes of several raters.", no_args_is_help=True)


@ratings.callback()
def _group() -> None:
    """Keeps the name of its only command."""


@ratings.command()
def summarize(
    votes: Annotated[
        Path,
        typer.Argument(
            metavar="VOTES", help="Table of single votes: columns image, rating, rater, or image_a, image_b, preferred."
        ),
    ],
    out: Annotated[
        Path | None,
        option(OUTPUT, "FILE", "Write image, mos, std, count, low, high here.", "--out", "-o", callback=writable),
    ] = None,
    model: Annotated[
        str,
        option(
            METHOD,
            "NAME",
            "mean; bt500: without the raters whom ITU-R BT.500 rejects; p913: without each rater's bias, and the "
            "consistent ones weigh more.",
        ),
    ] = "mean",
    image_column: Annotated[str | None, option(DATA, "COLUMN", "Default: image, file, filename, name, ...")] = None,
    score_column: Annotated[str | None, option(DATA, "COLUMN", "Default: score, mos, rating, ...")] = None,
    rater_column: Annotated[str | None, option(DATA, "COLUMN", "Default: rater, subject, observer, ...")] = None,
) -> None:
    """Summarize votes to mean opinion scores, and say how far raters agree."""
    from ..recipes.ratings import summarize_votes

    found = summarize_votes(
        votes, model=model, out=out,
        image_column=image_column, score_column=score_column, rater_column=rater_column,
    )  # fmt: skip
    if found.raters is None:
        typer.echo(f"{found.votes} comparisons of {len(found.mos)} images; mos is the logarithm of an image's odds")
    else:
        rows = []
        for row in found.raters.to_dict("records"):
            agreement = [decimals(row[name]) for name in AGREEMENT]
            outlying = "yes" if row["outlying"] else ""
            rows.append([row["rater"], row["votes"], decimals(row["bias"], sign=True), *agreement, outlying])
        title = f"{found.votes} votes of {len(found.mos)} images by {len(rows)} rater{'s' if len(rows) > 1 else ''}"
        columns = ("rater", "votes", "bias", "std", "SRCC others", "SRCC self", "std self", "outlying")
        print_table(title, columns, rows)
        if found.ceiling is None:
            typer.echo("how far a model can agree is not known: no image has two votes")
        else:
            reached = f"SRCC {found.ceiling['srcc']:.3f}, PLCC {found.ceiling['plcc']:.3f}"
            typer.echo(
                f"the true quality itself would agree with these means at {reached}: expect no model to do better"
            )
    if out:
        typer.echo(f"wrote {len(found.mos)} mean opinion scores to {out}")
