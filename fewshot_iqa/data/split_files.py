"""Splits that are written down: those that a data set comes with, and files of splits."""

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..config import TableTask
from ..config.task import SplitSpec
from ..errors import InputError, InputWarning
from ..types import Record
from .columns import no_column
from .folder import plain
from .readers import find_file, root_of
from .tables import FIRST_ROW, Table, read_rows

RANDOM = "random"  # the name of a split by chance
SEQUENTIAL = "sequential"  # the first rows to learn from, the last to test, as released codes have it
PARTS = ("train", "training", "val", "validation", "test")
ROWS_OF = ("kadid10k", "tid", "spaq", "flive")  # readers whose rows ARNIQA's numbers count

Split = tuple[list[Record], list[Record]]  # pool and test


def official_split(task: TableTask, table: Table, records: Sequence[Record], name: str | None) -> Split | None:
    """(pool, test) of the split `name`, or of the first that the data set comes with; None for a split by chance.

    An InputWarning says when the first split is not available, how many pictures a split omits, and how many groups
    are on both of its sides. InputError when a named split is not available.
    """
    if name == RANDOM or not task.splits:
        return None
    wanted = name or next(iter(task.splits))
    spec = task.splits[wanted]
    try:
        rows = read_rows(find_file(root_of(task), spec.table)) if spec.table else table
        return _split(wanted, spec, rows, records)
    except InputError as error:
        if name is not None:
            raise
        message = f"{error}; so the test is not that of the split '{wanted}', but a random share of the groups"
        warnings.warn(message, InputWarning, stacklevel=3)
        return None


def shared_groups(one: Iterable[Record], other: Iterable[Record]) -> set[str]:
    """The groups that both have."""
    return {record.group for record in one} & {record.group for record in other}


def sequential_split(table: Table, records: Sequence[Record], share: float) -> Split:
    """(pool, test): the last `share` of the rows is the test. An InputWarning counts the groups on both sides."""
    count = min(max(1, round(share * len(records))), len(records) - 1)
    pool, test = list(records[:-count]), list(records[-count:])
    _tell_shared(table.where, SEQUENTIAL, pool, test)
    return pool, test


def _split(name: str, spec: SplitSpec, table: Table, records: Sequence[Record]) -> Split:
    for key, column in (("image", spec.image), ("column", spec.column)):
        if column is not None and column not in table.rows:
            names = [str(each) for each in table.rows]
            raise no_column(table.where, names, column, f"--set task.splits.{name}.{key}=COLUMN")
    parts = table.rows[spec.column] if spec.column else [spec.test[0]] * len(table.rows)
    pool, test = split_by_parts(records, dict(zip(table.rows[spec.image], parts, strict=True)), spec.test, by=spec.by)
    if spec.column is None:  # what is not named is learned from
        tested = {id(record) for record in test}
        pool = [record for record in records if id(record) not in tested]
    if not pool or not test:
        empty = "to learn from" if test else "of the test"
        raise InputError(f"{table.where}: the split '{name}' has no picture {empty}")
    _tell_left_out(table.where, records, pool, test)
    if not spec.shares_groups:
        _tell_shared(table.where, name, pool, test)
    return pool, test


def split_by_parts(
    records: Sequence[Record], parts: Mapping[str, str], test: Iterable[str], *, by: str = "image"
) -> Split:
    """(pool, test) by a table {picture or subset: part}; of `test` are the parts of the test, whatever their case.

    A picture is named by the end of its path, and the longest such name counts. Those that the table does not name are
    on neither side.
    """
    tested = {plain(part) for part in test}
    known = {plain(name): plain(part) in tested for name, part in parts.items()}
    by_name: dict[str, list[str]] = {}
    for name in sorted(known, key=len, reverse=True):
        by_name.setdefault(name.rpartition("/")[2], []).append(name)

    def is_test(record: Record) -> bool | None:
        if by == "subset":
            return known.get(plain(record.subset or ""))
        path = f"/{plain(record.path.as_posix())}"
        names = (name for name in by_name.get(path.rpartition("/")[2], []) if path.endswith(f"/{name}"))
        return known.get(next(names, ""))

    sides = [is_test(record) for record in records]
    pool = [record for record, side in zip(records, sides, strict=True) if side is False]
    return pool, [record for record, side in zip(records, sides, strict=True) if side]


