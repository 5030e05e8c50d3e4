"""Tables of single votes: a row for each, or for each comparison of two images."""

from pathlib import Path

import pandas as pd

from ..config import TableTask
from ..config.task import Columns
from ..errors import InputError
from ..votes import Pairs, Votes
from .columns import find_columns, no_column, plain
from .readers import parse_ratings, read_rows

RATERS = {"rater", "subject", "observer", "participant", "user", "worker", "annotator"}
RATERS |= {f"{name}id" for name in RATERS}
PAIR = ("image_a", "image_b", "preferred")
WON = {"a": 1.0, "equal": 0.5, "b": 0.0}


def read_votes(
    path: Path, *, image_column: str | None = None, score_column: str | None = None, rater_column: str | None = None
) -> Votes | Pairs:
    """The votes of a table with the columns image, rating and rater, or usual names of these; without a rater all are
    of one. A table with the columns image_a, image_b and preferred (a, b or equal) is one of comparisons.

    InputError names the row or the column at fault.
    """
    where, table = str(path), read_rows(path)
    names = [str(name) for name in table]
    if set(PAIR) <= set(names):
        return _pairs(where, table)
    stated = Columns(image=image_column, score=score_column)
    columns = find_columns(TableTask(kind="table", description="votes", columns=stated), where, names)
    scores = parse_ratings(where, table[columns["score"]], None)
    raters = _rater_column(where, names, rater_column)
    people = _filled(where, table, raters) if raters else [""] * len(table)
    return Votes.of(_filled(where, table, columns["image"]), people, list(scores.values()))


def rated_images(path: Path) -> list[str]:
    """The names of the images of a table of ratings, votes or comparisons, each once."""
    return list(read_votes(path).images)


def _pairs(where: str, table: pd.DataFrame) -> Pairs:
    first, second, preferred = (_filled(where, table, column) for column in PAIR)
    for row, one, other, outcome in zip(table.index, first, second, preferred, strict=True):
        if outcome.lower() not in WON:
            raise InputError(f"{where}, row {row}: preferred is '{outcome}', not a, b or equal")
        if one == other:
            raise InputError(f"{where}, row {row}: {one} is compared with itself")
    return Pairs.of(first, second, [WON[outcome.lower()] for outcome in preferred])


def _rater_column(where: str, names: list[str], stated: str | None) -> str | None:
    if stated is not None and stated not in names:
        raise no_column(where, names, stated, "--rater-column COLUMN")
    known = [stated] if stated else [name for name in names if plain(name) in RATERS]
    if len(known) > 1:
        listed = ", ".join(f"'{name}'" for name in known)
        raise InputError(f"{where}: {listed} could each hold the raters; name the one with --rater-column COLUMN")
    return known[0] if known else None


def _filled(where: str, table: pd.DataFrame, column: str) -> list[str]:
    """The texts of a column, none of which is empty."""
    texts = table[column].str.strip()
    for row in table.index[texts == ""]:
        raise InputError(f"{where}, row {row}: '{column}' is empty")
    return list(texts)
