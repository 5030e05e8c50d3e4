"""The files of a folder, found by their names as tables write them."""

import os
import unicodedata
from collections import defaultdict
from pathlib import Path

from ..errors import InputError
from ..files import SUFFIXES, walk


class Folder:
    """A folder of pictures, also in folders inside it.

    A name means the file of this very path; else the one file whose path ends like it, whatever the case of letters,
    `\\` or `/` between folders, and composed or decomposed accents; or the one picture whose name it is without the
    suffix. It may begin with the name of the folder itself.
    """

    def __init__(self, root: Path) -> None:
        self.root, self._own = root, f"{plain(root.resolve().name)}/"
        self._files: dict[str, list[tuple[str, Path]]] | None = None

    def find(self, name: str) -> Path | None:
        """The file that a table means, None where there is none; InputError where there are several."""
        if os.path.isfile(path := self.root / name):  # which a name that is too long is not
            return path
        if self._files is None:
            self._files = self._index()
        key = plain(name).removeprefix(self._own)
        known = [each for each in self._files.get(_last(key), []) if f"/{each[0]}".endswith(f"/{key}")]
        same = [path for own, path in known if own == key] or [path for _, path in known]
        if len(same) > 1:
            listed = " and ".join(str(path.relative_to(self.root)) for path in sorted(same)[:2])
            raise InputError(
                f"'{name}' could be {listed} in {self.root}: write its folder in the table, or give --root"
            )
        return same[0] if same else None

    def _index(self) -> dict[str, list[tuple[str, Path]]]:
        """{last part of a name: [(name, file)]} for each way to write the name of a file, as `plain` has them."""
        found: dict[str, list[tuple[str, Path]]] = defaultdict(list)
        for path in walk(self.root):
            own = plain(str(path.relative_to(self.root)))
            found[_last(own)].append((own, path))
            if path.suffix.lower() in SUFFIXES:
                stem = own.removesuffix(path.suffix.lower())
                found[_last(stem)].append((stem, path))
        return found


def names_in(folder: Path) -> list[str]:
    """The names of what lies in a folder; none of one that is not there."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def plain(name: str) -> str:
    """A path as it is compared: of one case, one form of accents and one separator."""
    return unicodedata.normalize("NFC", name.strip().replace("\\", "/")).casefold().removeprefix("./")


def _last(name: str) -> str:
    return name.rpartition("/")[2]
