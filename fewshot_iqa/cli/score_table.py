"""The table of `fsiqa score --csv`: a row as soon as it is known, and a repeated command goes on."""

import csv
import errno
import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.metadata import version
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import IO, Any

from ..errors import InputError
from ..files import as_cell, is_stream, open_stream, put_in_place, reason, text_options

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]  # a module elsewhere


class ScoreTable:
    """Rows of pictures in a CSV file, which takes the place of an earlier one when it is whole.

    Rows are written to a hidden file beside `path`, whose name is a hash of what they depend on: `made_by`, the columns
    and the version. Where there is no earlier table, `path` is a link to it, so that it shows them as they come. `kept`
    are the rows of the first of `names` that an interrupted run left, up to one that is not whole or whose picture was
    changed since. Where nothing more can be written, rows are passed over, and `finish` says why.
    """

    def __init__(self, path: Path, columns: Sequence[str], names: Sequence[str], made_by: str) -> None:
        self.path, self.target = path, path.resolve()
        self.kept: list[list[str]] = []
        self._problem, self._size = "", 0
        made = hashlib.sha256("\n".join([version("fewshot-iqa"), *columns, made_by]).encode()).hexdigest()[:12]
        self._parts = f".{self.target.name[:48]}."
        self.part = self.target.with_name(f"{self._parts}{made}.part")
        try:
            self._file: IO[str] = open_stream(path) if is_stream(path) else self._open(columns, names)
            if not self._size:
                self._write(columns)
        except OSError as error:
            self._give_up(error)

    def write(self, row: Sequence[Any]) -> None:
        """Write a row; its first cell names the picture."""
        if not self._problem:
            try:
                self._write([as_cell(row[0], is_name=True), *map(as_cell, row[1:])])
            except OSError as error:
                self._give_up(error)

    def close(self) -> None:
        """Leave the rows of a table that is not whole to a run that goes on, and no file where there are none."""
        with suppress(OSError, AttributeError):
            self._file.close()
        with suppress(OSError):
            if is_stream(self.path) or not self.part.exists():
                return
            os.truncate(self.part, self._size)
            if not self._size:
                if self._is_shown():
                    self.target.unlink()
                self.part.unlink()

    def finish(self) -> None:
        """Put the table in its place; InputError where it could not be written."""
        if not self._problem:
            try:
                self._finish()
            except OSError as error:
                self._give_up(error)
        if self._problem not in ("", os.strerror(errno.EPIPE)):  # a reader that has enough
            raise InputError(f"{self.path}: cannot be written ({self._problem})")

    def _open(self, columns: Sequence[str], names: Sequence[str]) -> IO[str]:
        self.path.parent.mkdir(exist_ok=True)
        before = self.part.stat().st_mtime if self.part.exists() else 0.0
        file = self.part.open("a+b")
        try:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise InputError(f"--csv {self.path}: another run writes it") from None
        file.seek(0)
        for row, self._size in _whole_rows(file, columns, names, before):
            self.kept.append(row)
        del self.kept[:1]  # the header
        file.truncate(self._size)
        if not self.target.exists():
            with suppress(OSError, NotImplementedError):  # of file systems without links
                os.link(self.part, self.target)
        return TextIOWrapper(file, **text_options("w"))

    def _write(self, cells: Sequence[Any]) -> None:
        csv.writer(self._file).writerow(cells)
        self._file.flush()
        self._size = os.fstat(self._file.fileno()).st_size

    def _finish(self) -> None:
        if is_stream(self.path) and not self.part.exists():
            return self._file.close()
        os.fsync(self._file.fileno())
        self._file.close()
        if self._is_shown():
            self.part.unlink()
        else:
            put_in_place(self.part, self.target)
        for other in self.target.parent.glob(f"{glob.escape(self._parts)}{'?' * 12}.part"):
            other.unlink(missing_ok=True)  # of runs by other models, which never became whole
        return None

    def _is_shown(self) -> bool:
        return self.target.exists() and os.path.samefile(self.part, self.target)

    def _give_up(self, error: OSError) -> None:
        self._problem = reason(error)
        self.close()


def _whole_rows(
    file: IO[bytes], columns: Sequence[str], names: Sequence[str], written: float
) -> Iterator[tuple[list[str], int]]:
    """The rows from the header on, as long as they are whole and of these names in order, each with the number of bytes
    up to its end. A picture that was changed after the file was `written` ends them."""
    taken = 0

    def lines() -> Iterator[str]:
        nonlocal taken
        for line in file:
            if not line.endswith(b"\n"):
                return
            taken += len(line)
            yield line.decode()

    cells = (as_cell(name, is_name=True).encode(errors="backslashreplace").decode() for name in names)
    with suppress(csv.Error, UnicodeDecodeError):
        for row, first, name in zip(
            csv.reader(lines(), strict=True), chain(columns[:1], cells), chain([""], names), strict=False
        ):
            if len(row) != len(columns) or row[0] != first or (name and _changed(name) > written):
                return
            yield row, taken


def _changed(name: str) -> float:
    """When a file was changed or put in its place; 0 where it is gone."""
    try:
        state = os.stat(name)
    except OSError:
        return 0.0
    return max(state.st_mtime, state.st_ctime)
