"""Files that hold the same under different names."""

import hashlib
import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import InputWarning
from ..types import Record

SAMPLE = 4096  # bytes at the start, in the middle and at the end


def same_content(files: Iterable[Path]) -> list[list[Path]]:
    """The files of equal bytes, those of each content in one list of two or more, in the order given.

    Only files of one size and of the same samples are read as a whole; empty ones hold nothing.
    """
    alike = [[file for file in dict.fromkeys(files) if _size(file)]]
    for key in (_size, _sample, _digest):
        alike = [some for each in alike for some in _parted(each, key)]
    return alike


def same_content_joined(where: str, records: list[Record]) -> list[Record]:
    """The records, groups with pictures of the same content made one; an InputWarning counts such pictures."""
    first = {file: same[0] for same in same_content(record.path for record in records) for file in same}
    if not first:
        return records
    joined = groups_joined(records, [first.get(record.path, record.path) for record in records])
    again = [record for record, other in zip(records, joined, strict=True) if record.group != other.group]
    if again:
        twin = next(file for file in first if first[file] != file)
        message = (
            f"{where}: pictures of different groups hold the same, such as {first[twin].name} and {twin.name}: "
            f"{len(again)} rows are put into the groups of others, so that no split parts them"
        )
        warnings.warn(message, InputWarning, stacklevel=4)
    return joined


def groups_joined(records: list[Record], files: list[Path]) -> list[Record]:
    """The records, groups that share a file made one, whatever the order of the records."""
    group_of: dict[Path, str] = {}
    merged: dict[str, str] = {}

    def root_of(group: str) -> str:
        while group in merged:
            group = merged[group]
        return group

    for record, file in sorted(zip(records, files, strict=True), key=lambda each: each[0].place):
        mine, other = root_of(record.group), root_of(group_of.setdefault(file, record.group))
        if mine != other:
            merged[mine] = other
    return [replace(record, group=root_of(record.group)) for record in records]


def _parted(files: Sequence[Path], key: Callable[[Path], Hashable]) -> list[list[Path]]:
    found: dict[Hashable, list[Path]] = defaultdict(list)
    for file in files:
        found[key(file)].append(file)
    return [some for some in found.values() if len(some) > 1]


def _size(file: Path) -> int:
    return file.stat().st_size


def _sample(file: Path) -> bytes:
    size, found = _size(file), hashlib.sha256()
    with file.open("rb") as opened:
        for place in (0, size // 2, max(0, size - SAMPLE)):
            opened.seek(place)
            found.update(opened.read(SAMPLE))
    return found.digest()


def _digest(file: Path) -> str:
    from ..images import content_hash  # with torch, which a table alone does not need

    return content_hash(file)
