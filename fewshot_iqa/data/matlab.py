"""Files of MATLAB -> arrays by name.

Read here, as far as label files need it: a few changed bytes can crash scipy's reader, and the process with it.
"""

import errno
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import first_sentence

MOST_BYTES = 20_000_000  # unpacked
HEADER = 128  # bytes
MATRIX, COMPRESSED, CELLS, TEXT = 14, 15, 1, 4  # types of elements, and classes of a matrix
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
ENCODINGS = {4: "utf-16", 17: "utf-16", 18: "utf-32"}


def read_mat(path: Path) -> dict[str, np.ndarray]:
    """{name: flat array} of the arrays of numbers and the cell arrays of texts in a .mat file of version 5 (MATLAB's
    -v6 and -v7). ValueError says why it cannot be read."""
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path.name} is larger than {MOST_BYTES:,} bytes")
    content = path.read_bytes()
    if content.startswith(b"MATLAB 7.3"):
        raise ValueError(f"{path.name} is of MATLAB 7.3: save it there with -v7")
    order = {b"IM": "<", b"MI": ">"}.get(content[126:HEADER])
    if order is None or content[124 if order == ">" else 125] != 1:
        raise ValueError(f"{path.name} is no file of MATLAB, or not one that it saves with -v7")
    found: dict[str, np.ndarray] = {}
    left = MOST_BYTES
    try:
        for kind, data in _elements(content[HEADER:], order):
            if kind == COMPRESSED and left > 0:
                unpacked = zlib.decompressobj().decompress(data, left)
                left -= len(unpacked)
                kind, data = next(_elements(unpacked, order))
            if kind == MATRIX:
                found.update(_matrix(data, order))
    except Exception as error:  # damaged files end in errors of every kind
        raise ValueError(f"{path.name} is a damaged file of MATLAB ({first_sentence(error)})") from None
    return found


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """(type, data) of each element."""
    at = 0
    while at + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        start, after = at + 8, at + 8 + (size if kind == COMPRESSED else -(-size // 8) * 8)
        if kind >> 16:  # at most four bytes, beside their number
            kind, size, start, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        if start + size > min(len(content), after):
            raise ValueError("an element claims more bytes than are there")
        yield kind, content[start : start + size]
        at = after


def _matrix(data: bytes, order: str) -> dict[str, np.ndarray]:
    """{name: flat array}; {} of what is neither numbers nor texts."""
    (_, flags), (_, sizes), (_, name), *parts = _elements(data, order)
    shape = np.frombuffer(sizes, f"{order}i4").tolist()
    if (kind := flags[0 if order == "<" else 3]) == CELLS:
        texts = [_text(part, order) for _, part in parts]
        if len(texts) != math.prod(shape):
            raise ValueError("an array claims more cells than are there")
        values = np.array(texts, dtype=object)
    elif kind > TEXT + 1 and parts[0][0] in NUMBERS:
        values = np.frombuffer(parts[0][1], order + NUMBERS[parts[0][0]])
    else:
        return {}
    return {name.decode("ascii"): values.reshape(shape, order="F").ravel()}


def _text(cell: bytes, order: str) -> str:
    """The text in a cell, empty where it holds anything else."""
    (_, flags), _, _, *parts = _elements(cell, order)
    if flags[0 if order == "<" else 3] != TEXT or not parts:
        return ""
    kind, data = parts[0]
    encoding = ENCODINGS.get(kind)
    return data.decode(f"{encoding}-{'le' if order == '<' else 'be'}" if encoding else "utf-8")
