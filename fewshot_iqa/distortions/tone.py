"""Distortions of tone. Each maps images (n, 3, H, W) in [0, 1] to new ones."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.interpolate import CubicSpline
from torch import Tensor

from .draws import Draws
from .ops import lab_to_rgb, rgb_to_lab, to_bytes

Points = tuple[tuple[float, float], ...]

# Fine enough that rounding to the table stays below a hundredth of an 8-bit step.
TABLE_SIZE = 1 << 16
GREYS = 256


def brighten(images: Tensor, amount: float, draws: Draws) -> Tensor:
    """Lift the mid-tones: two parts of a curve on R, G, B and one part of the same curve on lightness."""
    curve = ((0.5, 0.5 + amount / 2),)
    lab = rgb_to_lab(images)
    lab[:, :1] = apply_curve(lab[:, :1] / 100, curve) * 100
    return apply_curve(images, curve).mul_(2).add_(lab_to_rgb(lab)).div_(3)


def darken(images: Tensor, amount: float, draws: Draws) -> Tensor:
    """Lower the mid-tones of R, G and B."""
    return apply_curve(images, ((0.5, 0.5 - amount / 2),))


def mean_shift(images: Tensor, amount: float, draws: Draws) -> Tensor:
    """Add `amount` to every sample and clip."""
    return (images + amount).clamp_(0, 1)


def contrast_change(images: Tensor, amount: float, draws: Draws) -> Tensor:
    """Bend the tone curve at .3 and .7: more contrast for a positive `amount`, less for a negative one."""
    return apply_curve(images, ((0.3, 0.25 - amount / 4), (0.5, 0.5), (0.7, 0.75 + amount / 4)))


def quantization(images: Tensor, thresholds: float, draws: Draws) -> Tensor:
    """Quantise all samples alike at `thresholds` Otsu thresholds t, to the values 0, t2, t3, ..., 1."""
    samples = to_bytes(images).flatten(1).long()
    histograms = torch.zeros(len(images), GREYS, device=images.device, dtype=torch.float64)
    histograms.scatter_add_(1, samples, torch.ones_like(samples, dtype=torch.float64))
    edges = otsu_thresholds(histograms, round(thresholds))
    values = F.pad(edges[:, 1:] / (GREYS - 1), (1, 0)).float()
    values = F.pad(values, (0, 1), value=1.0)
    greys = torch.arange(GREYS, device=images.device).expand(len(images), -1).contiguous()
    table = values.gather(1, torch.searchsorted(edges, greys))
    return table.gather(1, samples).view(images.shape)


def apply_curve(values: Tensor, inner: Points) -> Tensor:
    """Send values in [0, 1] through the spline over (0, 0), the `inner` points and (1, 1)."""
    index = values.clamp(0, 1).mul_(TABLE_SIZE - 1).round_().long().clamp_(0, TABLE_SIZE - 1)
    return torch.take(curve_table(inner).to(values.device), index)


@lru_cache(maxsize=32)
def curve_table(inner: Points) -> Tensor:
    """(TABLE_SIZE,) float32: the not-a-knot cubic spline over the points at even steps of [0, 1], clipped."""
    x, y = zip((0.0, 0.0), *inner, (1.0, 1.0), strict=True)
    table = np.clip(CubicSpline(x, y)(np.linspace(0, 1, TABLE_SIZE)), 0, 1).astype(np.float32)
    return torch.from_numpy(table)


def otsu_thresholds(histograms: Tensor, count: int) -> Tensor:
    """(n, count) ascending bins b that split (n, bins) after b so that the between-class variance is largest.

    Exact, by dynamic programming over (class, last bin): bins * bins * count steps instead of bins ** count.
    """
    bins = histograms.shape[1]
    weight = F.pad(histograms.cumsum(1), (1, 0))
    moment = F.pad((histograms * torch.arange(bins, device=histograms.device)).cumsum(1), (1, 0))
    mass = weight[:, None, :] - weight[:, :, None]
    # gain[n, i, j]: what the class of bins i..j-1 contributes; a class without bins is forbidden.
    gain = (moment[:, None, :] - moment[:, :, None]).square() / mass.clamp(min=1e-12)
    gain = gain.masked_fill(torch.ones_like(gain[0], dtype=torch.bool).tril(), -torch.inf)
    best = gain[:, 0]
    origins = []
    for _ in range(count):
        best, origin = (best[:, :, None] + gain).max(dim=1)
        origins.append(origin)
    end = torch.full((len(histograms), 1), bins, device=histograms.device)
    edges = []
    for origin in reversed(origins):
        end = origin.gather(1, end)
        edges.append(end - 1)
    return torch.cat(edges[::-1], dim=1)
