"""Blurs and sharpening. Distortions map (H, W, 3) float32 RGB in [0, 1] to a new (H, W, 3) float32 array."""

import math

import cv2
import numpy as np

# The border rule of MATLAB's imfilter(..., 'replicate') and imgaussfilt, which made KADID-10k.
BORDER = cv2.BORDER_REPLICATE
SUPERSAMPLING = 16


def gaussian_blur(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur of `sigma` pixels."""
    return gaussian(image, sigma)


def lens_blur(image: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Out-of-focus blur: the mean over a disk of `radius` pixels."""
    return cv2.filter2D(image, -1, disk_kernel(radius), borderType=BORDER)


def motion_blur(image: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """Camera motion of `length` pixels along a random direction, in whole degrees."""
    angle = math.radians(int(rng.integers(0, 181)))
    return cv2.filter2D(image, -1, line_kernel(length, angle), borderType=BORDER)


def high_sharpen(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Unsharp masking of the Lab lightness: L + amount * (L - blur(L, sigma 3))."""
    lab = rgb_to_lab(image)
    lightness = np.ascontiguousarray(lab[..., 0])
    lab[..., 0] = lightness + amount * (lightness - gaussian(lightness, 3.0))
    return lab_to_rgb(lab)


def rgb_to_lab(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) RGB in [0, 1] to CIE Lab: L in 0..100, a and b in about -100..100."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2LAB)


def lab_to_rgb(lab: np.ndarray) -> np.ndarray:
    """(H, W, 3) CIE Lab to RGB, colours outside the gamut cut to [0, 1]."""
    return np.clip(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), 0, 1)


def gaussian(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of an (H, W) or (H, W, C) array, cut off at two sigma as MATLAB's imgaussfilt does."""
    size = 2 * math.ceil(2 * sigma) + 1
    return cv2.GaussianBlur(image, (size, size), sigma, borderType=BORDER)


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
