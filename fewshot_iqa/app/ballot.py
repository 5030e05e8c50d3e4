"""The file of a rating session: one row a vote, on disk before the page moves on."""

import csv
import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

from ..errors import InputError, InputWarning
from ..files import require_writable

RATING = ("image", "rating", "rater", "rating_scale", "seconds", "time")
COMPARISON = ("image_a", "image_b", "preferred", "rater", "seconds", "time")


class Ballot:
    """Votes in a CSV file, which is created or gone on with.

    A half row at the end, of a vote that was never acknowledged, is dropped with an InputWarning. InputError where the
    file has other columns or cannot be written.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        require_writable(path)
        self.path, self.columns = path, tuple(columns)
        self.rows: list[dict[str, str]] = []
        if path.is_file() and path.stat().st_size:
            self._read()
        else:
            path.parent.mkdir(exist_ok=True)
            self._replace()
        self._count = Counter(map(self._key, self.rows))

    def count(self, rater: str, images: Sequence[str]) -> int:
        """How many votes a rater has given on these images."""
        return self._count[(rater, *images)]

    def append(self, row: Mapping[str, str]) -> None:
        """Write a vote; it is on disk when this returns."""
        row = {name: str(row[name]) for name in self.columns}
        with self.path.open("ab") as file:
            file.write(self._line(row))
            file.flush()
            os.fsync(file.fileno())
        self.rows.append(row)
        self._count[self._key(row)] += 1

    def remove_last(self, rater: str) -> dict[str, str] | None:
        """Take back a rater's last vote, and return it; None where there is none."""
        mine = [i for i, row in enumerate(self.rows) if row["rater"] == rater]
        if not mine:
            return None
        row = self.rows.pop(mine[-1])
        self._replace()
        self._count[self._key(row)] -= 1
        return row

    def _key(self, row: Mapping[str, str]) -> tuple[str, ...]:
        return row["rater"], *(row[name] for name in self.columns if name.startswith("image"))

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole, newline, rest = content.rpartition(b"\n")
        if rest:
            warnings.warn(f"{self.path}: its last row is not whole, and is dropped", InputWarning, stacklevel=3)
        try:
            table = csv.DictReader(StringIO((whole + newline).decode("utf-8-sig"), newline=""))
            names, self.rows = tuple(table.fieldnames or ()), list(table)
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{self.path}: not readable as a table ({error})") from None
        if names != self.columns:
            raise InputError(
                f"{self.path}: has the columns {', '.join(names)}, not {', '.join(self.columns)}: name another file"
            )
        if rest:
            self._replace()

    def _line(self, row: Mapping[str, str]) -> bytes:
        text = StringIO()
        csv.writer(text, lineterminator="\n").writerow(row[name] for name in self.columns)
        return text.getvalue().encode()

    def _replace(self) -> None:
        """Write the whole file under a temporary name, and rename it."""
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        header = self._line({name: name for name in self.columns})
        with part.open("wb") as file:
            file.write(header + b"".join(map(self._line, self.rows)))
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.path)
