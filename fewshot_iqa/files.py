"""The files that a user names: images to read, results to write. Imports nothing heavy: names are checked first."""

import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from .errors import InputError, InputWarning
from .resources import CHECKPOINT_FILES, inside, is_unused

if TYPE_CHECKING:
    import pandas as pd

HEIC = find_spec("pillow_heif") is not None  # whether the pictures of iPhones are read
KINDS = {
    "HEIC": ".heic .heif .hif",
    "a raw photograph": ".dng .cr2 .cr3 .nef .arw .orf .raf .rw2 .pef .srw .raw",
    "a film": ".mov .mp4 .m4v .avi .mkv .webm .3gp",
    "a picture of a format that is not read": ".psd .xcf .svg .eps .pdf .exr .hdr .jxl .ico .tga",
}
READ = ".jpg .jpeg .jpe .jfif .mpo .png .apng .bmp .dib .tif .tiff .webp .gif .ppm .pgm .pbm .pnm .jp2 .j2k .jpx .avif"
SUFFIXES = {*READ.split(), *(KINDS["HEIC"].split() if HEIC else [])}


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The image files among `paths`, folders searched recursively, each folder sorted by name.

    A file that is named itself is kept whatever its suffix. An InputWarning counts what looks like a picture and is
    not read. InputError for a folder without images.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        every = list(walk(path))
        inside = [each for each in every if each.suffix.lower() in SUFFIXES and each.is_file()]
        inside.sort(key=lambda p: p.parts)  # paths of Windows compare without case: another order, other draws
        skipped = Counter(
            each.suffix.lower() for each in every if kind_of(each) and each.suffix.lower() not in SUFFIXES
        )
        listed = ", ".join(f"{count} {suffix}" for suffix, count in sorted(skipped.items()))
        advice = "; pip install 'fewshot-iqa[heic]' reads HEIC" if skipped.keys() & set(KINDS["HEIC"].split()) else ""
        if not inside:
            raise InputError(f"{path}: no images in this folder" + (f" but {listed}{advice}" if listed else ""))
        if listed:
            warnings.warn(f"{path}: {skipped.total()} files are skipped: {listed}{advice}", InputWarning, stacklevel=2)
        found += inside
    return found


def walk(root: Path) -> Iterator[Path]:
    """The files of a folder and of those inside it, links followed, each folder once. Names that begin with a dot, and
    __MACOSX, are what computers leave among pictures, and are passed over."""
    seen = set()
    for folder, inner, names in os.walk(root, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            inner.clear()
            continue
        seen.add(real)
        inner[:] = [name for name in inner if not name.startswith((".", "__MACOSX"))]
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def kind_of(path: Path) -> str | None:
    """What a file is by its suffix that people keep among pictures and that Pillow does not read; else None."""
    return next((kind for kind, suffixes in KINDS.items() if path.suffix.lower() in suffixes.split()), None)


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
