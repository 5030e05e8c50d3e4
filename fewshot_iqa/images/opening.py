"""Files as Pillow images: which are opened, and how large they may be. Their pixels are not decoded here."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from PIL import Image, UnidentifiedImageError

from ..errors import InputError, first_sentence
from ..files import HEIC, KIND_OF

# Pillow reads 40 formats, one of them by starting another program
FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF")
PLUGINS = ("Jpeg", "Mpo", "Png", "Bmp", "Tiff", "WebP", "Gif", "Ppm", "Jpeg2K", "Avif")
LIMIT = "FSIQA_MAX_MEGAPIXELS"
MEGAPIXELS = 500  # of the largest picture that is read; cameras of telephones have 200

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
        raise InputError(f"{shown}: {'the file is empty' if empty else _reason(Path(path))}") from None
    except Exception as error:  # decoders meet broken files with errors of every kind
        raise InputError(f"{shown}: cannot be decoded ({first_sentence(error)})") from error


def open_image(source: Any, name: str) -> Image.Image:
    """A path or an open file as a Pillow image; InputError where it has too many pixels.

    Pillow's own limit, which is for the whole process and below the pictures of today's cameras, is put aside while it
    reads the header.
    """
    most = megapixels()
    with _OPENING:
        theirs, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(source, formats=_formats())
        finally:
            Image.MAX_IMAGE_PIXELS = theirs
    if image.width * image.height > most * 1e6:
        image.close()
        size = f"{image.width}x{image.height} pixels"
        raise InputError(f"{name}: {size} are more than {most:g} megapixels; {LIMIT}=NUMBER allows more")
    return image


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


def _reason(path: Path) -> str:
    """Why a file is no image that is read."""
    kind = KIND_OF.get(path.suffix.lower())
    if kind == "HEIC" and not HEIC:
        return "HEIC is read where pillow-heif is installed (pip install 'fewshot-iqa[heic]'); or convert it to JPEG"
    return "not an image" + (f", but {kind}" if kind and kind != "HEIC" else "")
