"""Splits that are written down: those that a data set comes with, and files of splits."""

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..config import TableTask
from ..config.task import SplitSpec
from ..errors import InputError, InputWarning, nearest
from ..types import Record
from .columns import no_column
from .folder import plain
from .readers import find_file, root_of
from .tables import Table, read_rows

RANDOM = "random"  # the name of a split by chance

Split = tuple[list[Record], list[Record]]  # pool and test


def official_split(task: TableTask, table: Table, records: Sequence[Record], name: str | None) -> Split | None:
    """(pool, test) of the split `name`, or of the first that the data set comes with; None for a split by chance.

    An InputWarning tells where the file of an expected split is not there, how many pictures a split leaves out, and
    how many groups it parts; InputError where a named one cannot be read.
    """
    if name == RANDOM or not task.splits:
        return None
    if name is not None and name not in task.splits:
        known = [*task.splits, RANDOM]
        raise InputError(f"--splits {name}: no such split.{nearest(name, known)} There are {', '.join(known)}")
    wanted = name or next(iter(task.splits))
    spec = task.splits[wanted]
    try:
        rows = read_rows(find_file(root_of(task), spec.table)) if spec.table else table
    except InputError as error:
        if name is not None:
            raise
        warnings.warn(
            f"{error}: it tells the split '{wanted}'; the test is a random share of the groups instead",
            InputWarning,
            stacklevel=3,
        )
        return None
    return _split(wanted, spec, rows, records)


def _split(name: str, spec: SplitSpec, table: Table, records: Sequence[Record]) -> Split:
    for column in (spec.image, spec.column):
        if column is not None and column not in table.rows:
            names = [str(each) for each in table.rows]
            raise no_column(table.where, names, column, f"--set task.splits.{name}.image=COLUMN")
    parts = table.rows[spec.column] if spec.column else [spec.test[0]] * len(table.rows)
    pool, test = split_by_parts(records, dict(zip(table.rows[spec.image], parts, strict=True)), spec.test, by=spec.by)
    if spec.column is None:  # what is not named is learned from
        tested = {id(record) for record in test}
        pool = [record for record in records if id(record) not in tested]
    if not pool or not test:
        empty = "to learn from" if test else "of the test"
        raise InputError(f"{table.where}: the split '{name}' has no picture {empty}; --splits {RANDOM} draws one")
    if left := len(records) - len(pool) - len(test):
        message = f"{table.where}: {left} of {len(records)} pictures are not in the split '{name}', and are left out"
        warnings.warn(message, InputWarning, stacklevel=4)
    shared = {record.group for record in pool} & {record.group for record in test}
    if shared and not spec.shares_groups:
        message = f"{table.where}: the split '{name}' has {len(shared)} groups on both sides, such as '{min(shared)}'"
        warnings.warn(message, InputWarning, stacklevel=4)
    return pool, test


def split_by_parts(
    records: Sequence[Record], parts: Mapping[str, str], test: Iterable[str], *, by: str = "image"
) -> tuple[list[Record], list[Record]]:
    """(pool, test) by a table {picture or subset: part}; of `test` are the parts of the test, whatever their case.

    Pictures that the table does not name are on neither side.
    """
    tested = {plain(part) for part in test}
    known = {plain(name): plain(part) in tested for name, part in parts.items()}
    by_name: dict[str, list[str]] = {}
    for name in known:
        by_name.setdefault(name.rpartition("/")[2], []).append(name)

    def is_test(record: Record) -> bool | None:
        if by == "subset":
            return known.get(plain(record.subset or ""))
        path = plain(record.path.as_posix())
        found = {known[name] for name in by_name.get(path.rpartition("/")[2], []) if f"/{path}".endswith(f"/{name}")}
        return found.pop() if len(found) == 1 else None

    sides = [is_test(record) for record in records]
    return [r for r, side in zip(records, sides, strict=True) if side is False], [
        r for r, side in zip(records, sides, strict=True) if side
    ]


def read_splits(path: Path, records: Sequence[Record]) -> list[Split]:
    """(pool, test) of each file of a folder, or of one: tables with the columns image and part (train or test) as
    `fsiqa data split` writes them; LIQE's NAME_train_clip.txt and NAME_test_clip.txt, also in numbered folders; or
    ARNIQA's train.npy and test.npy, with row numbers of the label file.

    InputError where a file is none of these, names other pictures, or has a group on both sides.
    """
    if path.is_file():
        return [_from_table(path, records)]
    if tables := sorted(path.glob("*.csv"), key=_numbered):
        return [_from_table(each, records) for each in tables]
    if (path / "test.npy").is_file():
        return _from_rows(path, records)
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
            raise no_column(str(path), [str(name) for name in table.rows], column, "fsiqa data split, which writes it")
    parts = dict(zip(table.rows["image"], table.rows["part"], strict=True))
    return _disjoint(path, *split_by_parts(records, parts, ["test"]))


def _from_lists(path: Path, records: Sequence[Record]) -> Split:
    """LIQE's: the first column names pictures; its validation pictures are learned from."""
    parts: dict[str, str] = {}
    for part in ("train", "val", "test"):
        file = path.with_name(path.name.replace("test", part))
        if file.is_file():
            lines = file.read_text(encoding="utf-8").splitlines()
            parts |= {line.split("\t")[0]: part for line in lines if line.strip()}
    return _disjoint(path, *split_by_parts(records, parts, ["test"]))


def _from_rows(path: Path, records: Sequence[Record]) -> list[Split]:
    import numpy as np

    found = []
    rows = {part: np.load(path / f"{part}.npy") for part in ("train", "test")}
    if rows["test"].max() >= len(records):
        raise InputError(f"{path / 'test.npy'}: row {rows['test'].max()} of {len(records)} pictures")
    for train, test in zip(rows["train"], rows["test"], strict=True):
        pool, tested = ([records[i] for i in some if i >= 0] for some in (train, test))
        found.append(_disjoint(path, pool, tested))
    return found


def _disjoint(path: Path, pool: list[Record], test: list[Record]) -> Split:
    if not pool or not test:
        raise InputError(f"{path}: names none of the pictures {'of the test' if pool else 'to learn from'}")
    if shared := {record.group for record in pool} & {record.group for record in test}:
        raise InputError(f"{path}: the group '{min(shared)}' is on both sides, and {len(shared) - 1} others")
    return pool, test
