"""Paths of image files; nothing heavy is imported here."""

from collections.abc import Sequence
from pathlib import Path

from .errors import InputError

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
