"""From a file, a Pillow image, an array or a tensor to a picture: a uint8 array (3, H, W) of RGB, upright."""

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, Union, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from ..errors import InputError, first_sentence
from ..files import find_images
from .colour import to_srgb
from .opening import load, open_image, opened, require_few_scans

if TYPE_CHECKING:
    from torch import Tensor

MAX_ASPECT = 20  # beyond it an enlarged short side would make the long one huge
ACCEPTED = "a path, a PIL image, a numpy array (H, W, 3) or a torch tensor (3, H, W)"

_URL = re.compile(r"[A-Za-z][\w+.-]+://")  # two letters or more: one is a drive

Source: TypeAlias = Union[str, os.PathLike[str], BinaryIO, Image.Image, NDArray[Any], "Tensor"]
Picture: TypeAlias = NDArray[np.uint8]  # (3, H, W)
Resize: TypeAlias = Callable[[int, int], tuple[int, int]]  # from the height and width of a picture to others


def to_picture(source: Source, name: str = "image", *, size: Resize | None = None) -> Picture:
    """A picture as a uint8 array (3, H, W) of RGB: the same for the same pixels, whatever they come in.

    `source` is a path; an open file; a PIL image of any mode; a numpy array (H, W), (H, W, C) or (C, H, W), bool,
    uint8, uint16, or float in [0, 1]; or a torch tensor (H, W) or (C, H, W) of these types. C is 1 for grey, 2 with
    alpha, 3 for RGB, 4 for RGBA. EXIF orientation is applied, transparency is laid over white, and of 16 bit the upper
    eight are kept. Colours are converted to sRGB by the ICC profile of a file, or its other colour metadata.
    `size(height, width)` returns the height and width to resize to; by default the picture keeps its own. A JPEG file
    of four times that or more is decoded at a half, a quarter or an eighth first.

    InputError, one line that begins with `name` (or with the path), where it is missing, empty, truncated, no picture,
    or a strip of more than 20:1.

        >>> import numpy as np
        >>> to_picture(np.full((2, 3), 0.5)).shape
        (3, 2, 3)
    """
    if isinstance(source, str | os.PathLike):
        return read_image(source, size=size)
    if hasattr(source, "read"):
        try:
            source = open_image(cast("BinaryIO", source), name)
        except UnidentifiedImageError:
            raise InputError(f"{name}: not an image") from None
    if isinstance(source, np.ndarray):
        source = _from_array(source, name)
    elif _is_tensor(source):
        source = _from_tensor(cast("Tensor", source), name)
    if not isinstance(source, Image.Image):
        raise InputError(f"{name}: of type {type(source).__name__}; give {ACCEPTED}")
    try:
        return _to_rgb(source, name, size)
    except InputError:
        raise
    except Exception as error:  # Pillow reads the pixels of an opened file here; see read_image
        raise InputError(f"{name}: cannot be decoded ({first_sentence(error)})") from error


def read_image(path: str | os.PathLike[str], *, size: Resize | None = None) -> Picture:
    """The picture in a file, as `to_picture`."""
    if _URL.match(os.fspath(path)):
        raise InputError(f"{os.fspath(path)}: a URL; download the picture and give the path of the file")
    with opened(path) as file:
        return _to_rgb(file, os.fspath(path), size)


def content_hash(source: Source, name: str = "image") -> str:
    """A hash of a file's bytes, computed once while the file stays as it is; of another source, of its pixels.
    InputError where it cannot be read."""
    if not isinstance(source, str | os.PathLike):
        picture = to_picture(source, name)
        return hashlib.sha256(f"{picture.shape}".encode() + picture.tobytes()).hexdigest()
    try:
        state = os.stat(source)
        return _file_hash(os.fspath(source), state.st_mtime_ns, state.st_size)
    except FileNotFoundError:
        read_image(source)  # says what is wrong
        raise
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from None


@lru_cache(maxsize=1 << 17)
def _file_hash(path: str, modified: int, size: int) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def list_pictures(source: Any, name: str = "images") -> tuple[list[tuple[str, Source]], bool]:
    """The pictures in `source` as (name, what `to_picture` accepts), not decoded yet, and whether it is a single one.

    `source` is what `to_picture` accepts, a folder (searched recursively), a batch (B, C, H, W) or (B, H, W, C), or an
    iterable of pictures and folders. A file is named by its path, another by its place, as in `images[3]`. InputError
    for a folder without images, and for what holds no pictures, such as a whole table.
    """
    if isinstance(source, str | os.PathLike):
        if not os.path.isdir(source):
            return [(os.fspath(source), source)], True
        source = [source]
    if isinstance(source, Image.Image | bytes) or hasattr(source, "read") or (_is_numeric(source) and source.ndim != 4):
        return [("image", source)], True
    if isinstance(source, Mapping) or hasattr(source, "columns"):
        raise InputError(f"{name}: of type {type(source).__name__}; give one column of it, such as table['image']")
    if not isinstance(source, Iterable):
        raise InputError(f"{name}: of type {type(source).__name__}; give {ACCEPTED}, or a list of them")
    pictures: list[tuple[str, Source]] = []
    for i, each in enumerate(source):
        if isinstance(each, str | os.PathLike):
            files: list[Source] = [*find_images([Path(each)])] if os.path.isdir(each) else [each]
            pictures += [(str(file), file) for file in files]
        else:
            pictures.append((f"{name}[{i}]", each))
    return pictures, False


