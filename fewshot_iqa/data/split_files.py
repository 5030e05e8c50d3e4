"""Splits that are written down: those that a data set comes with, and files of splits."""

import warnings
from collections.abc import Iterable, Mapping, Sequence

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
