"""The files that a user names: images to read, results to write. Imports nothing heavy: names are checked first."""

import csv
import json
import os
import platform
import re
import shutil
import sys
import threading
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .errors import InputError, InputWarning
from .resources import CHECKPOINT_FILES, PART, inside, is_unused

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
KIND_OF = {suffix: kind for kind, suffixes in KINDS.items() for suffix in suffixes.split()}
SUFFIXES = {*READ.split(), *(KINDS["HEIC"].split() if HEIC else [])}


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The image files among `paths`, folders searched recursively, each folder sorted by name.

    A file that is named itself is kept whatever its suffix. An InputWarning counts what looks like a picture and is
    not read. InputError for a folder without images.
    """
    found: list[Path] = []
    others = KIND_OF.keys() - SUFFIXES
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        every = list(walk(path))
        inside = [each for each in every if each.suffix.lower() in SUFFIXES and each.is_file()]
        inside.sort(key=lambda p: p.parts)  # paths of Windows compare without case: another order, other draws
        skipped = Counter(suffix for each in every if (suffix := each.suffix.lower()) in others)
        listed = ", ".join(f"{count} {suffix}" for suffix, count in sorted(skipped.items()))
        advice = "; pip install 'fewshot-iqa[heic]' reads HEIC" if skipped.keys() & set(KINDS["HEIC"].split()) else ""
        if not inside:
            raise InputError(f"{path}: no images in this folder" + (f" but {listed}{advice}" if listed else ""))
        if listed:
            counted = f"{count} files are" if (count := skipped.total()) > 1 else "a file is"
            warnings.warn(f"{path}: {counted} skipped: {listed}{advice}", InputWarning, stacklevel=2)
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
        inner[:] = sorted(name for name in inner if not name.startswith((".", "__MACOSX")))  # links to one come later
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def require_regular(path: Path, absent: str) -> None:
    """InputError unless this is a regular file: a pipe would be waited for. `absent` says what is not there."""
    if not path.is_file():
        raise InputError(f"{path}: {'not a regular file' if path.exists() else absent}")


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
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({reason(error)})") from None
    if path.is_dir():
        raise InputError(f"{path}: cannot be written (it is a folder)")
    if not folder.is_dir():
        _require_one_level(path, folder)
    elif not os.access(path if path.exists() else folder, os.W_OK) or not (is_stream(path) or _renames(path)):
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
        raise InputError(f"--out {folder}: cannot be written ({reason(error)})") from None
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise InputError(f"--out {folder}: {nearest} is not a folder that can be written")


def is_stream(path: Path) -> bool:
    """Whether a path names no file that another can take the place of: a device, a pipe, or this run's own output."""
    device = os.name == "nt" and path.name.upper() in ("NUL", "CON")
    return device or (path.exists() and not path.is_file()) or _own_output(path) is not None


def open_stream(path: Path, mode: str = "w") -> IO[Any]:
    """A device or pipe, open to be written; this run's own output, such as /dev/stdout, is gone on with."""
    own = _own_output(path)
    if own is not None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    return open(path if own is None else os.dup(own), mode, **text_options(mode))


def text_options(mode: str) -> dict[str, Any]:
    """How files of text are opened; a name that is no text is written with escapes."""
    return {} if "b" in mode else {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}


