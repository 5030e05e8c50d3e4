"""Lossy compression. Each maps images (n, 3, H, W) in [0, 1] to new ones."""

import io
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.fft import dct
from torch import Tensor

from .draws import Draws
from .ops import each, from_bytes, mix_channels, on_cpu, to_bytes

BLOCK = 8
BLOCK_DCT = torch.from_numpy(dct(np.eye(BLOCK), axis=0, norm="ortho").astype(np.float32))

# JFIF's full-range YCbCr (ITU-R BT.601), chroma around 0.
JFIF = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
# The quantisation tables of the JPEG standard's annex K, which libjpeg scales by its quality.
LUMA_STEPS = torch.tensor(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
CHROMA_STEPS = torch.full((BLOCK, BLOCK), 99)
CHROMA_STEPS[:4, :4] = torch.tensor([[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]])


def jpeg(images: Tensor, quality: float, draws: Draws) -> Tensor:
    """Baseline JPEG at `quality`, rounded to a whole one, chroma at half resolution."""
    samples = to_bytes(images)
    if not on_cpu(images):
        return jpeg_loss(samples, round(quality))
    return from_bytes(each(samples, lambda pixels: decode(encode_jpeg(pixels, round(quality)))))


def jpeg2000(images: Tensor, ratio: float, draws: Draws) -> Tensor:
    """JPEG 2000 at compression ratio `ratio`, with the lossy 9/7 wavelet."""
    return from_bytes(each(to_bytes(images), lambda pixels: decode(encode_2000(pixels, ratio))))


def encode_jpeg(pixels: np.ndarray, quality: int, restart: int = 0) -> bytes:
    """The JPEG file of (H, W, 3) uint8 RGB, with a marker to restart at after every `restart` blocks, if not 0."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_RST_INTERVAL, restart]
    return cv2.imencode(".jpg", bgr, options)[1].tobytes()


def encode_2000(pixels: np.ndarray, ratio: float) -> bytes:
    """The JPEG 2000 code stream of (H, W, 3) uint8 RGB."""
    stream = io.BytesIO()
    options: dict[str, Any] = {"quality_mode": "rates", "quality_layers": [ratio], "irreversible": True}
    Image.fromarray(pixels).save(stream, format="JPEG2000", no_jp2=True, **options)
    return stream.getvalue()


def decode(file: bytes) -> np.ndarray:
    """A JPEG or JPEG 2000 file to (H, W, 3) uint8 RGB."""
    with Image.open(io.BytesIO(file)) as picture:
        return np.array(picture.convert("RGB"))


def jpeg_loss(samples: Tensor, quality: int) -> Tensor:
    """What JPEG does to uint8 samples (n, 3, H, W), without the lossless part; float32 in [0, 1]."""
    height, width = samples.shape[2:]
    ycc = mix_channels(samples.float(), JFIF, np.array([-128.0, 0, 0])).round_()
    luma = quantize_blocks(ycc[:, :1], scaled_steps(LUMA_STEPS, quality))
    halves = F.avg_pool2d(_padded(ycc[:, 1:], 2), 2)
    # libjpeg rounds halves down and up in turn.
    halves[..., ::2] = (halves[..., ::2] + 0.25).floor_()
    halves[..., 1::2] = (halves[..., 1::2] + 0.5).floor_()
    # Bilinear enlargement by two is libjpeg's "fancy upsampling".
    chroma = F.interpolate(
        quantize_blocks(halves, scaled_steps(CHROMA_STEPS, quality)), scale_factor=2, mode="bilinear"
    )[:, :, :height, :width]
    inverse = np.linalg.inv(JFIF)
    rgb = mix_channels(torch.cat((luma, chroma), dim=1), inverse, inverse @ np.array([128.0, 0, 0]))
    return rgb.round_().clamp_(0, 255).div_(255)


def scaled_steps(steps: Tensor, quality: int) -> Tensor:
    """libjpeg's quantisation table at `quality` 1..100."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((steps * scale + 50) // 100).clamp(1, 255).float()


def quantize_blocks(planes: Tensor, steps: Tensor) -> Tensor:
    """Round the 8 x 8 DCT of (n, C, H, W) to multiples of `steps` (8, 8), samples again rounded and in -128..127."""
    steps = steps.to(planes.device)

    def quantize(blocks: Tensor) -> Tensor:
        # As libjpeg does: to whole eighths first, then half a step away from zero; ties are common.
        eighths = (blocks * 8).round_()
        return ((eighths.abs() + 4 * steps) / (8 * steps)).floor_() * eighths.sign() * steps

    return in_blocks(planes, quantize).round_().clamp_(-128, 127)


def in_blocks(planes: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Change the DCT coefficients (n, C, rows, columns, 8, 8) of the 8 x 8 blocks of (n, C, H, W)."""
    height, width = planes.shape[2:]
    padded = _padded(planes, BLOCK)
    basis = BLOCK_DCT.to(planes.device)
    blocks = padded.unflatten(3, (-1, BLOCK)).unflatten(2, (-1, BLOCK)).transpose(3, 4)
    changed = basis.T @ change(basis @ blocks @ basis.T) @ basis
    return changed.transpose(3, 4).reshape(padded.shape)[:, :, :height, :width]


def _padded(planes: Tensor, unit: int) -> Tensor:
    """Repeat the last column and row until both sides are multiples of `unit`."""
    height, width = planes.shape[2:]
    return F.pad(planes, (0, -width % unit, 0, -height % unit), mode="replicate")
