"""From a picture to crops."""

from itertools import product
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from ..config import ViewSpec


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


def _resize(image: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(image[None], (height, width), mode="bilinear", antialias=True)[0]
