"""Spatial distortions. Every one maps (H, W, 3) float32 RGB in [0, 1] to a new (H, W, 3) float32 array."""

import math

import cv2
import numpy as np

JITTER_ROUNDS = 5
MOVED_PATCH = 16
# The generator keeps this far from the border, so that a patch moved by half of it stays inside.
MOVED_MARGIN = 16
COLOR_PATCH = 32


def jitter(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Five rounds in which every pixel is fetched from `amount` * N(0, 1) away in x and in y, bilinearly."""
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for _ in range(JITTER_ROUNDS):
        shift = amount * rng.standard_normal((2, height, width), dtype=np.float32)
        image = cv2.remap(image, x + shift[0], y + shift[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return image


def non_eccentricity_patch(image: np.ndarray, count: float, rng: np.random.Generator) -> np.ndarray:
    """Copy `count` patches of 16 x 16, one after another, to a place up to 8 pixels away."""
    patched = image.copy()
    for _ in range(int(count)):
        (top, new_top), (left, new_left) = (_move(side, rng) for side in image.shape[:2])
        patch = patched[top : top + MOVED_PATCH, left : left + MOVED_PATCH].copy()
        patched[new_top : new_top + MOVED_PATCH, new_left : new_left + MOVED_PATCH] = patch
    return patched


def _move(side: int, rng: np.random.Generator) -> tuple[int, int]:
    """Where a patch starts along an axis of `side` pixels, and where its copy starts."""
    last = side - MOVED_PATCH
    margin = min(MOVED_MARGIN, last // 2)
    start = int(rng.integers(margin, last - margin + 1))
    offset = int(rng.integers(-MOVED_MARGIN // 2, MOVED_MARGIN // 2 + 1))
    return start, min(max(start + offset, 0), last)


def pixelate(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Shrink by .95 - strength ** .6 and enlarge again, both with the nearest pixel."""
    height, width = image.shape[:2]
    scale = 0.95 - strength**0.6
    small = (math.ceil(scale * width), math.ceil(scale * height))
    shrunk = cv2.resize(image, small, interpolation=cv2.INTER_NEAREST_EXACT)
    return cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def color_block(image: np.ndarray, count: float, rng: np.random.Generator) -> np.ndarray:
    """Paint `count` patches of 32 x 32 in random uniform colours."""
    painted = image.copy()
    for _ in range(int(count)):
        top, left = (int(rng.integers(0, side - COLOR_PATCH + 1)) for side in image.shape[:2])
        painted[top : top + COLOR_PATCH, left : left + COLOR_PATCH] = rng.random(3, dtype=np.float32)
    return painted
