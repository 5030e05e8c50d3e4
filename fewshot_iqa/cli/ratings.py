"""The commands on votes: rate, and ratings summarize."""

from pathlib import Path
from typing import Annotated

import typer

from ..printing import decimals, echo, nearby, print_table
from ..resources import SHIPPED
from .checks import from_extra
from .options import BROWSER, CACHE, DATA, DEVICE, METHOD, PORT, option
from .outputs import OUTPUT, Commands, sheet_file, table_file, writable

AGREEMENT = ("inconsistency", "srcc_others", "srcc_self", "std_self")


def rate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the images to rate.")],
    out: Annotated[Path, option(OUTPUT, "FILE", "Append the votes here.", "--out", "-o", callback=writable)] = Path(
        "ratings.csv"
    ),
    scale: Annotated[
        str,
        option(METHOD, "NAME", "acr: five grades; continuous: 0 to 100; pairs: which of two images is better."),
    ] = "acr",
    suggested: Annotated[
        Path | None, option(DATA, "FILE", "Only the images of this table of `fsiqa suggest`, in its order.")
    ] = None,
    rater: Annotated[str | None, option(DATA, "NAME", "Name of the rater. Default: the page asks.")] = None,
    repeats: Annotated[
        int | None, option(METHOD, "N", "Images asked for twice. Default: one in ten, at most ten.", min=0)
    ] = None,
    rounds: Annotated[int, option(METHOD, "N", "How often each image is compared, with --scale pairs.", min=1)] = 6,
    seed: Annotated[int, option(METHOD, "N", "Seed of the order.", min=0)] = 0,
    port: PORT = None,
    browser: BROWSER = True,
) -> None:
    """Rate the images of a folder on a page in the browser; each vote is saved at once.

    A repeated command goes on where the last one stopped. Needs the extra `app`.
    """
    with from_extra("app", "fsiqa rate"):
        from ..app.rating import rate as run

    votes = run(
        folder, out, suggested=suggested, scale=scale, rater=rater, repeats=repeats, rounds=rounds, seed=seed,
        port=port, browser=browser, say=echo,
    )  # fmt: skip
    echo(f"{votes} votes in {nearby(out)}")


def suggest(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of images.")],
    count: Annotated[int, option(METHOD, "N", "Number of images.", "--count", "-n", min=1)] = 50,
    rated: Annotated[Path | None, option(DATA, "FILE", "Your table of what is rated already.")] = None,
    model: Annotated[
        Path | None, option(METHOD, "FOLDER", "Checkpoint whose features are taken. Default: shipped.")
    ] = None,
    device: DEVICE = None,
    cache: CACHE = None,
    seed: Annotated[int, option(METHOD, "N", "Of more than 4,000 images, seed of those chosen from.", min=0)] = 0,
    out: Annotated[
        Path,
        option(
            OUTPUT,
            "FILE",
            "Write image, quality, uncertainty here.",
            "--out",
            "-o",
            callback=table_file("image", "quality"),
        ),
    ] = Path("suggested.csv"),
    sheet: Annotated[Path | None, option(OUTPUT, "FILE", "Draw a contact sheet of them.", callback=sheet_file)] = None,
) -> None:
    """Suggest which images of a folder to rate next: those that tell most about the others."""
    from ..recipes.suggesting import suggest as run

    found = run(
        folder, count, rated=rated, model=model or SHIPPED, out=out, sheet=sheet, seed=seed, device=device, cache=cache
    )
    rows = found.pictures.head(10).to_dict("records")
    known = f", given the {found.rated} that are rated" if found.rated else ""
    print_table(
        f"{len(found.pictures)} of {found.among} images, whose ratings tell most about the others{known}; the first, "
        f"with quality as {'the shipped prompts predict' if model is None else f'{model} predicts'} it:",
        ("", "image", "quality", *(["uncertainty"] if known else [])),
        [
            [i, row["image"], f"{row['quality']:.2f}", *([f"{row['uncertainty']:.0%}"] if known else [])]
            for i, row in enumerate(rows, start=1)
        ],
    )
    echo(f"wrote {nearby(out)}; rate them with: fsiqa rate {folder} --suggested {nearby(out)}")


ratings = Commands(help="Mean opinion scores from the votes of several raters.", no_args_is_help=True)


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
        option(
            OUTPUT,
            "FILE",
            "Write image, mos, std, count, low, high here.",
            "--out",
            "-o",
            callback=table_file("image", "mos", "std"),
        ),
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
        echo(f"{found.votes} comparisons of {len(found.mos)} images; mos is the logarithm of an image's odds")
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
            echo("how far a model can agree is not known: too few images have two votes")
        else:
            reached = f"SRCC {found.ceiling['srcc']:.3f}, PLCC {found.ceiling['plcc']:.3f}"
            echo(f"the true quality itself would agree with these means at {reached}: expect no model to do better")
    if out:
        echo(f"wrote {len(found.mos)} mean opinion scores to {out}")