def to_float(pictures: "Picture | Tensor") -> "Tensor":
    """uint8 pictures to a float tensor in [0, 1]."""
    import torch

    return torch.as_tensor(pictures).float() / 255


def to_uint8(images: "Tensor") -> Picture:
    """Float in [0, 1] to uint8 pictures."""
    import torch

    return (images * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def _to_rgb(image: Image.Image, name: str, size: Resize | None) -> Picture:
    width, height = image.size
    if not width or not height:
        raise InputError(f"{name}: is empty: {width}x{height}")
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise InputError(f"{name}: {width}x{height} is a strip, not a picture to judge")
    if isinstance(image, JpegImageFile):
        require_few_scans(image, name)
        if size:
            lower, narrower = size(height, width)
            image.draft(None, (2 * narrower, 2 * lower))
    load(image)
    stored = image.size
    with suppress(Exception):  # where the orientation cannot be read, the picture is upright
        image = ImageOps.exif_transpose(image)
    height, width = (height, width) if image.size == stored else (width, height)
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_8_bit(image, name)
    image = to_srgb(image)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return np.array(resize(image, *size(height, width)) if size else image).transpose(2, 0, 1)


def resize(image: Image.Image, height: int, width: int) -> Image.Image:
    """By bilinear interpolation, with antialiasing; one of that size is returned as it is."""
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)


def _to_8_bit(image: Image.Image, name: str) -> Image.Image:
    """The image in 8 bit from those of Pillow's modes with more: 16-bit samples lose the lower eight, and floats are in
    [0, 1], as in arrays. Of 32-bit integers no format says what white is."""
    values = np.asarray(image)
    if image.mode == "F":
        values = _from_unit(values, name)
    elif image.mode.startswith("I;16") or image.format in ("PNG", "PPM"):  # mode I, but of 16 bit at most
        values = (values.clip(0, 65535).astype(np.uint16) >> 8).astype(np.uint8)
    else:
        raise InputError(f"{name}: samples of 32-bit integers; save it with 8 or 16 bit")
    found = Image.fromarray(values)
    found.info = image.info
    return found


def _from_tensor(tensor: "Tensor", name: str) -> Image.Image:
    if tensor.ndim == 3 and tensor.shape[0] > 4 and tensor.shape[2] <= 4:
        raise InputError(f"{name}: shape {tuple(tensor.shape)}; tensors are (3, H, W): use tensor.permute(2, 0, 1)")
    if tensor.ndim not in (2, 3) or (tensor.ndim == 3 and not 1 <= tensor.shape[0] <= 4):
        raise InputError(f"{name}: shape {tuple(tensor.shape)}; give a tensor (3, H, W), or 1 or 4 channels")
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.double()  # numpy has no bfloat16
    return _from_array((tensor.movedim(0, -1) if tensor.ndim == 3 else tensor).numpy(), name)


def _from_array(array: NDArray[Any], name: str) -> Image.Image:
    if array.ndim == 3 and array.shape[2] > 4 and array.shape[0] <= 4:
        array = array.transpose(1, 2, 0)
    if array.ndim not in (2, 3) or (array.ndim == 3 and not 1 <= array.shape[2] <= 4):
        raise InputError(f"{name}: shape {array.shape}; give an array (H, W), (H, W, 3) or (H, W, 4)")
    if not array.size:
        raise InputError(f"{name}: is empty: shape {array.shape}")
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "b":
        array = array * np.uint8(255)
    elif kind == "u" and size == 2:
        array = (array >> 8).astype(np.uint8)
    elif kind == "f":
        array = _from_unit(array, name)
    elif (kind, size) != ("u", 1):
        raise InputError(f"{name}: values of type {array.dtype}; give uint8, uint16, or float in [0, 1]")
    return Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)


def _from_unit(array: NDArray[Any], name: str) -> NDArray[Any]:
    levels = (array.astype(np.float64) * 255).round()
    if np.isnan(levels).any():
        raise InputError(f"{name}: holds NaN")
    if levels.min() < 0 or levels.max() > 255:
        found = f"{array.min():g} to {array.max():g}"
        raise InputError(f"{name}: floats from {found}, not in [0, 1]: divide by 255, or give uint8")
    return levels.astype(np.uint8)


def _is_numeric(source: Any) -> bool:
    """Whether this is a tensor, or an array of pixels rather than of paths."""
    return _is_tensor(source) or (isinstance(source, np.ndarray) and source.dtype.kind not in "OUS")


def _is_tensor(source: Any) -> bool:
    """Whether this is a torch tensor; torch is not imported for the question."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)
