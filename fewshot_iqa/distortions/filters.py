"""Blurs and sharpening. Each maps images (n, 3, H, W) in [0, 1] to new ones."""

import math

import numpy as np
from torch import Tensor

from .draws import Draws
from .ops import correlate, gaussian, lab_to_rgb, rgb_to_lab

SUPERSAMPLING = 16


def gaussian_blur(images: Tensor, sigma: float, draws: Draws) -> Tensor:
    """Gaussian blur of `sigma` pixels."""
    return gaussian(images, sigma)


def lens_blur(images: Tensor, radius: float, draws: Draws) -> Tensor:
    """Out-of-focus blur: the mean over a disk of `radius` pixels."""
    return correlate(images, [disk_kernel(radius)] * len(images))


def motion_blur(images: Tensor, length: float, draws: Draws) -> Tensor:
    """Camera motion of `length` pixels along a random direction, in whole degrees."""
    angles = draws.integers([(0, 180)], 1).ravel()
    return correlate(images, [line_kernel(length, math.radians(angle)) for angle in angles])


def high_sharpen(images: Tensor, amount: float, draws: Draws) -> Tensor:
    """Unsharp masking of the Lab lightness: L + amount * (L - blur(L, sigma 3))."""
    lab = rgb_to_lab(images)
    lightness = lab[:, :1]
    lab[:, :1] = lightness + amount * (lightness - gaussian(lightness, 3.0))
    return lab_to_rgb(lab)


def disk_kernel(radius: float) -> np.ndarray:
    """(K, K) kernel: the share of each pixel that a disk of `radius` covers, summing to 1."""
    half = math.ceil(radius - 0.5)
    size = 2 * half + 1
    offsets = (np.arange(size * SUPERSAMPLING) + 0.5) / SUPERSAMPLING - size / 2
    inside = offsets[:, None] ** 2 + offsets[None, :] ** 2 <= radius**2
    cover = inside.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING).mean(axis=(1, 3))
    return (cover / cover.sum()).astype(np.float32)


def line_kernel(length: float, angle: float) -> np.ndarray:
    """(K, K) kernel of an antialiased segment of `length` pixels at `angle` (radians), summing to 1."""
    reach = (max(length, 1.0) - 1) / 2
    half = math.ceil(reach)
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    along_x, along_y = math.cos(angle), -math.sin(angle)
    nearest = np.clip(x * along_x + y * along_y, -reach, reach)
    distance = np.hypot(x - nearest * along_x, y - nearest * along_y)
    weight = np.maximum(1 - distance, 0)
    return (weight / weight.sum()).astype(np.float32)
