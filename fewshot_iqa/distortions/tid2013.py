"""The types that TID2013 has and KADID-10k has not. Each maps images (n, 3, H, W) in [0, 1] to new ones."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .codec import JFIF, decode, encode_2000, encode_jpeg, in_blocks
from .draws import Draws
from .noise import normal_like, white_noise
from .ops import displace, each, from_bytes, gaussian, mix_channels, to_bytes
from .spatial import place_blocks

MARKER = 255
HEADER = 60  # bytes after a stream's marker that no error hits: without them nothing can be decoded
ATTEMPTS = 8  # to damage a file so that it shows and can still be decoded
BLOCKS = 16  # per 512 x 384 pixels, TID2013's size of an image


def color_noise(images: Tensor, variance: float, draws: Draws) -> Tensor:
    """Gaussian noise in YCbCr: `variance` in Y, four times as much in Cb and Cr."""
    noise = normal_like(images, draws)
    noise[:, 1:] *= 2
    rgb_noise = mix_channels(noise, np.linalg.inv(JFIF), np.zeros(3))
    return images + math.sqrt(variance) * rgb_noise


def correlated_noise(images: Tensor, variance: float, draws: Draws) -> Tensor:
    """Gaussian noise of `variance` whose neighbouring samples resemble each other: white noise blurred by 1 pixel."""
    return images + math.sqrt(variance) * _unit(gaussian(normal_like(images, draws), 1.0))


def masked_noise(images: Tensor, variance: float, draws: Draws) -> Tensor:
    """Gaussian noise of mean `variance`, its deviation in proportion to the local contrast that hides it."""
    mean = gaussian(images, 3.0)
    contrast = (gaussian(images.square(), 3.0) - mean.square()).clamp(min=0).mean(1, keepdim=True)
    contrast = contrast / _mean(contrast).clamp(min=1e-5)
    return images + math.sqrt(variance) * contrast.sqrt() * normal_like(images, draws)


def high_frequency_noise(images: Tensor, variance: float, draws: Draws) -> Tensor:
    """Gaussian noise of `variance` without its low frequencies: white noise less its blur by 1 pixel."""
    noise = normal_like(images, draws)
    return images + math.sqrt(variance) * _unit(noise - gaussian(noise, 1.0))


def quantization_noise(images: Tensor, step: float, draws: Draws) -> Tensor:
    """Round every sample to a multiple of `step`."""
    return (images / step).round() * step


def gaussian_speckle(images: Tensor, variance: float, draws: Draws) -> Tensor:
    """Speckle: I + n * I, with Gaussian n of `variance`."""
    return images + images * math.sqrt(variance) * normal_like(images, draws)


def local_blocks(images: Tensor, strength: float, draws: Draws) -> Tensor:
    """Shift the colour of 32 x 32 blocks, 16 in TID2013's 512 x 384, each by its own amount up to `strength`."""
    count = max(1, round(BLOCKS * images.shape[2] * images.shape[3] / (512 * 384)))
    shifted = images.clone()
    for image, blocks in zip(shifted, place_blocks(images, count, draws), strict=True):
        for area, color in blocks:
            image[area] += strength * (2 * color - 1)
    return shifted


def intensity_shift(images: Tensor, amount: float, draws: Draws) -> Tensor:
    """Add or subtract `amount`, with equal probability."""
    return images + amount * _sign(draws)


def contrast(images: Tensor, amount: float, draws: Draws) -> Tensor:
    """Raise or lower the distance from the image's mean by the share `amount`, with equal probability."""
    return images + amount * _sign(draws) * (images - _mean(images))


def saturation(images: Tensor, factor: float, draws: Draws) -> Tensor:
    """Scale the chroma of YCbCr by `factor`."""
    return mix_channels(images, np.linalg.inv(JFIF) @ np.diag([1, factor, factor]) @ JFIF, np.zeros(3))


def comfort_noise(images: Tensor, strength: float, draws: Draws) -> Tensor:
    """Give the DCT coefficients of 8 x 8 blocks that are smaller than `strength` a random sign, block means excepted.

    As coders do that send no small coefficients and let the decoder fill in noise of the same energy.
    """

    def fill(blocks: Tensor) -> Tensor:
        flip = draws.uniform(*blocks.shape[1:]) < 0.5
        flip &= blocks.abs() < strength
        flip[..., 0, 0] = False
        return torch.where(flip, -blocks, blocks)

    return in_blocks(images, fill)


