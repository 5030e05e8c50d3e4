"""Lossy compression. Every one maps (H, W, 3) float32 RGB in [0, 1] to a new (H, W, 3) float32 array."""

import io
from typing import Any

import numpy as np
from PIL import Image


def to_bytes(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) float in [0, 1] to uint8, rounded."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def from_bytes(picture: Image.Image) -> np.ndarray:
    """An RGB picture to (H, W, 3) float32 in [0, 1]."""
    return np.asarray(picture, dtype=np.float32) / np.float32(255)


def jpeg2000(image: np.ndarray, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """JPEG 2000 at compression ratio `ratio`, with the lossy 9/7 wavelet."""
    return round_trip(image, format="JPEG2000", quality_mode="rates", quality_layers=[ratio], irreversible=True)


def jpeg(image: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    """Baseline JPEG at `quality`, chroma at half resolution."""
    return round_trip(image, format="JPEG", quality=int(quality), subsampling="4:2:0")


def round_trip(image: np.ndarray, **options: Any) -> np.ndarray:
    """Encode (H, W, 3) with Pillow's `options` and decode the result."""
    stream = io.BytesIO()
    Image.fromarray(to_bytes(image)).save(stream, **options)
    with Image.open(stream) as picture:
        return from_bytes(picture.convert("RGB"))
