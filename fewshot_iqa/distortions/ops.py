"""Operators of the distortions, in two forms: OpenCV for tensors on the CPU, torch and kornia for others.

Images are (n, C, H, W) float32. On the CPU they come one at a time, in channels-last memory, which OpenCV
reads without a copy.
"""

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError

# The border rule of MATLAB's imfilter(..., 'replicate') and imgaussfilt, which made KADID-10k.
BORDER = cv2.BORDER_REPLICATE

# CIE Lab and sRGB: where their curves turn linear, and XYZ, relative to the white of D65, to linear RGB.
LAB_BEND, GAMMA_BEND = 6 / 29, 0.0031308
_RGB_TO_XYZ = np.array([[0.412453, 0.35758, 0.180423], [0.212671, 0.71516, 0.072169], [0.019334, 0.119193, 0.950227]])
XYZ_TO_RGB = np.linalg.inv(_RGB_TO_XYZ / _RGB_TO_XYZ.sum(axis=1, keepdims=True))


def on_cpu(images: Tensor) -> bool:
    """Whether the OpenCV form applies."""
    return images.device.type == "cpu"


def each(images: Tensor, function: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """Apply a function of one (H, W, C) array to every image, on the CPU; the result is on the device of `images`."""
    arrays = (np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy()) for image in images)
    results = [torch.from_numpy(np.atleast_3d(function(array))).permute(2, 0, 1)[None] for array in arrays]
    return (results[0] if len(results) == 1 else torch.cat(results)).to(images.device)


def _kornia(module: str) -> Any:
    """A module of kornia, which only the forms for other devices need; InputError where it is not installed."""
    try:
        return import_module(f"kornia.{module}")
    except ModuleNotFoundError:
        raise InputError("distortions off the CPU need kornia: pip install 'fewshot-iqa[gpu]'") from None


def gaussian(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, cut off at two sigma as MATLAB's imgaussfilt does."""
    size = 2 * math.ceil(2 * sigma) + 1
    if on_cpu(images):
        return each(images, lambda pixels: cv2.GaussianBlur(pixels, (size, size), sigma, borderType=BORDER))
    return _kornia("filters").gaussian_blur2d(images, (size, size), (sigma, sigma), border_type="replicate")


def correlate(images: Tensor, kernels: Sequence[np.ndarray]) -> Tensor:
    """Correlate every image with its own kernel (K, K), K odd and the same for all."""
    if on_cpu(images):
        rest = iter(kernels)
        return each(images, lambda pixels: cv2.filter2D(pixels, -1, next(rest), borderType=BORDER))
    stacked = torch.from_numpy(np.stack(kernels)).to(images.device)
    return _kornia("filters").filter2d(images, stacked, border_type="replicate")


def rgb_to_lab(images: Tensor) -> Tensor:
    """RGB in [0, 1] to CIE Lab: L in 0..100, a and b in about -100..100."""
    if on_cpu(images):
        return each(images, lambda pixels: cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB))
    return _kornia("color").rgb_to_lab(images)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """CIE Lab to RGB, colours outside the gamut cut to [0, 1]."""
    if on_cpu(lab):
        return each(lab, lambda pixels: cv2.cvtColor(pixels, cv2.COLOR_LAB2RGB)).clamp_(0, 1)
    # kornia's inverse cuts off negative XYZ, and with it most of a strongly raised chroma.
    lightness, a, b = lab.split(1, dim=1)
    y = (lightness + 16) / 116
    f = torch.cat((y + a / 500, y, y - b / 200), dim=1)
    xyz = torch.where(f > LAB_BEND, f**3, 3 * LAB_BEND**2 * (f - 4 / 29))
    linear = mix_channels(xyz, XYZ_TO_RGB, np.zeros(3))
    curved = 1.055 * linear.clamp(min=GAMMA_BEND) ** (1 / 2.4) - 0.055
    return torch.where(linear > GAMMA_BEND, curved, 12.92 * linear).clamp_(0, 1)


def mix_channels(images: Tensor, matrix: np.ndarray, offset: np.ndarray) -> Tensor:
    """matrix (3, 3) times the channels of every pixel, plus offset (3,)."""
    if on_cpu(images):
        affine = np.column_stack([matrix, offset])
        return each(images, lambda pixels: cv2.transform(pixels, affine))
    # No product of matrices: GPUs may round its factors to ten bits.
    columns = torch.from_numpy(np.column_stack([matrix, offset])).to(images)[:, :, None, None].unbind(1)
    red, green, blue = images.split(1, dim=1)
    return columns[0] * red + columns[1] * green + columns[2] * blue + columns[3]


def displace(images: Tensor, shift: Tensor) -> Tensor:
    """Fetch every pixel, bilinearly, from where `shift` (n, 2, H, W) leads: x and y in pixels."""
    height, width = images.shape[-2:]
    y, x = (torch.arange(side, dtype=torch.float32, device=images.device) for side in (height, width))
    x, y = shift[:, 0] + x, shift[:, 1] + y[:, None]
    if on_cpu(images):
        maps = zip(x.numpy(), y.numpy(), strict=True)
        return each(images, lambda pixels: cv2.remap(pixels, *next(maps), cv2.INTER_LINEAR, borderMode=BORDER))
    grid = torch.stack((2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1), dim=-1)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=True)


def cut_extremes(values: Tensor, low: float, high: float) -> Tensor:
    """Clip each image to its own quantiles `low` and `high`."""
    flat = values.flatten(1)
    if on_cpu(values):
        bounds = torch.from_numpy(np.quantile(flat.numpy(), (low, high), axis=1)).to(values)
    else:
        ranked = flat.sort(dim=1).values
        places = torch.tensor((low, high), dtype=torch.float32, device=values.device) * (flat.shape[1] - 1)
        below = places.long()
        bounds = torch.lerp(ranked[:, below], ranked[:, (below + 1).clamp(max=flat.shape[1] - 1)], places - below).T
    lowest, highest = (bound.view(-1, 1, 1, 1) for bound in bounds)
    return values.clamp(lowest, highest)


def stretch(values: Tensor, flat: float = 0.0) -> Tensor:
    """Map each image's minimum and maximum to 0 and 1; one whose range is `flat` or less stays as it is."""
    low, high = values.amin((1, 2, 3), keepdim=True), values.amax((1, 2, 3), keepdim=True)
    keep = high - low <= flat
    return (values - low.masked_fill(keep, 0)).div_((high - low).masked_fill(keep, 1))


def to_bytes(images: Tensor) -> Tensor:
    """Float in [0, 1] to the nearest of 256 steps, uint8."""
    if on_cpu(images):
        return each(images, lambda pixels: cv2.convertScaleAbs(pixels, alpha=255))
    return (images * 255).round_().clamp_(0, 255).to(torch.uint8)


def from_bytes(images: Tensor) -> Tensor:
    """uint8 to float32 in [0, 1]."""
    return images.float().div_(255)