def noisy_compression(images: Tensor, variance: float, draws: Draws) -> Tensor:
    """Add Gaussian noise of `variance`, then compress: DCT coefficients of 8 x 8 blocks in steps of 3.5 deviations."""
    step = 3.5 * math.sqrt(variance)
    return in_blocks(white_noise(images, variance, draws), lambda blocks: (blocks / step).round() * step)


def chromatic_aberration(images: Tensor, amount: float, draws: Draws) -> Tensor:
    """Move red and blue by `amount` pixels to opposite sides, in a random direction, and blur them by half of it."""
    angle = draws.uniform(1, 1, 1) * (2 * math.pi)
    shift = torch.cat((angle.cos(), angle.sin()), dim=1) * amount
    field = shift.expand(-1, 2, *images.shape[2:])
    red, green, blue = images.split(1, dim=1)
    moved = (gaussian(displace(plane, side), amount / 2) for plane, side in ((red, field), (blue, -field)))
    return torch.cat((next(moved), green, next(moved)), dim=1)


def sparse_sampling(images: Tensor, share: float, draws: Draws) -> Tensor:
    """Keep a random `share` of the pixels, and fill in the others with the mean of those near by."""
    height, width = images.shape[2:]
    kept = (draws.uniform(1, height, width) < share).float()
    known = images * kept
    spread = 0.5 / math.sqrt(share)
    weight = gaussian(kept, spread)
    filled = gaussian(known, spread) / weight.clamp(min=1e-6)
    # Far from any sample, a wider mean.
    wide = gaussian(known, 4 * spread) / gaussian(kept, 4 * spread).clamp(min=1e-6)
    return torch.where(kept > 0, images, torch.where(weight > 1e-3, filled, wide))


def jpeg_errors(images: Tensor, rate: float, draws: Draws) -> Tensor:
    """Flip `rate` bits per 100,000 pixels in a JPEG file of quality 85; restart markers limit each one's damage."""
    return _transmitted(images, rate, draws, lambda pixels: encode_jpeg(pixels, 85, restart=4), b"\xff\xda")


def jpeg2000_errors(images: Tensor, rate: float, draws: Draws) -> Tensor:
    """Flip `rate` bits per 100,000 pixels in a JPEG 2000 code stream of compression ratio 12."""
    return _transmitted(images, rate, draws, lambda pixels: encode_2000(pixels, 12), b"\xff\x93")


def _transmitted(
    images: Tensor, rate: float, draws: Draws, encode: Callable[[np.ndarray], bytes], marker: bytes
) -> Tensor:
    """Encode, flip bits after `marker` and the header behind it, decode; again where that is impossible or unseen."""
    count = max(1, round(rate * images.shape[2] * images.shape[3] / 100_000))
    places = iter(draws.uniform(ATTEMPTS, count).cpu().numpy())
    bits = iter(draws.integers([(0, 7)], ATTEMPTS * count).reshape(len(images), ATTEMPTS, count))

    def send(pixels: np.ndarray) -> np.ndarray:
        file = encode(pixels)
        intact = decode(file)
        start = file.index(marker) + HEADER
        for place, bit in zip(next(places), next(bits), strict=True):
            received = np.frombuffer(file, dtype=np.uint8).copy()
            body = received[min(start + len(file) // 10, len(file) - 3) : -2]
            at = (place * len(body)).astype(int)
            flipped = body[at] ^ (1 << bit).astype(np.uint8)
            # 255 begins a marker: none is made, and none is hit.
            safe = (body[at] != MARKER) & (body[at - 1] != MARKER) & (flipped != MARKER)
            body[at[safe]] = flipped[safe]
            try:
                damaged = decode(received.tobytes())
            except OSError:
                continue
            if not np.array_equal(damaged, intact):
                return damaged
        return intact

    return from_bytes(each(to_bytes(images), send))


def _sign(draws: Draws) -> Tensor:
    """1 or -1 per image."""
    return 1 - 2 * draws.uniform(1, 1, 1).round_()


def _unit(noise: Tensor) -> Tensor:
    return noise / _mean(noise.square()).sqrt()


def _mean(images: Tensor) -> Tensor:
    """Each image's mean, summed in float64: the same for any number of threads and images."""
    return images.mean((1, 2, 3), keepdim=True, dtype=torch.float64).to(images.dtype)
