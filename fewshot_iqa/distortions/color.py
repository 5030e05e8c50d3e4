"""Distortions of colour. Every one maps (H, W, 3) float32 RGB in [0, 1] to a new (H, W, 3) float32 array."""

import math

import cv2
import numpy as np
from PIL import Image

from .codec import from_bytes, to_bytes
from .filters import gaussian, lab_to_rgb, rgb_to_lab

# A palette learnt from a small copy differs little from one learnt from every pixel and is ten times faster.
PALETTE_SIDE = 96
# Pillow refines its median cut by k-means until no more pixels than this change their colour in a round.
PALETTE_CHANGES = 100


def color_diffusion(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Blur the chroma with sigma 1.5 * amount + 2 and multiply it by amount; lightness stays."""
    lab = rgb_to_lab(image)
    lab[..., 1:] = gaussian(np.ascontiguousarray(lab[..., 1:]), 1.5 * amount + 2) * amount
    return lab_to_rgb(lab)


def color_shift(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Move the green channel by `amount` pixels down and right, blended in where edges are strong."""
    direction = rng.random(2)
    down, right = (round(step) for step in (amount * direction / math.hypot(*direction)).tolist())
    green = image[..., 1]
    height, width = green.shape
    moved = np.pad(green, ((down, 0), (right, 0)), mode="edge")[:height, :width]
    mask = edge_mask(image)
    shifted = image.copy()
    shifted[..., 1] = green + mask * (moved - green)
    return shifted


def edge_mask(image: np.ndarray) -> np.ndarray:
    """(H, W) mask in [0, 1]: the blurred gradient magnitude of the grey image, its extremes cut off."""
    down, right = np.gradient(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    # 0.1 is the generator's floor: the flattest tenth of the range counts as no edge at all.
    mask = np.maximum(unit_range(gaussian(np.hypot(down, right), 4.0)), 0.1)
    low, high = np.percentile(mask, (1, 99))
    return unit_range(np.clip(mask, low, high))


def unit_range(values: np.ndarray) -> np.ndarray:
    """Map minimum and maximum to 0 and 1; a constant array becomes 0."""
    low, high = values.min(), values.max()
    return (values - low) / max(high - low, np.finfo(np.float32).tiny)


def color_quantization(image: np.ndarray, colors: float, rng: np.random.Generator) -> np.ndarray:
    """Reduce to a palette of `colors` colours of small within-colour variance, with error diffusion."""
    count = int(colors)
    full = Image.fromarray(to_bytes(image))
    stride = max(1, min(full.size) // PALETTE_SIDE)
    small = Image.fromarray(np.ascontiguousarray(np.asarray(full)[::stride, ::stride]))
    palette = small.quantize(count, method=Image.Quantize.MEDIANCUT, kmeans=PALETTE_CHANGES)
    indexed = full.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    return from_bytes(indexed.convert("RGB"))


def color_saturation_hsv(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Multiply the HSV saturation by `factor`; a negative factor turns hues into their complements.

    At fixed hue and value a channel is V - V * S * w, so scaling S scales its distance from V = max(R, G, B).
    A negative factor leads beyond 1: the min-max map of `distort` brings that back, as in the generator.
    """
    value = np.maximum(np.maximum(image[..., :1], image[..., 1:2]), image[..., 2:])
    return value - factor * (value - image)


def color_saturation_lab(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Multiply the Lab chroma (a and b) by `factor`."""
    lab = rgb_to_lab(image)
    lab[..., 1:] *= factor
    return lab_to_rgb(lab)
