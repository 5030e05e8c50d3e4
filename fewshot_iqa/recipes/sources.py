"""Where rated pictures come from: a task with the options of a command, read before anything heavy is imported."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from ..config import SyntheticTask, TableTask, load_task, with_overrides
from ..config.task import LARGEST_RATING, Columns
from ..data.columns import DIFFERENCE, plain
from ..data.readers import complete, open_table, read_table, root_of, stated_range
from ..data.split_files import RANDOM, SEQUENTIAL, Split, official_split, read_splits, sequential_split, shared_groups
from ..errors import InputError, InputWarning, nearest
from ..types import Record, Scale

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Unpack

    from ..data.tables import Table

FEWEST, FEWEST_TESTED = 10, 30  # ratings to learn from; pictures of a test
FEW = 100  # ratings of which the lowest and the highest hardly are those of the scale


class TableOptions(TypedDict, total=False):
    """The options of a source of rated pictures; None stands for what the task says.

    `labels` is the table: the path of a .csv, .tsv, .xlsx or .xls file, also inside `root`, or a DataFrame. `root` is
    the folder of its pictures, by default that of the table. `image_column`, `score_column` and `group` name its
    columns, `score_column` also several between commas, one a rater, whose mean is the rating; no group is on both
    sides of a split. `skip_incomplete` leaves out and counts rows without a rating or whose picture is missing. `range`
    is the lowest and the highest rating of the scale, (1, 5) or "1,5". `splits` names a split that the data set comes
    with, is "random", "sequential" (the last rows are the test), or the path of split files, one for each seed from 0
    on; by default the first of the data set that is there. `test` is the share of the groups that is kept for the test;
    `folds` tests on each of so many parts in turn.
    """

    labels: str | Path | pd.DataFrame | None
    root: str | Path | None
    image_column: str | None
    score_column: str | None
    group: str | None
    lower_is_better: bool
    skip_incomplete: bool
    range: tuple[float, float] | str | None
    splits: str | None
    test: float | None
    folds: int | None


@dataclass(frozen=True)
class Rated:
    """The rated pictures of a source, the release's own test rows where it has such, and the table of these, else of
    all. `splits` are those of files, (pool, test) for each seed from 0 on."""

    source: TableTask | SyntheticTask
    records: list[Record]
    test: list[Record] | None = None
    table: Table | None = None
    splits: Sequence[Split] = ()

    @property
    def every(self) -> list[Record]:
        """All that can be learned from or tested on."""
        return [*self.records, *(self.test or [])]

    def ceiling(self) -> dict[str, float] | None:
        """{"srcc", "plcc"} that the true quality would have with the ratings of the test, or of all; None where the
        table does not tell it."""
        from ..data.votes import table_ceiling

        if self.table is None or isinstance(self.source, SyntheticTask):
            return None
        return table_ceiling(self.source, self.table, self.test or self.records)

    @property
    def has_guessed_scale(self) -> bool:
        """Whether the ends of the rating scale are those of the ratings to learn from, as no range is stated."""
        return isinstance(self.source, TableTask) and self.source.range is None


def read_source(task: str | None, overrides: Iterable[str] = (), **table: Unpack[TableOptions]) -> Rated:
    """The rated pictures of a task; by default of csv where a table is given, else of demo.

    InputError where options do not go together, or the table cannot be read.
    """
    by_chance = table.get("test") is not None or table.get("folds") is not None
    splits = RANDOM if by_chance else table.get("splits")
    return read_rated(find_source(task, overrides, **table), as_frame(table.get("labels")), splits)


def source_name(task: str | None, **table: Unpack[TableOptions]) -> str:
    """The task that is meant: csv where a table is given, else demo."""
    if task is None and table.get("labels") is None and table.get("root") is not None:
        raise InputError("--root: give --labels TABLE.csv as well, or --task NAME of what lies in it")
    return task or ("demo" if table.get("labels") is None else "csv")


def find_source(
    task: str | None, overrides: Iterable[str] = (), **table: Unpack[TableOptions]
) -> TableTask | SyntheticTask:
    """The task of `read_source` before anything is read but its own file."""
    for name in table:
        if name not in TableOptions.__annotations__:
            raise InputError(
                f"there is no option {name}.{nearest(name, TableOptions.__annotations__)}".removesuffix(".")
            )
    if (parts := table.get("folds")) is not None and parts < 2:
        raise InputError(f"--folds {parts}: at least two")
    task = source_name(task, **table)
    labels, root, test, folds = (table.get(name) for name in ("labels", "root", "test", "folds"))
    if not _is_path(root):
        raise InputError(f"--root: expected the path of a folder, not a {type(root).__name__}")
    changes = _overrides(table)
    source = load_task(task, overrides)
    if isinstance(source, SyntheticTask):
        for option, _ in changes if labels is None else [("--labels", "")]:
            raise InputError(f"{option}: the task '{task}' makes its own ratings; use --task csv for a table")
    source = load_task(task, [*overrides, *(change for _, change in changes)])
    chosen = [name for name in ("--test", "--folds", "--splits") if table.get(name.removeprefix("--")) is not None]
    if len(chosen) > 1:
        raise InputError(f"{' and '.join(chosen)}: give one of them")
    tables: dict[str, Any] = {}
    if isinstance(source, TableTask):
        tables = {"labels": _typed(labels, root), "columns": _own_columns(source, task)}
    source = with_overrides(source, root=root, test=test, **tables)
    for option, value in (("--test", test), ("--folds", folds)):
        if value is not None and isinstance(source, TableTask) and source.test_labels:
            raise InputError(f"{option} {value:g}: the task '{task}' has test rows of its own")
    column = table.get("score_column") or ""
    if isinstance(source, TableTask) and plain(column) in DIFFERENCE and not source.lower_is_better:
        message = f"high values of '{column}' are taken for good: are low ones, as mostly? then --lower-is-better"
        warnings.warn(message, InputWarning, stacklevel=2)
    return source


def read_rated(
    source: TableTask | SyntheticTask, frame: pd.DataFrame | None = None, splits: str | None = None
) -> Rated:
    """Read the records of a source, of a table from the `frame` where that is given, and its split of that name, or
    those of files.

    InputError where there is no such split, or a group of the release's test rows is in the others too.
    """
    if isinstance(source, SyntheticTask):
        from ..data.synthetic import synthetic_records

        return Rated(source, synthetic_records(source))
    table = open_table(source, frame)
    if source.skip_incomplete:
        table = complete(source, table)
    if source.range is None:
        source = with_overrides(source, range=stated_range(table))
    records, test = read_table(source, table), None
    if source.labels and source.test_labels is not None:
        testing = with_overrides(source, labels=source.test_labels, root=root_of(source))
        test_table = open_table(testing)
        if source.skip_incomplete:
            test_table = complete(testing, test_table)
        test = read_table(testing, test_table)
        for group in shared_groups(records, test):
            raise InputError(
                f"{source.test_labels}: '{group}' is among the training rows of {source.labels[0]} as well"
            )
        if splits is None:
            return Rated(source, records, test, test_table)
    every = [*records, *(test or [])]
    if splits == SEQUENTIAL:
        return Rated(source, *sequential_split(table, every, source.test), table)
    if splits is None or splits == RANDOM or splits in source.splits:
        pool, test = official_split(source, table, every, splits) or (every, None)
        return Rated(source, pool, test, table)
    if not Path(splits).exists():
        known = [*source.splits, RANDOM, SEQUENTIAL]
        listed = f"There are {', '.join(known)}; or give the path of split files"
        raise InputError(f"--splits {splits}: no such split.{nearest(splits, known)} {listed}")
    return Rated(source, every, None, table, read_splits(Path(splits), source, table, every))


def warn_guessed_scale(scale: Scale, ratings: int) -> None:
    """Warn where a scale was taken from few ratings."""
    if ratings < FEW:
        low, high = sorted((scale.worst, scale.best))
        warnings.warn(
            f"the rating scale was taken from the {ratings} ratings ({low:g} to {high:g}); predictions cannot "
            "leave it: state the true one with --range LOW,HIGH (range= in Python)",
            InputWarning,
            stacklevel=2,
        )


def warn_few(shots: int, tests: Sequence[int]) -> None:
    """Warn where there are too few ratings to learn from, or too few pictures in a test to rank anything."""
    if shots < FEWEST:
        message = f"{shots} ratings are few to learn from: {FEWEST} are the least that was measured"
        warnings.warn(message, InputWarning, stacklevel=3)
    if tests and min(tests) < FEWEST_TESTED:
        message = f"a test of {min(tests)} pictures is small: its SRCC moves by .1 and more with the draw"
        warnings.warn(f"{message}; --folds 5 tests on all, as adapt does without --shots", InputWarning, stacklevel=3)


def _overrides(table: TableOptions) -> list[tuple[str, str]]:
    """(option, override of the task) of what is given."""
    given: dict[str, tuple[str, Any]] = {
        "--image-column": ("columns.image", table.get("image_column")),
        "--score-column": ("columns.score", table.get("score_column")),
        "--group": ("columns.group", table.get("group")),
        "--lower-is-better": ("lower_is_better", table.get("lower_is_better") or None),
        "--skip-incomplete": ("skip_incomplete", table.get("skip_incomplete") or None),
        "--range": ("range", _ends(table.get("range"))),
    }
    return [(option, f"{key}={json.dumps(value)}") for option, (key, value) in given.items() if value is not None]


def _typed(labels: Any, root: Any) -> Path | None:
    """The path of a table as it was typed; whole where a table of the same name lies in the root, which else wins."""
    if labels is None or not _is_path(labels):
        return None
    path = Path(labels)
    return path.absolute() if path.is_file() and root is not None and (Path(root) / path).is_file() else path


def _own_columns(source: TableTask, task: str) -> Columns | None:
    """The columns without the deviations and numbers of another column of ratings than the one that is read."""
    of_task = load_task(task)
    if not isinstance(of_task, TableTask) or source.columns.score == of_task.columns.score:
        return None
    ours, theirs = source.columns.model_dump(), of_task.columns.model_dump()
    same = [name for name in ("std", "count") if ours[name] == theirs[name] != name]
    if same:
        names = " and ".join(f"'{ours[name]}'" for name in same)
        message = f"{names} belong to '{of_task.columns.score}', and are not read for '{source.columns.score}'"
        warnings.warn(f"{message}; --set task.columns.std=COLUMN names another", InputWarning, stacklevel=3)
    return source.columns.model_copy(update=dict.fromkeys(same))


def _ends(given: tuple[float, float] | str | None) -> list[float] | None:
    """The two ends of a rating scale."""
    if given is None:
        return None
    try:
        low, high = (float(end) for end in (given.split(",") if isinstance(given, str) else given))
    except (TypeError, ValueError):
        raise InputError(f"--range {given}: expected the lowest and the highest rating, such as 1,5") from None
    if not low < high:
        raise InputError(f"--range {low:g},{high:g}: the lowest rating comes first, such as 1,5")
    if max(abs(low), abs(high)) > LARGEST_RATING:
        raise InputError(f"--range {low:g},{high:g}: ratings beyond {LARGEST_RATING:g} are not read")
    return [low, high]


def as_frame(labels: Any) -> pd.DataFrame | None:
    """The table, where it is not the path of one."""
    if _is_path(labels):
        return None
    if not hasattr(labels, "columns"):
        raise InputError(f"--labels: expected the path of a table or a DataFrame, not a {type(labels).__name__}")
    return labels


def _is_path(value: Any) -> bool:
    return value is None or isinstance(value, str | Path)
