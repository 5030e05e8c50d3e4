"""From a picture to crops."""

from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import InputError
from .decode import Picture, read_image, resize

if TYPE_CHECKING:
    import torch

    from ..config import ViewSpec

WIDE = (1, 4)  # of five views, the upper left and the lower right
MOST = 4096  # crops of one picture, which are in memory together


def prepared_size(views: "ViewSpec", height: int, width: int) -> tuple[int, int]:
    """The size that `prepare` gives a picture of this height and width."""
    if views.square:
        return views.square, views.square
    if views.short_side:
        height, width = shrunk_size(views.short_side, height, width)
    return _enlarged_size(views.crop, height, width)


def shrunk_size(short_side: int, height: int, width: int) -> tuple[int, int]:
    """The size that `shrink` gives a picture of this height and width."""
    if min(height, width) <= short_side:
        return height, width
    factor = short_side / min(height, width)
    return round(height * factor), round(width * factor)


def _enlarged_size(short_side: int, height: int, width: int) -> tuple[int, int]:
    if min(height, width) >= short_side:
        return height, width
    factor = short_side / min(height, width)
    return max(short_side, round(height * factor)), max(short_side, round(width * factor))


def prepare(image: Picture, views: "ViewSpec") -> Picture:
    """Reduce an image as `views` says; one that is smaller than the crop is enlarged to hold it."""
    return _resize(image, *prepared_size(views, *image.shape[1:]))


def shrink(image: Picture, short_side: int) -> Picture:
    """Reduce so that the shorter side is `short_side`; a smaller image is returned as it is."""
    return _resize(image, *shrunk_size(short_side, *image.shape[1:]))


def thumbnail(path: Path, side: int) -> Image.Image:
    """The picture in a file, its longer side of at most `side` pixels. InputError as for `read_image`."""
    picture = read_image(path, size=partial(shrunk_size, side))
    small = Image.fromarray(picture.transpose(1, 2, 0))
    small.thumbnail((side, side))
    return small


def enlarge(image: Picture, short_side: int) -> Picture:
    """Enlarge so that the shorter side is `short_side`; a larger image is returned as it is."""
    return _resize(image, *_enlarged_size(short_side, *image.shape[1:]))


def random_view(image: Picture, crop: int, generator: "torch.Generator") -> Picture:
    """One random crop (3, crop, crop), mirrored in half of the cases."""
    import torch

    height, width = image.shape[-2:]
    top = int(torch.randint(height - crop + 1, (), generator=generator))
    left = int(torch.randint(width - crop + 1, (), generator=generator))
    view = image[:, top : top + crop, left : left + crop]
    return view[:, :, ::-1] if torch.rand((), generator=generator) < 0.5 else view


def fixed_views(image: Picture, views: "ViewSpec") -> Picture:
    """The test crops (V, 3, crop, crop): the centre; that and the corners; the corners and the middles of the edges; or
    a grid of crops `stride` apart or less, from edge to edge."""
    crop = views.crop
    return np.stack([picture[:, y : y + crop, x : x + crop] for picture, y, x in _cuts(image, views)])


def assemble(maps: NDArray[Any], image: Picture, views: "ViewSpec") -> NDArray[np.float64]:
    """Maps (V, n, n) of the fixed views of an image (3, H, W), each spread over its crop: (H, W), the mean where crops
    overlap, 0 where none is."""
    total, times = np.zeros((2, *image.shape[-2:]))
    for (picture, y, x), each in zip(_cuts(image, views), maps, strict=True):
        scales = [whole / part for whole, part in zip(image.shape[-2:], picture.shape[-2:], strict=True)]
        rows, columns = (
            slice(round(start * scale), round((start + views.crop) * scale))
            for start, scale in zip((y, x), scales, strict=True)
        )
        nearest = [np.arange(size) * maps.shape[-1] // size for size in total[rows, columns].shape]
        total[rows, columns] += each[np.ix_(*nearest)]
        times[rows, columns] += 1
    return total / times.clip(min=1)


def _cuts(image: Picture, views: "ViewSpec") -> list[tuple[Picture, int, int]]:
    """The picture that each fixed view is cut from, the image or a smaller one, and its upper left corner there."""
    cuts = [(image, *place) for place in _places(image, views)]
    if views.wide_side and len(cuts) == 5 and not views.stride:
        small = shrink(image, views.wide_side)
        places = _places(small, views)
        for number in WIDE:
            cuts[number] = (small, *places[number])
    return cuts


def _places(image: Picture, views: "ViewSpec") -> list[tuple[int, int]]:
    """The upper left corners of the fixed views."""
    down, right = (side - views.crop for side in image.shape[-2:])
    if views.stride:
        rows, columns = _grid(down, views.stride), _grid(right, views.stride)
        if (count := len(rows) * len(columns)) > MOST:
            height, width = image.shape[-2:]
            raise InputError(
                f"{width}x{height} pixels are {count} crops of views.stride {views.stride}, more than {MOST}: reduce "
                "images first (views.short_side), or take a larger stride"
            )
        return list(product(rows, columns))
    middle, y, x = (down // 2, right // 2), (0, down), (0, right)
    corners, edges = list(product(y, x)), [*product(y, middle[1:]), *product(middle[:1], x)]
    return {1: [middle], 5: [middle, *corners], 8: [*corners, *edges]}[views.count]


def _grid(span: int, stride: int) -> list[int]:
    steps = -(-span // stride)
    return [round(i * span / steps) for i in range(steps + 1)] if steps else [0]


def _resize(image: Picture, height: int, width: int) -> Picture:
    if image.shape[1:] == (height, width):
        return image
    return np.array(resize(Image.fromarray(image.transpose(1, 2, 0)), height, width)).transpose(2, 0, 1)
