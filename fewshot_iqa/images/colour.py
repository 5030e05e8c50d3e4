"""Pixels in the colours of sRGB, whatever a file says they are in."""

from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from .primaries import described_profile

GRID, SAME = 17, 2  # values of each channel that tell whether a profile is sRGB's, and how far these may be off, of 255


def to_srgb(image: Image.Image) -> Image.Image:
    """An 8-bit image in sRGB: RGB, or RGBA where it has transparency. Its colours are converted by the ICC profile, or,
    without one, by the other colour metadata of the file. A profile that is broken, or of other channels, counts as
    none."""
    profile = image.info.get("icc_profile")
    clear = None
    if image.has_transparency_data:
        clear = image.convert("RGBA").getchannel("A")
        image = image.convert("L") if image.mode in ("LA", "La") else image.convert("RGBA").convert("RGB")
    elif image.mode not in ("L", "RGB", "CMYK", "LAB"):
        image = image.convert("RGB")
    if image.mode == "LAB":
        image = _through(image, None)
    elif profile:
        image = _through(image, profile)
    elif profile := described_profile(image.info):
        image = _through(image.convert("RGB"), profile)
    image = image if image.mode == "RGB" else image.convert("RGB")
    return image if clear is None else Image.merge("RGBA", (*image.split(), clear))


def _through(image: Image.Image, profile: bytes | None) -> Image.Image:
    transform = _transform(profile, image.mode)
    return image if transform is None else ImageCms.applyTransform(image, transform) or image


@lru_cache(maxsize=16)
def _transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From the colours of a profile, or of Lab itself, to sRGB; None where they are the same, or it cannot be used."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile)) if profile else ImageCms.createProfile("LAB")
        found = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode != "RGB":
            return found
        values = np.linspace(0, 255, GRID).round().astype(np.uint8)
        colours = np.stack(np.meshgrid(values, values, values), axis=-1).reshape(1, -1, 3)
        changed = np.asarray(ImageCms.applyTransform(Image.fromarray(colours), found))
        return found if np.abs(changed.astype(int) - colours).max() > SAME else None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
