"""Files that hold the same under different names."""

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
    with file.open("rb") as opened:
        parts = []
        for place in (0, file.stat().st_size // 2, max(0, file.stat().st_size - SAMPLE)):
            opened.seek(place)
            parts.append(opened.read(SAMPLE))
    return b"".join(parts)


def _digest(file: Path) -> str:
    from ..images import content_hash  # with torch, which a table alone does not need

    return content_hash(file)
