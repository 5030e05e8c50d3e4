"""Which column of a table of ratings holds the pictures, and which the ratings."""

import re
import warnings
from collections.abc import Mapping, Sequence

from ..config import TableTask
from ..config.task import LARGEST_RATING, Columns
from ..errors import InputError, InputWarning, nearest, shortened

# as `plain` has them
USUAL = {
    "image": {"image", "file", "filename", "imagename", "name", "path", "img", "imagepath", "filepath"},
    "score": {"score", "mos", "rating", "stars", "quality", "meanopinionscore", "dmos", "difference"},
}
DIFFERENCE = ("dmos", "difference")  # from a reference: the lower the better, mostly
OPTIONS = {"image": "--image-column COLUMN", "score": "--score-column COLUMN", "group": "--group COLUMN"}
OPTIONAL = ("group", "prompt", "alignment", "scene", "distortion", "subset", "std", "count")


def find_columns(task: TableTask, table: str, names: Sequence[str]) -> dict[str, str]:
    """{what a column holds: its name} for the columns `names` of a table that messages call `table`.

    Columns that the task does not state are `image` and `score`, or else are recognised by their usual names, whatever
    their case, spaces, underscores and hyphens; an InputWarning names them. InputError where a stated
    column is absent, where none or several are recognised, or where low ratings are perhaps the good ones.
    """
    stated = task.columns.model_dump()
    found = {}
    for name in ("image", "score", *OPTIONAL):
        column = stated[name]
        if column is None and name in OPTIONAL:
            continue
        if column is None:
            found[name] = _recognise(name, table, names)
        elif column in names:
            found[name] = column
        elif name not in OPTIONAL or column != name:
            raise no_column(table, names, column, OPTIONS.get(name, f"--set task.columns.{name}=COLUMN"))
    image, score = found["image"], found["score"]
    if stated["score"] is None and plain(score) in DIFFERENCE and not task.lower_is_better:
        raise InputError(
            f"{table}: in a column '{score}' low values are mostly the good ones: add --lower-is-better, or where high "
            f"values are good --score-column {score}"
        )
    if (stated["image"] is None and image != "image") or (stated["score"] is None and score != "score"):
        warnings.warn(f"reading images from column '{image}', ratings from '{score}'", InputWarning, stacklevel=2)
    return found


def require_moderate(table: str, ratings: Mapping[int, float]) -> None:
    """InputError where a rating {row: rating} is so large that spans and squares of such are infinite."""
    for row, rating in ratings.items():
        if abs(rating) > LARGEST_RATING:
            raise InputError(f"{table}, row {row}: the score {rating:g} is beyond {LARGEST_RATING:g}: no rating scale")


def is_header(stated: Columns, names: Sequence[str]) -> bool:
    """Whether a row names a column of pictures and one of ratings."""
    cells = [name.strip() for name in names]

    def has(what: str, column: str | None) -> bool:
        if column is not None:
            return any(part.strip() in cells for part in [column, *column.split(",")])
        return any(plain(cell) in USUAL[what] for cell in cells)

    return has("image", stated.image) and has("score", stated.score)


def no_column(table: str, names: Sequence[str], column: str, option: str) -> InputError:
    """The error of a table without a column; `option` names another."""
    hint = nearest(column, names)
    return InputError(f"{table}: no column '{column}'.{hint} Columns: {_listed(names)}; name yours with {option}")


def _recognise(name: str, table: str, names: Sequence[str]) -> str:
    known = [name] if name in names else [each for each in names if plain(each) in USUAL[name]]
    what = {"image": "the pictures", "score": "the ratings"}[name]
    if not known and {"winner", "loser"} <= set(map(plain, names)):
        raise InputError(f"{table}: holds comparisons; `fsiqa ratings summarize` makes scores of them")
    if not known:
        listed = _listed(names)
        raise InputError(
            f"{table}: no column '{name}' or the like. Columns: {listed}; name that of {what} with {OPTIONS[name]}"
        )
    if len(known) > 1:
        listed = ", ".join(f"'{each}'" for each in known)
        raise InputError(f"{table}: {listed} could each hold {what}; name the one with {OPTIONS[name]}")
    return known[0]


def _listed(names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shortened(name) for name in names[:most]) + more


def plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).lower()
