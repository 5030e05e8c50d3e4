"""Tables of single votes: a row for each, or for each comparison of two images."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..config import TableTask
from ..config.task import Columns
from ..errors import InputError, InputWarning
from ..types import Record
from ..votes import Pairs, Votes, ceiling, ceiling_of_means
from .columns import find_columns, no_column, plain
from .tables import Table, parse_ratings, read_rows

RATERS = {"rater", "subject", "observer", "participant", "user", "worker", "annotator"}
RATERS |= {f"{name}id" for name in RATERS}
PAIR, WINNER = ("image_a", "image_b", "preferred"), ("winner", "loser")
PRIOR_VOTES = 10  # as many as which all votes together count beside those of a picture
VOTES = TableTask(kind="table", description="votes")
WON = {"a": 1.0, "equal": 0.5, "b": 0.0}


def read_votes(
    path: Path, *, image_column: str | None = None, score_column: str | None = None, rater_column: str | None = None
) -> Votes | Pairs:
    """The votes of a table with the columns image, rating and rater, or usual names of these; without a rater all are
    of one. A table with the columns image_a, image_b and preferred (a, b or equal), or winner and loser, is one of
    comparisons.

    InputError names the row or the column at fault.
    """
    table = _read(path)
    if _is_of_pairs(table):
        return _pairs(table)
    stated = Columns(image=image_column, score=score_column)
    return _votes(VOTES.model_copy(update={"columns": stated}), table, rater_column)


def table_ceiling(task: TableTask, table: Table, records: Sequence[Record]) -> dict[str, float] | None:
    """{"srcc", "plcc"} of the true quality with a table of ratings, whose `records` these are: no model can do better.

    The table is of means with their deviations and numbers, or of single votes, several of a picture; None where
    neither is there, with an InputWarning where the votes cannot be read.
    """
    if {task.columns.std, task.columns.count} <= set(table.rows):
        if not all(r.votes and (r.rating_std is not None or r.votes == 1) for r in records):
            return None
        found = ceiling_of_means(*np.array([(r.rating, r.rating_std or 0.0, r.votes) for r in records], float).T)
    elif len(table.rows) == len(records) or len({record.path for record in records}) < len(records):
        return None  # one row a picture, or rows that differ in more than the vote
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", InputWarning)  # the records' reader warned
                found = ceiling(_votes(task, table, None))
        except InputError as error:
            warnings.warn(f"{error}; the ceiling of the ratings is not known", InputWarning, stacklevel=2)
            return None
    return found if found and found["srcc"] > 0 else None


def _votes(task: TableTask, table: Table, rater_column: str | None) -> Votes:
    names = [str(name) for name in table.rows]
    columns = find_columns(task, table.where, names)
    scores = parse_ratings(table.where, table.rows[columns["score"]], None)
    raters = _rater_column(table.where, names, rater_column)
    people = _filled(table, raters) if raters else [""] * len(table.rows)
    return Votes.of(_filled(table, columns["image"]), people, list(scores.values()))


def rated_images(path: Path) -> list[str]:
    """The names of the images of a table of ratings, votes or comparisons, each once."""
    table = _read(path)
    if _is_of_pairs(table):
        return list(_pairs(table).images)
    columns = find_columns(VOTES, table.where, [str(name) for name in table.rows])
    return list(dict.fromkeys(_filled(table, columns["image"])))


def _read(path: Path) -> Table:
    """The table in a file, winners and losers as the two of a comparison."""
    table = read_rows(path)
    names = {plain(str(name)): name for name in table.rows}
    if set(PAIR) <= set(table.rows) or not set(WINNER) <= set(names):
        return table
    rows = table.rows.rename(columns={names[own]: name for own, name in zip(WINNER, PAIR[:2], strict=True)})
    return Table(table.where, rows.assign(preferred="a"))


def _is_of_pairs(table: Table) -> bool:
    return set(PAIR) <= set(table.rows)


def _pairs(table: Table) -> Pairs:
    first, second, preferred = (_filled(table, column) for column in PAIR)
    for row, one, other, outcome in zip(table.rows.index, first, second, preferred, strict=True):
        if outcome.lower() not in WON:
            raise InputError(f"{table.where}, row {row}: preferred is '{outcome}', not a, b or equal")
        if one == other:
            raise InputError(f"{table.where}, row {row}: {one} is compared with itself")
    return Pairs.of(first, second, [WON[outcome.lower()] for outcome in preferred])


def _rater_column(where: str, names: list[str], stated: str | None) -> str | None:
    if stated is not None and stated not in names:
        raise no_column(where, names, stated, "--rater-column COLUMN")
    known = [stated] if stated else [name for name in names if plain(name) in RATERS]
    if len(known) > 1:
        listed = ", ".join(f"'{name}'" for name in known)
        raise InputError(f"{where}: {listed} could each hold the raters; name the one with --rater-column COLUMN")
    return known[0] if known else None


def _filled(table: Table, column: str) -> list[str]:
    """The texts of a column, none of which is empty."""
    texts = table.rows[column].str.strip()
    for row in texts.index[texts == ""]:
        raise InputError(f"{table.where}, row {row}: '{column}' is empty")
    return list(texts)


def variance_of_means(std: ArrayLike, count: ArrayLike) -> NDArray[np.float64]:
    """The variance (J,) of means of `count` votes with the deviations `std` (J,), nan where a vote is alone.

    A deviation of few votes says little, so its square is drawn towards that of all votes together, which counts as
    `PRIOR_VOTES` of them. One vote with a deviation stands for a mean whose own deviation this is. nan where no
    deviation is known.

    Examples:
        >>> variance_of_means([1.0, 1.0, float("nan")], [10, 40, 1]).round(3).tolist()
        [0.1, 0.025, 1.0]
    """
    std, count = np.asarray(std, float), np.asarray(count, float)
    free = np.where(np.isnan(std), 0, count - 1)
    together = np.nansum(free * std**2) / free.sum() if free.sum() > 0 else np.nan
    drawn = (PRIOR_VOTES * together + np.nan_to_num(free * std**2)) / (PRIOR_VOTES + free) / count
    return np.where((count == 1) & (std > 0), std**2, drawn)
