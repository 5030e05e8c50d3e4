"""Distortions of colour. Each maps images (n, 3, H, W) in [0, 1] to new ones."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .draws import Draws
from .ops import cut_extremes, each, from_bytes, gaussian, lab_to_rgb, rgb_to_lab, stretch, to_bytes

# A palette learnt from a small copy differs little from one learnt from every pixel and is ten times faster.
PALETTE_SIDE = 64
# Pillow refines its median cut by k-means until no more pixels than this change their colour in a round.
PALETTE_CHANGES = 100


def color_diffusion(images: Tensor, amount: float, draws: Draws) -> Tensor:
    """Blur the chroma with sigma 1.5 * amount + 2 and multiply it by amount; lightness stays."""
    lab = rgb_to_lab(images)
    lab[:, 1:] = gaussian(lab[:, 1:], 1.5 * amount + 2) * amount
    return lab_to_rgb(lab)


def color_shift(images: Tensor, amount: float, draws: Draws) -> Tensor:
    """Move the green channel by `amount` pixels down and right, blended in where edges are strong."""
    height, width = images.shape[2:]
    moved = []
    for image, towards in zip(images, draws.uniform(2).tolist(), strict=True):
        down, right = (round(amount * part / math.hypot(*towards)) for part in towards)
        moved.append(F.pad(image[None, 1:2], (right, 0, down, 0), mode="replicate")[..., :height, :width])
    red, green, blue = images.split(1, dim=1)
    return torch.cat((red, torch.lerp(green, torch.cat(moved), edge_mask(images)), blue), dim=1)


def edge_mask(images: Tensor) -> Tensor:
    """(n, 1, H, W) in [0, 1]: the blurred gradient magnitude of the grey image, its extremes cut off."""
    red, green, blue = images.split(1, dim=1)
    down, right = torch.gradient(0.299 * red + 0.587 * green + 0.114 * blue, dim=(2, 3))
    # 0.1 is the generator's floor: the flattest tenth of the range counts as no edge at all.
    mask = stretch(gaussian(torch.hypot(down, right), 4.0)).clamp(min=0.1)
    return stretch(cut_extremes(mask, 0.01, 0.99))


def color_quantization(images: Tensor, colors: float, draws: Draws) -> Tensor:
    """Reduce to a palette of `colors` colours of small within-colour variance, with error diffusion."""

    def reduce(pixels: np.ndarray) -> np.ndarray:
        full = Image.fromarray(pixels)
        stride = max(1, min(full.size) // PALETTE_SIDE)
        small = Image.fromarray(np.ascontiguousarray(pixels[::stride, ::stride]))
        palette = small.quantize(round(colors), method=Image.Quantize.MEDIANCUT, kmeans=PALETTE_CHANGES)
        return np.array(full.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).convert("RGB"))

    return from_bytes(each(to_bytes(images), reduce))


def color_saturation_hsv(images: Tensor, factor: float, draws: Draws) -> Tensor:
    """Multiply the HSV saturation by `factor`; a negative factor turns hues into their complements.

    At fixed hue and value a channel is V - V * S * w, so scaling S scales its distance from V = max(R, G, B).
    A negative factor leads beyond 1: the min-max map of `distort` brings that back, as in the generator.
    """
    value = images.amax(dim=1, keepdim=True)
    return value - factor * (value - images)


def color_saturation_lab(images: Tensor, factor: float, draws: Draws) -> Tensor:
    """Multiply the Lab chroma (a and b) by `factor`."""
    lab = rgb_to_lab(images)
    lab[:, 1:] *= factor
    return lab_to_rgb(lab)
