"""The 25 distortions of KADID-10k at five levels each: pure, seeded, one row of a table each.

Parameters and level order are those of the KADID-10k generator. Levels are no common scale of severity:
types 5, 18 and 25 are not ordered by it, and level 3 of mean_shift changes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, nearest
from .codec import jpeg, jpeg2000
from .color import (
    color_diffusion,
    color_quantization,
    color_saturation_hsv,
    color_saturation_lab,
    color_shift,
)
from .filters import gaussian_blur, high_sharpen, lens_blur, motion_blur
from .noise import denoise, impulse_noise, multiplicative_noise, white_noise, white_noise_ycbcr
from .spatial import color_block, jitter, non_eccentricity_patch, pixelate
from .tone import brighten, contrast_change, darken, mean_shift, quantization

__all__ = ["DISTORTIONS", "Distortion", "distort", "distort_batch", "find"]

# A color block must fit.
SMALLEST_SIDE = 32
# A range below half an 8-bit step is a flat image: stretching it would show nothing but rounding errors.
FLAT = 0.5 / 255


@dataclass(frozen=True)
class Distortion:
    """A type of distortion: `function(image (H, W, 3), levels[level - 1], rng)` gives the distorted image."""

    id: int
    name: str
    function: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
    levels: tuple[float, float, float, float, float]


DISTORTIONS: tuple[Distortion, ...] = (
    Distortion(1, "gaussian_blur", gaussian_blur, (0.1, 0.5, 1, 2, 5)),
    Distortion(2, "lens_blur", lens_blur, (1, 2, 4, 6, 8)),
    Distortion(3, "motion_blur", motion_blur, (1, 2, 4, 6, 10)),
    Distortion(4, "color_diffusion", color_diffusion, (1, 3, 6, 8, 12)),
    Distortion(5, "color_shift", color_shift, (1, 3, 6, 8, 12)),
    Distortion(6, "color_quantization", color_quantization, (64, 48, 32, 16, 8)),
    Distortion(7, "color_saturation_hsv", color_saturation_hsv, (0.4, 0.2, 0.1, 0, -0.4)),
    Distortion(8, "color_saturation_lab", color_saturation_lab, (1, 2, 3, 6, 9)),
    Distortion(9, "jpeg2000", jpeg2000, (16, 32, 45, 120, 400)),
    Distortion(10, "jpeg", jpeg, (43, 36, 24, 7, 4)),
    Distortion(11, "white_noise", white_noise, (0.001, 0.002, 0.003, 0.005, 0.01)),
    Distortion(12, "white_noise_ycbcr", white_noise_ycbcr, (0.0001, 0.0005, 0.001, 0.002, 0.003)),
    Distortion(13, "impulse_noise", impulse_noise, (0.001, 0.005, 0.01, 0.02, 0.03)),
    Distortion(14, "multiplicative_noise", multiplicative_noise, (0.001, 0.005, 0.01, 0.02, 0.05)),
    Distortion(15, "denoise", denoise, (0.01, 0.03, 0.05, 0.1, 0.15)),
    Distortion(16, "brighten", brighten, (0.1, 0.2, 0.4, 0.7, 1.1)),
    Distortion(17, "darken", darken, (0.05, 0.1, 0.2, 0.4, 0.8)),
    Distortion(18, "mean_shift", mean_shift, (0.15, 0.08, 0, -0.08, -0.15)),
    Distortion(19, "jitter", jitter, (0.05, 0.1, 0.2, 0.5, 1)),
    Distortion(20, "non_eccentricity_patch", non_eccentricity_patch, (20, 40, 60, 80, 100)),
    Distortion(21, "pixelate", pixelate, (0.01, 0.05, 0.1, 0.2, 0.5)),
    Distortion(22, "quantization", quantization, (20, 16, 13, 10, 7)),
    Distortion(23, "color_block", color_block, (2, 4, 6, 8, 10)),
    Distortion(24, "high_sharpen", high_sharpen, (1, 2, 3, 6, 12)),
    Distortion(25, "contrast_change", contrast_change, (0.3, 0.15, 0, -0.4, -0.6)),
)
_BY_NAME = {row.name: row for row in DISTORTIONS}
_BY_ID = {row.id: row for row in DISTORTIONS}


def find(name_or_id: str | int) -> Distortion:
    """The table's row of a name or of an id 1..25."""
    row = _BY_NAME.get(name_or_id) if isinstance(name_or_id, str) else _BY_ID.get(name_or_id)
    if row is not None:
        return row
    raise InputError(
        f"no distortion is named {name_or_id!r}.{nearest(str(name_or_id), _BY_NAME)} "
        f"Known are the ids 1..{len(DISTORTIONS)} and {', '.join(_BY_NAME)}"
    )


def distort(image: Tensor, name: str | int, level: int, *, generator: torch.Generator) -> Tensor:
    """Distort an image (3, H, W), float in [0, 1], sides of 32 or more, at level 1..5.

    Gives a new tensor of the same shape, dtype and device, in [0, 1]; the image itself stays as it is.
    Before and after the distortion the minimum and maximum over all channels are mapped to 0 and 1, as
    KADID-10k's generator does. All randomness comes from `generator`; every call advances it by one draw.
    """
    row = find(name)
    _check(image, level)
    seed = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
    pixels = image.detach().permute(1, 2, 0).to("cpu", torch.float32, copy=True).contiguous().numpy()
    distorted = row.function(_stretch(pixels), row.levels[level - 1], np.random.default_rng(seed))
    result = np.clip(_stretch(distorted), 0, 1).astype(np.float32, copy=False).transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(result)).to(image.device, image.dtype)


def distort_batch(
    images: Tensor,
    names: Sequence[str | int],
    levels: Sequence[int],
    *,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Distort images (B, 3, H, W), each with its own name, level and generator, exactly as `distort` does."""
    if images.ndim != 4:
        raise InputError(f"expected images (B, 3, H, W), got shape {tuple(images.shape)}")
    if not len(images) == len(names) == len(levels) == len(generators):
        raise InputError(
            f"{len(images)} images need as many names, levels and generators, "
            f"got {len(names)}, {len(levels)} and {len(generators)}"
        )
    distorted = torch.empty_like(images)
    for index, (name, level, generator) in enumerate(zip(names, levels, generators, strict=True)):
        distorted[index] = distort(images[index], name, level, generator=generator)
    return distorted


def _check(image: Tensor, level: int) -> None:
    """Refuse what `distort` cannot handle."""
    if image.ndim != 3 or image.shape[0] != 3:
        raise InputError(f"expected an image (3, H, W), got shape {tuple(image.shape)}")
    if not image.is_floating_point():
        raise InputError(f"expected a floating-point image in [0, 1], got {image.dtype}")
    if min(image.shape[1:]) < SMALLEST_SIDE:
        raise InputError(f"expected sides of at least {SMALLEST_SIDE} pixels, got {tuple(image.shape[1:])}")
    if level not in range(1, 6):
        raise InputError(f"expected a level 1..5, got {level!r}")


def _stretch(pixels: np.ndarray) -> np.ndarray:
    """Map minimum and maximum of (H, W, 3) to 0 and 1 (the generator's `mapmm`); a flat image stays."""
    low, high = float(pixels.min()), float(pixels.max())
    return (pixels - np.float32(low)) / np.float32(high - low) if high - low > FLAT else pixels
