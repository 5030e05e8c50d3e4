"""From a file to crops. Images are uint8 (3, H, W) here, and become float in [0, 1] where they are batched."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from .errors import InputError

if TYPE_CHECKING:
    from .config import ViewSpec

MAX_ASPECT = 20  # beyond it an enlarged short side would make the long one huge


def read_image(path: Path) -> Tensor:
    """Decode a file to uint8 RGB (3, H, W), upright.

    16-bit and floating-point samples are scaled to 8 bit, transparency is laid over white, palettes and CMYK are
    converted. InputError where the file is missing, empty, truncated or no image.
    """
    try:
        with Image.open(path) as file:
            image = _to_rgb(ImageOps.exif_transpose(file))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        empty = path.is_file() and path.stat().st_size == 0
        raise InputError(f"{path}: {'the file is empty' if empty else 'not an image'}") from None
    except Exception as error:  # decoders meet broken files with errors of every kind
        raise InputError(f"{path}: cannot be decoded ({error})") from error
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise InputError(f"{path}: {image.width}x{image.height} is a strip, not a picture to judge")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        highest = values.max()
        top = 65535.0 if image.mode.startswith("I;16") or highest > 255 else 255.0 if highest > 1 else 1.0
        image = Image.fromarray((values.clip(0, top) * (255 / top)).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def write_png(path: Path, image: Tensor, notes: Mapping[str, str]) -> None:
    """Write uint8 (3, H, W) with `notes` as its text entries; the file appears when it is whole."""
    info = PngInfo()
    for name, text in notes.items():
        info.add_text(name, text)
    part = path.with_name(f"{path.name}.part")
    try:
        # Twice as fast as Pillow's own compression level, and hardly larger for photographs.
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(part, "PNG", pnginfo=info, compress_level=3)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def read_notes(path: Path) -> dict[str, str]:
    """The text entries of a PNG file; none where it is something else."""
    try:
        with Image.open(path) as file:
            return dict(getattr(file, "text", {}))
    except OSError:
        return {}


def shrink(image: Tensor, short_side: int) -> Tensor:
    """Reduce so that the shorter side is `short_side`; a smaller image is returned as it is."""
    height, width = image.shape[-2:]
    if min(height, width) <= short_side:
        return image
    factor = short_side / min(height, width)
    return _resize(image, round(height * factor), round(width * factor))


def prepare(image: Tensor, views: "ViewSpec") -> Tensor:
    """Reduce an image as `views` says; one that is smaller than the crop is enlarged to hold it."""
    if views.square:
        return _resize(image, views.square, views.square)
    if views.short_side:
        image = shrink(image, views.short_side)
    return enlarge(image, views.crop)


def enlarge(image: Tensor, short_side: int) -> Tensor:
    """Enlarge so that the shorter side is `short_side`; a larger image is returned as it is."""
    height, width = image.shape[-2:]
    if min(height, width) >= short_side:
        return image
    factor = short_side / min(height, width)
    return _resize(image, max(short_side, round(height * factor)), max(short_side, round(width * factor)))


def random_view(image: Tensor, crop: int, generator: torch.Generator) -> Tensor:
    """One random crop (3, crop, crop), mirrored in half of the cases."""
    height, width = image.shape[-2:]
    top = int(torch.randint(height - crop + 1, (), generator=generator))
    left = int(torch.randint(width - crop + 1, (), generator=generator))
    view = image[:, top : top + crop, left : left + crop]
    return view.flip(-1) if torch.rand((), generator=generator) < 0.5 else view


def fixed_views(image: Tensor, views: "ViewSpec") -> Tensor:
    """The test crops (V, 3, crop, crop): the centre; that and the corners; the corners and the middles of the edges; or
    a grid of crops `stride` apart or less, from edge to edge."""
    crop = views.crop
    return torch.stack([image[:, y : y + crop, x : x + crop] for y, x in _places(image, views)])


def assemble(maps: Tensor, image: Tensor, views: "ViewSpec") -> Tensor:
    """Maps (V, n, n) of the fixed views of an image (3, H, W), each spread over its crop: (H, W), the mean where crops
    overlap, 0 where none is."""
    total, times = torch.zeros(2, *image.shape[-2:])
    crop = views.crop
    spread = F.interpolate(maps[:, None].float(), (crop, crop), mode="nearest")[:, 0]
    for (y, x), each in zip(_places(image, views), spread, strict=True):
        total[y : y + crop, x : x + crop] += each
        times[y : y + crop, x : x + crop] += 1
    return total / times.clamp(min=1)


def _places(image: Tensor, views: "ViewSpec") -> list[tuple[int, int]]:
    """The upper left corners of the fixed views."""
    down, right = (side - views.crop for side in image.shape[-2:])
    if views.stride:
        return [(y, x) for y in _grid(down, views.stride) for x in _grid(right, views.stride)]
    middle, y, x = (down // 2, right // 2), (0, down), (0, right)
    corners, edges = list(product(y, x)), [*product(y, middle[1:]), *product(middle[:1], x)]
    return {1: [middle], 5: [middle, *corners], 8: [*corners, *edges]}[views.count]


def _grid(span: int, stride: int) -> list[int]:
    steps = -(-span // stride)
    return [round(i * span / steps) for i in range(steps + 1)] if steps else [0]


def to_float(images: Tensor) -> Tensor:
    """uint8 to float in [0, 1]."""
    return images.float() / 255


def to_uint8(images: Tensor) -> Tensor:
    """Float in [0, 1] to uint8."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8)


def _resize(image: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(image[None], (height, width), mode="bilinear", antialias=True)[0]
