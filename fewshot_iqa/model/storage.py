"""Files of a folder that are replaced together. Imports no torch.

A kill at any moment leaves all of the old ones or all of the new ones readable. The new ones are written into `PART`
inside the folder, forced to the disk, and `PART` is renamed to `NEXT`: this one step decides. Then they are moved up
one by one; until that is done, `read_file` finds them in `NEXT`. Nothing outside the folder is needed, so it may be a
mount point, the working directory, or have the longest of names; whatever else it holds stays there.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from ..errors import InputError
from ..files import reason
from ..resources import NEXT, PART, inside


def replace_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write `files`, {name: content}, into a folder, which is made where it is missing.

    Two writers must not meet there: see `one_writer`. InputError where it cannot be written; the old files stay.
    """
    part = folder / PART
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _move_up(folder)  # of an earlier writer
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir()
            for name, content in files.items():
                _write(part / name, content)
            _force(part)
            part.rename(folder / NEXT)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        _force(folder)
        _move_up(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({reason(error)})") from None


def finish(folder: Path) -> None:
    """Move up the files that a writer had decided on when it was killed, for programs that do not know of them."""
    try:
        _move_up(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({reason(error)})") from None


def read_file(folder: Path, name: str, limit: int) -> bytes:
    """The content of a file that `replace_files` wrote. InputError where there is none of at most `limit` bytes."""
    path = inside(folder, name)
    try:
        if (size := path.stat().st_size) > limit:
            raise InputError(f"{folder / name}: has {size} bytes, which is too much for what it should hold")
        try:
            return path.read_bytes()
        except FileNotFoundError:  # its writer has moved it up meanwhile
            return (folder / name).read_bytes()
    except OSError as error:
        raise InputError(f"{folder / name}: not readable ({reason(error)})") from None


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _move_up(folder: Path) -> None:
    decided = folder / NEXT
    if decided.is_dir():
        for file in decided.iterdir():
            file.replace(folder / file.name)
        _force(folder)
        decided.rmdir()


def _force(folder: Path) -> None:
    """Force the names in a folder to the disk, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
