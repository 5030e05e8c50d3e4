"""Spatial distortions. Each maps images (n, 3, H, W) in [0, 1] to new ones."""

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .draws import Draws
from .ops import displace

JITTER_ROUNDS = 5
MOVED_PATCH = 16
# The generator keeps this far from the border, so that a patch moved by half of it stays inside.
MOVED_MARGIN = 16
COLOR_PATCH = 32


def jitter(images: Tensor, amount: float, draws: Draws) -> Tensor:
    """Five rounds in which every pixel is fetched from `amount` * N(0, 1) away in x and in y, bilinearly."""
    for _ in range(JITTER_ROUNDS):
        images = displace(images, draws.normal(2, *images.shape[2:]).mul_(amount))
    return images


def non_eccentricity_patch(images: Tensor, count: float, draws: Draws) -> Tensor:
    """Copy `count` patches of 16 x 16, one after another, to a place up to 8 pixels away."""
    height, width = images.shape[2:]
    last = np.array([height, width]) - MOVED_PATCH
    margin = np.minimum(MOVED_MARGIN, last // 2)
    reach = (-MOVED_MARGIN // 2, MOVED_MARGIN // 2)
    moves = draws.integers([*zip(margin, last - margin, strict=True), reach, reach], round(count))
    starts, ends = moves[..., :2], np.clip(moves[..., :2] + moves[..., 2:], 0, last)
    # Where each pixel comes from is found with plain copies; the pixels themselves then move at once.
    sources = np.tile(np.arange(height * width).reshape(height, width), (len(images), 1, 1))
    for source, *places in zip(sources, starts.tolist(), ends.tolist(), strict=True):
        for (top, left), (new_top, new_left) in zip(*places, strict=True):
            patch = source[top : top + MOVED_PATCH, left : left + MOVED_PATCH].copy()
            source[new_top : new_top + MOVED_PATCH, new_left : new_left + MOVED_PATCH] = patch
    index = torch.from_numpy(sources).to(images.device).view(len(images), 1, -1)
    return images.flatten(2).gather(2, index.expand(-1, images.shape[1], -1)).view(images.shape)


def pixelate(images: Tensor, strength: float, draws: Draws) -> Tensor:
    """Shrink by .95 - strength ** .6 and enlarge again, both with the nearest pixel."""
    scale = 0.95 - strength**0.6
    height, width = images.shape[2:]
    small = F.interpolate(images, (math.ceil(scale * height), math.ceil(scale * width)), mode="nearest-exact")
    return F.interpolate(small, (height, width), mode="nearest-exact")


def color_block(images: Tensor, count: float, draws: Draws) -> Tensor:
    """Paint `count` patches of 32 x 32 in random uniform colours."""
    painted = images.clone()
    for image, blocks in zip(painted, place_blocks(images, round(count), draws), strict=True):
        for area, color in blocks:
            image[area] = color
    return painted


def place_blocks(images: Tensor, count: int, draws: Draws) -> Iterator[list[tuple[tuple[slice, ...], Tensor]]]:
    """Per image, `count` random areas of 32 x 32 with a random colour (3, 1, 1) each; fewer are the first of more."""
    room = torch.tensor(images.shape[2:]) - COLOR_PATCH + 1
    for picks in draws.uniform(count, 5):
        corners = (picks[:, :2].double().cpu() * room).long().tolist()
        areas = [(slice(None), slice(y, y + COLOR_PATCH), slice(x, x + COLOR_PATCH)) for y, x in corners]
        yield list(zip(areas, picks[:, 2:, None, None], strict=True))