def read_splits(path: Path, task: TableTask, table: Table, records: Sequence[Record]) -> list[Split]:
    """(pool, test) of each file of a folder, or of one: tables with the columns image and part (train, val or test) as
    `fsiqa data split` writes them; LIQE's NAME_train_clip.txt and NAME_test_clip.txt, also in numbered folders; or
    ARNIQA's train.npy and test.npy, with row numbers of the label file.

    Validation pictures are learned from. An InputWarning counts the pictures that a file does not name; InputError
    where a file is none of these, contradicts itself, or has a group on both sides.
    """
    if path.is_file():
        return [_from_table(path, records)]
    if tables := sorted(path.glob("*.csv"), key=_numbered):
        return [_from_table(each, records) for each in tables]
    if (path / "test.npy").is_file():
        return _from_rows(path, task, table, records)
    tests = sorted(path.rglob("*test*.txt"), key=_numbered)
    if not tests:
        raise InputError(f"--splits {path}: no .csv, test.npy or *test*.txt in it")
    return [_from_lists(each, records) for each in tests]


def _numbered(path: Path) -> tuple[list[int], str]:
    """Order by the numbers in a path: split-2 before split-10."""
    return [int(number) for number in re.findall(r"\d+", f"{path.parent.name}/{path.name}")], path.name


def _from_table(path: Path, records: Sequence[Record]) -> Split:
    table = read_rows(path)
    for column in ("image", "part"):
        if column not in table.rows:
            names = ", ".join(map(str, table.rows))
            raise InputError(f"{path}: no column '{column}', as `fsiqa data split` writes it. Columns: {names}")
    parts: dict[str, str] = {}
    for row, name, part in zip(table.rows.index, table.rows["image"], table.rows["part"], strict=True):
        if plain(part) not in PARTS:
            raise InputError(f"{path}, row {row}: the part is '{part}', not {', '.join(PARTS)}")
        if plain(parts.setdefault(name, part)) != plain(part):
            raise InputError(f"{path}, row {row}: {name} is of {part}, and of {parts[name]} before")
    return _checked(path, records, *split_by_parts(records, parts, ["test"]))


def _from_lists(path: Path, records: Sequence[Record]) -> Split:
    """LIQE's: the first column names pictures."""
    parts: dict[str, str] = {}
    for part in ("train", "val", "test"):
        file = path.with_name(path.name.replace("test", part))
        if file.is_file():
            lines = file.read_text(encoding="utf-8").splitlines()
            parts |= {line.split("\t")[0]: part for line in lines if line.strip()}
    return _checked(path, records, *split_by_parts(records, parts, ["test"]))


def _from_rows(path: Path, task: TableTask, table: Table, records: Sequence[Record]) -> list[Split]:
    """ARNIQA's: rows of the label file, -1 behind the last."""
    import numpy as np

    if task.reader not in ROWS_OF or len(table.rows) != len(records):
        raise InputError(
            f"--splits {path}: row numbers are known of the label files of {', '.join(ROWS_OF)}, with all their rows"
        )
    of_row = dict(zip((row - FIRST_ROW for row in table.rows.index), records, strict=True))
    sides = []
    for name in ("train", "val", "test"):
        file = path / f"{name}.npy"
        found = np.atleast_2d(np.load(file)) if file.is_file() else np.empty((0, 0), int)
        if found.size and found.max() > max(of_row):
            raise InputError(f"{file}: names the row {found.max()}, but the last is {max(of_row)}")
        sides.append([[of_row[i] for i in some if i in of_row] for some in found.tolist()])
    train, val, test = sides
    val = val or [[] for _ in train]
    return [_checked(path, records, [*a, *b], c) for a, b, c in zip(train, val, test, strict=True)]


def _checked(path: Path, records: Sequence[Record], pool: list[Record], test: list[Record]) -> Split:
    if not pool or not test:
        raise InputError(f"{path}: names none of the pictures {'of the test' if pool else 'to learn from'}")
    if shared := shared_groups(pool, test):
        raise InputError(f"{path}: the group '{min(shared)}' is on both sides, and {len(shared) - 1} others")
    _tell_left_out(str(path), records, pool, test)
    return pool, test


def _tell_shared(where: str, name: str, pool: Sequence[Record], test: Sequence[Record]) -> None:
    if shared := shared_groups(pool, test):
        message = f"{where}: the split '{name}' has {len(shared)} groups on both sides, such as '{min(shared)}'"
        warnings.warn(message, InputWarning, stacklevel=5)


def _tell_left_out(where: str, records: Sequence[Record], pool: list[Record], test: list[Record]) -> None:
    if left := len(records) - len(pool) - len(test):
        message = f"{where}: {left} of {len(records)} pictures are not in the split, and are left out"
        warnings.warn(message, InputWarning, stacklevel=4)
