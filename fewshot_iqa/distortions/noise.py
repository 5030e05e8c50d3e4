"""Noise and its removal. Distortions map (H, W, 3) float32 RGB in [0, 1] to a new array of that kind."""

import math
from itertools import product

import cv2
import numpy as np
from scipy.fft import dct

# Studio-range YCbCr (ITU-R BT.601), as MATLAB's rgb2ycbcr has it for floating-point images.
YCBCR = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
YCBCR_OFFSET = np.array([16, 128, 128]) / 255

BLOCK = 8
STRIDE = 2
_LINE_DCT = dct(np.eye(BLOCK, dtype=np.float32), axis=0, norm="ortho")
# (64, 64): the two-dimensional DCT of a flattened block as one matrix, so that all blocks are one product.
BLOCK_DCT = np.kron(_LINE_DCT, _LINE_DCT)
# Coefficients below this many standard deviations are taken for noise.
HARD_THRESHOLD = 2.7


def white_noise(image: np.ndarray, variance: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise of `variance` to R, G and B."""
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image + math.sqrt(variance) * noise, 0, 1)


def white_noise_ycbcr(image: np.ndarray, variance: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise of `variance` to Y, Cb and Cr."""
    ycbcr = white_noise(cv2.transform(image, np.column_stack([YCBCR, YCBCR_OFFSET])), variance, rng)
    inverse = np.linalg.inv(YCBCR)
    return np.clip(cv2.transform(ycbcr, np.column_stack([inverse, -inverse @ YCBCR_OFFSET])), 0, 1)


def impulse_noise(image: np.ndarray, density: float, rng: np.random.Generator) -> np.ndarray:
    """Set a share `density` of all samples to 0 or 1, each half of the time (salt and pepper)."""
    draw = rng.random(image.shape, dtype=np.float32)
    noisy = np.where(draw < density, np.float32(1), image)
    noisy[draw < density / 2] = 0
    return noisy


def multiplicative_noise(image: np.ndarray, variance: float, rng: np.random.Generator) -> np.ndarray:
    """Speckle: I + n * I, with n uniform of mean 0 and `variance`."""
    noise = rng.random(image.shape, dtype=np.float32) - np.float32(0.5)
    return np.clip(image + image * noise * math.sqrt(12 * variance), 0, 1)


def denoise(image: np.ndarray, variance: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise of `variance`, then remove what a denoiser takes for it from each channel."""
    return dct_denoise(white_noise(image, variance, rng), math.sqrt(variance))


def dct_denoise(image: np.ndarray, sigma: float) -> np.ndarray:
    """Hard-threshold the DCT of overlapping 8 x 8 blocks in each channel of (H, W, C); average the overlaps.

    Stands in for the DnCNN of the original generator: noise goes, and fine texture with it.
    """
    height, width = image.shape[:2]
    rows, columns = -(-height // BLOCK) + 1, -(-width // BLOCK) + 1
    tall, wide = rows * BLOCK, columns * BLOCK
    padded = cv2.copyMakeBorder(image, BLOCK, tall - height, BLOCK, wide - width, cv2.BORDER_REFLECT).transpose(2, 0, 1)
    total = np.zeros_like(padded)
    for down, right in product(range(0, BLOCK, STRIDE), repeat=2):
        window = np.s_[:, down : down + tall, right : right + wide]
        total[window] += threshold_blocks(padded[window], HARD_THRESHOLD * sigma)
    # Away from the border, which is cut off here, every sample lies in one block of each grid.
    mean = total[:, BLOCK : BLOCK + height, BLOCK : BLOCK + width] / (BLOCK // STRIDE) ** 2
    return np.clip(mean.transpose(1, 2, 0), 0, 1)


def threshold_blocks(planes: np.ndarray, threshold: float) -> np.ndarray:
    """Zero the DCT coefficients below `threshold` in every 8 x 8 block of (C, H, W); 8 divides H and W."""
    channels, height, width = planes.shape
    grid = (channels, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    blocks = planes.reshape(grid).transpose(0, 1, 3, 2, 4)
    coefficients = blocks.reshape(-1, BLOCK * BLOCK) @ BLOCK_DCT.T
    means = coefficients[:, 0].copy()
    coefficients *= np.abs(coefficients) >= threshold
    # The mean of a block is signal, however dark the block.
    coefficients[:, 0] = means
    return (coefficients @ BLOCK_DCT).reshape(blocks.shape).transpose(0, 1, 3, 2, 4).reshape(planes.shape)