@contextmanager
def writing(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A file, of text or with "wb" of bytes, that takes the place of `path` when it is whole and on the disk.

    Until then what is there stays as it is, and where anything fails nothing is left. Its folder is made as
    `require_writable` allows. Devices and pipes are written directly. InputError where it cannot be written.
    """
    require_writable(path)
    try:
        if is_stream(path):
            with suppress(BrokenPipeError), open_stream(path, mode) as file:  # of a reader that has enough
                yield file
            return
        path.parent.mkdir(exist_ok=True)
        with replacing(path.resolve(), mode) as file:
            yield file
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({reason(error)})") from None


@contextmanager
def replacing(target: Path, mode: str, *, forced: bool = True) -> Iterator[IO[Any]]:
    """As `writing`, of a regular file in a folder that is there; OSError where it cannot be written. One that is not
    `forced` to the disk may be empty after a power cut."""
    name = target.name[:48]  # a long name leaves room for no more
    part = target.with_name(f".{name}.{_machine()}-{os.getpid()}-{threading.get_ident()}{PART}")
    try:
        with part.open(mode, **text_options(mode)) as file:
            yield file
            file.flush()
            if forced:
                os.fsync(file.fileno())
        put_in_place(part, target)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs left of `writing` in a folder: temporary files whose process has ended, or, where that
    cannot be known, that nobody has written to for an hour."""
    for part in folder.glob(f".*{PART}"):
        with suppress(OSError):
            found = re.fullmatch(rf".*\.([0-9a-f]+)-(\d+)-\d+{PART}", part.name, re.DOTALL)
            if found and (
                (found[1] == _machine() and _has_ended(int(found[2]))) or time.time() - part.stat().st_mtime > 3600
            ):
                part.unlink()


def _machine() -> str:
    return f"{zlib.crc32(platform.node().encode()):x}"


def _has_ended(process: int) -> bool:
    """Whether there is no such process; False on Windows, where the question would end it."""
    try:
        if os.name == "posix":
            os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # of another user
        pass
    return False


def put_in_place(part: Path, target: Path) -> None:
    """Rename `part` to `target`, with the permissions of the file that it replaces."""
    if target.exists():
        with suppress(OSError):
            shutil.copymode(target, part)
    part.replace(target)


def reason(error: OSError) -> str:
    """Why a file could not be written or read, without its name."""
    return error.strerror or str(error)


def write_csv(path: Path | None, table: "pd.DataFrame | None", *, digits: int | None = 5) -> None:
    """Write a table, as `to_csv`."""
    if path and table is not None:
        with writing(path) as file:
            file.write(to_csv(table, digits=digits))


def to_csv(table: "pd.DataFrame", *, digits: int | None = None) -> str:
    """A table as the text of a CSV file, its numbers with so many digits or all, its texts as `as_cell` has them."""
    cells = table.copy()
    for name in cells.select_dtypes(exclude=["number", "bool"]):
        cells[name] = [as_cell(value, is_name=str(name).startswith("image")) for value in cells[name]]
    texts = cells.select_dtypes(exclude=["number", "bool"])
    broken = any("\r" in str(value) for name in texts for value in texts[name])  # which pandas does not quote
    quoting: Any = csv.QUOTE_NONNUMERIC if broken else csv.QUOTE_MINIMAL
    return cells.to_csv(index=False, float_format=digits and f"%.{digits}g", quoting=quoting)


def write_json(path: Path | None, result: Any) -> None:
    if path:
        with writing(path) as file:
            file.write(json.dumps(result, indent=2, allow_nan=False) + "\n")


FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_cell(value: Any, *, is_name: bool = False) -> Any:
    """The cell of a CSV file that spreadsheet programs run as no formula: `'=x` for a text `=x`, and `./=x.png` for a
    file's name, so that it still names the file. Numbers stay, also in a text."""
    if not isinstance(value, str) or not value.startswith(FORMULA) or re.fullmatch(r"[-+]?[\d.]+(?:e[-+]?\d+)?", value):
        return value
    return f"./{value}" if is_name else f"'{value}"


def from_cell(text: str) -> str:
    """The text of which `as_cell` made a cell."""
    return re.sub(r"^(?:'|\./)(?=[=+\-@\t\r])", "", text)


def _own_output(path: Path) -> int | None:
    """1 or 2 where a path names what this process itself prints to."""
    for descriptor in (1, 2):
        with suppress(OSError):
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                return descriptor
    return None


def _renames(path: Path) -> bool:
    """Whether another file can take the place of this one."""
    return os.access(path.resolve().parent, os.W_OK)


def _require_one_level(path: Path, folder: Path) -> None:
    above = folder.absolute().parent
    at_the_root = above == above.parent
    if at_the_root or not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"{path}: the folder {folder} does not exist")
