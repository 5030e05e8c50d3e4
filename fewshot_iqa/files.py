"""The files that a user names: images to read, results to write. Imports nothing heavy: names are checked first."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from .errors import InputError
from .resources import CHECKPOINT_FILES, inside, is_unused

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".jp2"}


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The image files among `paths`, folders searched recursively, each folder sorted by name.

    A file that is named itself is kept whatever its suffix. InputError for a folder without images.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = [p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()]
        inside.sort(key=lambda p: p.parts)  # paths of Windows compare without case: another order, other draws
        if not inside:
            raise InputError(f"{path}: no images in this folder")
        found += inside
    return found


def photographs_in(folder: Path) -> list[Path]:
    """The image files of a folder, as `find_images`; InputError where there is no such folder."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of photographs")
    return find_images([folder])


def require_writable(path: Path) -> None:
    """InputError unless a file can be written at `path`; makes and changes nothing.

    One missing folder is allowed for, in an existing one: `runs/result.json` before there is `runs`.
    """
    folder = path.parent
    if path.is_dir():
        raise InputError(f"{path}: cannot be written (it is a folder)")
    if not folder.is_dir():
        _require_one_level(path, folder)
    elif not os.access(path if path.exists() else folder, os.W_OK):
        raise InputError(f"{path}: cannot be written (permission denied)")


def require_room(folder: Path) -> None:
    """InputError unless a checkpoint can be written as `folder`: it is absent, empty or a checkpoint.

    Makes and changes nothing. As many folders above it as are missing are made with it. Files of others beside those of
    a checkpoint stay there.
    """
    try:
        whole = all(inside(folder, name).is_file() for name in CHECKPOINT_FILES)
        if folder.exists() and not whole and (folder.is_file() or not is_unused(folder)):
            raise InputError(f"--out {folder}: holds something else than a checkpoint; name a folder of its own")
        nearest = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    except OSError as error:  # of a name that is too long, or a folder that cannot be listed
        raise InputError(f"--out {folder}: cannot be written ({error.strerror})") from None
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise InputError(f"--out {folder}: {nearest} is not a folder that can be written")


def open_text(path: Path) -> TextIO:
    """The file, open to be written; its folder is made as `require_writable` allows."""
    require_writable(path)
    try:
        path.parent.mkdir(exist_ok=True)
        return path.open("w", newline="", encoding="utf-8", errors="backslashreplace", buffering=1)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def write_csv(path: Path | None, table: "pd.DataFrame | None") -> None:
    if path and table is not None:
        with open_text(path) as file:
            table.to_csv(file, index=False, float_format="%.5g")


def write_json(path: Path | None, result: Any) -> None:
    if path:
        with open_text(path) as file:
            file.write(json.dumps(result, indent=2, allow_nan=False) + "\n")


def _require_one_level(path: Path, folder: Path) -> None:
    above = folder.absolute().parent
    at_the_root = above == above.parent
    if at_the_root or not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"{path}: the folder {folder} does not exist")
