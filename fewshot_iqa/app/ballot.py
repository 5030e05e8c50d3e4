"""The file of a rating session: one row a vote, on disk before the page moves on."""

import csv
import errno
import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from io import StringIO
from pathlib import Path

from ..errors import InputError, InputWarning
from ..files import as_cell, from_cell, remove_leftovers, replacing, require_writable

RATING = ("image", "rating", "rater", "rating_scale", "seconds", "time")
COMPARISON = ("image_a", "image_b", "preferred", "rater", "seconds", "time")


class Ballot:
    """Votes in a CSV file, which is created or gone on with; what others append or remove meanwhile is kept.

    Half a row at the end, of a vote that was never acknowledged, is dropped with an InputWarning. InputError where the
    file has other columns or cannot be written.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        require_writable(path)
        self.path, self.columns = path.resolve(), tuple(columns)
        remove_leftovers(self.path.parent)
        self.rows: list[dict[str, str]] = []
        self._count: Counter[tuple[str, ...]] = Counter()
        self._seen: tuple[int, int] | None = None
        if path.is_file() and path.stat().st_size:
            self._refresh()
        else:
            path.parent.mkdir(exist_ok=True)
            self._replace([])

    def count(self, rater: str, images: Sequence[str]) -> int:
        """How many votes a rater has given on these images."""
        key = (rater, *images)
        return self._count[key]

    def append(self, row: Mapping[str, str]) -> None:
        """Write a vote; it is on disk when this returns, and not at all in the file where this raises OSError."""
        self._refresh()
        row = {name: str(row[name]) for name in self.columns}
        before = self.path.stat().st_size
        with self.path.open("ab", buffering=0) as file:
            try:
                line = self._line(row)
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(before)
                raise
        self.rows.append(row)
        self._count[self._key(row)] += 1
        self._seen = self._stamp()

    def put(self, row: Mapping[str, str]) -> None:
        """Write a vote in the place of all that the rater gave on the same images."""
        self._refresh()
        others = [each for each in self.rows if self._key(each) != self._key(row)]
        self._replace([*others, {name: str(row[name]) for name in self.columns}])

    def remove_last(self, rater: str) -> dict[str, str] | None:
        """Take back a rater's last vote, and return it; None where there is none."""
        self._refresh()
        mine = [i for i, row in enumerate(self.rows) if row["rater"] == rater]
        if not mine:
            return None
        row = self.rows[mine[-1]]
        self._replace([each for i, each in enumerate(self.rows) if i != mine[-1]])
        return row

    def _refresh(self) -> None:
        """Read what others wrote; a file that is gone is written again."""
        try:
            changed = self._seen != self._stamp()
        except FileNotFoundError:
            self._replace(self.rows)
            return
        if changed:
            self._read()

    def _keep(self, rows: list[dict[str, str]]) -> None:
        self.rows, self._count = rows, Counter(map(self._key, rows))
        self._seen = self._stamp()

    def _stamp(self) -> tuple[int, int]:
        """Changes when somebody writes the file."""
        state = self.path.stat()
        return state.st_size, state.st_mtime_ns

    def _key(self, row: Mapping[str, str]) -> tuple[str, ...]:
        return row["rater"], *(row[name] for name in self.columns if name.startswith("image"))

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole, newline, rest = content.rpartition(b"\n")
        try:
            table = csv.DictReader(StringIO((whole + newline).decode("utf-8-sig"), newline=""))
            names, rows = tuple(table.fieldnames or ()), list(table)
            last = next(csv.DictReader(StringIO(rest.decode()), self.columns), {}) if rest.strip() else {}
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{self.path}: not readable as a table ({error})") from None
        if names != self.columns:
            listed = ", ".join(names)
            raise InputError(
                f"{self.path}: has the columns {listed}, not {', '.join(self.columns)}: name another file with -o"
            )
        rows, last = [_read_cells(row) for row in rows], _read_cells(last)
        if _is_whole(last.get("time")):
            rows.append(last)  # of an editor that ends no last line
        elif rest.strip():
            warnings.warn(f"{self.path}: its last row is not whole, and is dropped", InputWarning, stacklevel=4)
        if rest:
            self._replace(rows)
        else:
            self._keep(rows)

    def _line(self, row: Mapping[str, str]) -> bytes:
        text = StringIO()
        csv.writer(text, lineterminator="\n").writerow(
            as_cell(row[name], is_name=name.startswith("image")) for name in self.columns
        )
        return text.getvalue().encode()

    def _replace(self, rows: list[dict[str, str]]) -> None:
        """Write the whole file; on an error all stays as it was."""
        header = self._line({name: name for name in self.columns})
        with replacing(self.path, "wb") as file:
            file.write(header + b"".join(map(self._line, rows)))
        self._keep(rows)


def _read_cells(row: Mapping[str, str]) -> dict[str, str]:
    return {name: from_cell(text) if isinstance(text, str) else text for name, text in row.items()}


def _is_whole(time: str | None) -> bool:
    """Whether the last column of a row was written to its end."""
    try:
        return time is not None and datetime.fromisoformat(time).tzinfo is not None
    except ValueError:
        return False
