"""Noise and its removal. Each maps images (n, 3, H, W) in [0, 1] to new ones."""

import math

import cv2
import numpy as np
from torch import Tensor

from .draws import Draws
from .ops import each, from_bytes, mix_channels, to_bytes

# Studio-range YCbCr (ITU-R BT.601), as MATLAB's rgb2ycbcr has it for floating-point images.
YCBCR = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
YCBCR_OFFSET = np.array([16, 128, 128]) / 255

# Non-local means: patches of 5 x 5, looked for within 11 x 11.
PATCH, SEARCH = 5, 11


def white_noise(images: Tensor, variance: float, draws: Draws) -> Tensor:
    """Add Gaussian noise of `variance` to R, G and B."""
    return normal_like(images, draws).mul_(math.sqrt(variance)).add_(images).clamp_(0, 1)


def white_noise_ycbcr(images: Tensor, variance: float, draws: Draws) -> Tensor:
    """Add Gaussian noise of `variance` to Y, Cb and Cr."""
    ycbcr = white_noise(mix_channels(images, YCBCR, YCBCR_OFFSET), variance, draws)
    inverse = np.linalg.inv(YCBCR)
    return mix_channels(ycbcr, inverse, -inverse @ YCBCR_OFFSET).clamp_(0, 1)


def impulse_noise(images: Tensor, density: float, draws: Draws) -> Tensor:
    """Set a share `density` of all samples to 0 or 1, each half of the time (salt and pepper)."""
    draw = uniform_like(images, draws)
    return images.masked_fill(draw < density, 1).masked_fill_(draw < density / 2, 0)


def multiplicative_noise(images: Tensor, variance: float, draws: Draws) -> Tensor:
    """Speckle: I + n * I, with n uniform of mean 0 and `variance`."""
    noise = uniform_like(images, draws).sub_(0.5).mul_(math.sqrt(12 * variance))
    return noise.add_(1).mul_(images).clamp_(0, 1)


def denoise(images: Tensor, variance: float, draws: Draws) -> Tensor:
    """Add Gaussian noise of `variance`, then denoise each channel by non-local means.

    Replaces the DnCNN of the original generator; both also remove fine texture.
    """
    strength = 255 * math.sqrt(variance)

    def clean(pixels: np.ndarray) -> np.ndarray:
        return cv2.merge(
            [cv2.fastNlMeansDenoising(plane, None, strength, PATCH, SEARCH) for plane in cv2.split(pixels)]
        )

    return from_bytes(each(to_bytes(white_noise(images, variance, draws)), clean))


def normal_like(images: Tensor, draws: Draws) -> Tensor:
    """Standard normal numbers, one per sample, in channels-last order."""
    channels, height, width = images.shape[1:]
    return draws.normal(height, width, channels).permute(0, 3, 1, 2)


def uniform_like(images: Tensor, draws: Draws) -> Tensor:
    """Uniform numbers in [0, 1), one per sample, in channels-last order."""
    channels, height, width = images.shape[1:]
    return draws.uniform(height, width, channels).permute(0, 3, 1, 2)
