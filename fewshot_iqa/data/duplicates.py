"""Files that hold the same under different names."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

SAMPLE = 4096  # bytes at the start, in the middle and at the end


def same_content(files: Iterable[Path]) -> list[list[Path]]:
    """The files of equal bytes, those of each content in one list of two or more, in the order given.

    Only files of one size and of the same samples are read as a whole; empty ones hold nothing.
    """
    alike = [[file for file in dict.fromkeys(files) if _size(file)]]
    for key in (_size, _sample, _digest):
        alike = [some for each in alike for some in _parted(each, key)]
    return alike


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
