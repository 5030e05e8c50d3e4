"""Files as Pillow images: which are opened, and how large they may be. Their pixels are not decoded here."""

import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from PIL import Image, ImageFile, UnidentifiedImageError

from ..errors import InputError, first_sentence
from ..files import HEIC, KIND_OF, reason
from .primaries import note_colours

# Pillow reads 40 formats, one of them by starting another program
FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF")
PLUGINS = ("Jpeg", "Mpo", "Png", "Bmp", "Tiff", "WebP", "Gif", "Ppm", "Jpeg2K", "Avif")
LIMIT = "FSIQA_MAX_MEGAPIXELS"
MEGAPIXELS = 500  # of the largest picture that is read; cameras of telephones have 200
MOST_SCANS = 100  # of a JPEG file, each as slow as the whole picture; progressive ones have about ten
SCAN, BLOCK = b"\xff\xda", 1 << 20
MARKER = re.compile(rb"\xff[^\0\xff\xd0-\xd7]")

_OPENING = Lock()


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """A file whose header was read; what goes wrong inside becomes an InputError that begins with the path."""
    shown = os.fspath(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise InputError(f"{shown}: {'a folder, no picture' if os.path.isdir(path) else 'not a regular file'}")
        with open_image(path, shown) as file:
            yield file
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{shown}: no such file") from None
    except UnidentifiedImageError:
        empty = os.path.isfile(path) and os.path.getsize(path) == 0
        raise InputError(f"{shown}: {'the file is empty' if empty else _why_no_image(Path(path))}") from None
    except Exception as error:  # decoders meet broken files with errors of every kind
        if isinstance(error, OSError) and error.errno is not None:  # of the system, not of a decoder
            raise InputError(f"{shown}: cannot be read ({reason(error)})") from None
        raise InputError(f"{shown}: cannot be decoded ({first_sentence(error)})") from error


def open_image(source: Any, name: str) -> Image.Image:
    """A path or an open file as a Pillow image; InputError where it has too many pixels.

    Pillow's own limit, which is for the whole process and below the pictures of today's cameras, is put aside while it
    reads the header.
    """
    most = megapixels()
    with _own_limit():
        image = Image.open(source, formats=_formats())
    if image.width * image.height > most * 1e6:
        image.close()
        size = f"{image.width}x{image.height} pixels"
        raise InputError(f"{name}: {size} are more than {most:g} megapixels; {LIMIT}=NUMBER allows more")
    note_colours(image, getattr(image, "fp", None))
    return image


def load(image: Image.Image) -> None:
    """Decode the pixels of an image that `open_image` has let in; of a TIFF file Pillow asks once more."""
    is_large = image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf)
    with _own_limit() if is_large else nullcontext():
        image.load()


@contextmanager
def _own_limit() -> Iterator[None]:
    with _OPENING:
        theirs, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = theirs


def megapixels() -> float:
    """The size of the largest picture that is read; the environment variable FSIQA_MAX_MEGAPIXELS sets another."""
    given = os.environ.get(LIMIT)
    try:
        found = MEGAPIXELS if given is None else float(given)
    except ValueError:
        found = 0
    if not found > 0:
        raise InputError(f"{LIMIT}={given}: expected a number of megapixels")
    return found


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width of the picture in a file, as it is stored; not decoded. InputError as for `read_image`."""
    with opened(path) as file:
        return file.height, file.width


def require_few_scans(image: ImageFile.ImageFile, name: str) -> None:
    """InputError where a JPEG file that is still open has so many scans that it takes hours: they need few bytes."""
    file = image.fp
    if file is None:
        return
    at, found, last = file.tell(), 0, b""
    file.seek(0)
    while block := file.read(BLOCK):
        found += (last + block).count(SCAN)
        last = block[-1:]
    if found > MOST_SCANS:  # or what follows the picture, such as a film, looks like it
        file.seek(0)
        found = _count_scans(file.read())
    file.seek(at)
    if found > MOST_SCANS:
        raise InputError(f"{name}: a JPEG file of {found:,} scans; save it anew")


def _count_scans(content: bytes) -> int:
    """The scans up to the end of the first picture of a JPEG file."""
    found, at = 0, 2
    while marker := MARKER.search(content, at):
        if marker[0] == b"\xff\xd9":
            break
        found += marker[0] == SCAN
        at = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2], "big")
    return found


class Header(NamedTuple):
    """The size of the picture in a file, as it is stored, and how many `frames` the file holds."""

    height: int
    width: int
    frames: int


def read_header(path: str | os.PathLike[str]) -> Header:
    """What the file says of its picture, which is not decoded. InputError as for `read_image`."""
    with opened(path) as file:
        height, width, frames = file.height, file.width, 1
        if file.format != "MPO":  # of which the other pictures are previews
            with suppress(Exception):  # a later frame may be broken, the first is read all the same
                frames = getattr(file, "n_frames", 1)
        return Header(height, width, frames)


def _formats() -> list[str]:
    """Those of `FORMATS` that are read here."""
    if "JPEG2000" not in Image.OPEN:
        for name in PLUGINS:
            with suppress(ImportError):
                import_module(f"PIL.{name}ImagePlugin")
    if HEIC and "HEIF" not in Image.OPEN:
        import_module("pillow_heif").register_heif_opener()
    return [name for name in FORMATS if name in Image.OPEN]


def _why_no_image(path: Path) -> str:
    """Why a file is no image that is read."""
    kind = KIND_OF.get(path.suffix.lower())
    if kind == "HEIC" and not HEIC:
        return "HEIC is read where pillow-heif is installed (pip install 'fewshot-iqa[heic]'); or convert it to JPEG"
    return "not an image" + (f", but {kind}" if kind and kind != "HEIC" else "")
