"""Distortions of tone. Every one maps (H, W, 3) float32 RGB in [0, 1] to a new (H, W, 3) float32 array."""

from functools import lru_cache

import numpy as np
from scipy.interpolate import CubicSpline

from .codec import to_bytes
from .filters import lab_to_rgb, rgb_to_lab

# Fine enough that rounding to the table stays below a hundredth of an 8-bit step.
TABLE_SIZE = 1 << 16
GREYS = 256


def brighten(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Lift the mid-tones: two parts of a curve on R, G, B and one part of the same curve on lightness."""
    curve = ((0.5, 0.5 + amount / 2),)
    lab = rgb_to_lab(image)
    lab[..., 0] = 100 * apply_curve(lab[..., 0] / 100, curve)
    return (2 * apply_curve(image, curve) + lab_to_rgb(lab)) / 3


def darken(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Lower the mid-tones of R, G and B."""
    return apply_curve(image, ((0.5, 0.5 - amount / 2),))


def mean_shift(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Add `amount` to every sample and clip."""
    return np.clip(image + np.float32(amount), 0, 1)


def contrast_change(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Bend the tone curve at .3 and .7: more contrast for a positive `amount`, less for a negative one."""
    return apply_curve(image, ((0.3, 0.25 - amount / 4), (0.5, 0.5), (0.7, 0.75 + amount / 4)))


def quantization(image: np.ndarray, thresholds: float, rng: np.random.Generator) -> np.ndarray:
    """Quantise all samples alike at `thresholds` Otsu thresholds t, to the values 0, t2, t3, ..., 1."""
    samples = to_bytes(image)
    edges = otsu_thresholds(np.bincount(samples.ravel(), minlength=GREYS), int(thresholds))
    values = np.concatenate([[0.0], edges[1:] / (GREYS - 1), [1.0]])
    table = values[np.searchsorted(edges, np.arange(GREYS))].astype(np.float32)
    return table[samples]


def apply_curve(values: np.ndarray, inner: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Send an array in [0, 1] through the spline over (0, 0), the `inner` points and (1, 1)."""
    index = np.rint(np.clip(values, 0, 1) * (TABLE_SIZE - 1)).astype(np.uint16)
    return curve_table(inner)[index]


@lru_cache(maxsize=32)
def curve_table(inner: tuple[tuple[float, float], ...]) -> np.ndarray:
    """(TABLE_SIZE,) float32: the not-a-knot cubic spline over the points at even steps of [0, 1], clipped."""
    x, y = zip((0.0, 0.0), *inner, (1.0, 1.0), strict=True)
    table = np.clip(CubicSpline(x, y)(np.linspace(0, 1, TABLE_SIZE)), 0, 1).astype(np.float32)
    table.setflags(write=False)
    return table


def otsu_thresholds(histogram: np.ndarray, count: int) -> np.ndarray:
    """(count,) ascending bins b, splitting a histogram after b so that the between-class variance is largest.

    Exact, by dynamic programming over (class, last bin): 256 x 256 x count steps instead of 256 ** count.
    """
    bins = len(histogram)
    weight = np.concatenate([[0.0], np.cumsum(histogram)])
    moment = np.concatenate([[0.0], np.cumsum(histogram * np.arange(bins))])
    mass = weight[None, :] - weight[:, None]
    # gain[i, j]: what the class of bins i..j-1 contributes; a class without bins is forbidden.
    gain = (moment[None, :] - moment[:, None]) ** 2 / np.maximum(mass, 1e-12)
    gain[np.tril_indices(bins + 1)] = -np.inf
    best = gain[0]
    origins = []
    for _ in range(count):
        reach = best[:, None] + gain
        origins.append(reach.argmax(axis=0))
        best = reach.max(axis=0)
    end, edges = bins, []
    for origin in reversed(origins):
        end = int(origin[end])
        edges.append(end - 1)
    return np.array(edges[::-1])
