"""The table: one row per type of distortion, KADID-10k's 25 and TID2013's 24, with five levels each."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..errors import InputError, nearest
from . import codec, color, filters, noise, spatial, tid2013, tone
from .draws import Draws


@dataclass(frozen=True)
class Distortion:
    """A type of distortion; `function(images (n, 3, H, W), amount, draws)` gives the distorted images.

    `torch_form` is whether all of it runs on a GPU; otherwise images are copied to the CPU and back.
    """

    id: int
    name: str
    function: Callable[[Tensor, float, Draws], Tensor]
    levels: tuple[float, float, float, float, float]
    torch_form: bool = True

    @property
    def data_set(self) -> str:
        """The data set that the type and its levels come from."""
        return "tid2013" if self.name.startswith("tid2013/") else "kadid10k"

    def amount(self, level: float) -> float:
        """The parameter at a level 1..5."""
        return at_level(self.levels, level)


FAMILIES = ("blur", "color", "compression", "noise", "brightness", "spatial", "sharpness")  # of KADID-10k's types
_FIRST = (1, 4, 9, 11, 16, 19, 24)  # id of each


def family(name: str | int) -> str:
    """The family of one of KADID-10k's types.

    >>> family("jpeg")
    'compression'
    """
    row = find(name)
    if row.data_set != "kadid10k":
        raise InputError(f"no family of '{row.name}' is known: KADID-10k does not have this type")
    return FAMILIES[bisect_right(_FIRST, row.id) - 1]


def at_level(values: Sequence[float], level: float) -> float:
    """Of five values at levels 1..5, the one at a whole level, or the linear interpolation between two.

    Examples:
        >>> at_level((43, 36, 24, 7, 4), 3)
        24
        >>> at_level((43, 36, 24, 7, 4), 3.5)
        15.5
    """
    if not 1 <= level <= 5:
        raise InputError(f"expected a level 1..5, got {level!r}")
    below = math.floor(level)
    low, high = values[below - 1], values[min(below, 4)]
    return low + (level - below) * (high - low)


LEVELS = (1, 2, 3, 4, 5)

DISTORTIONS: tuple[Distortion, ...] = (
    Distortion(1, "gaussian_blur", filters.gaussian_blur, (0.1, 0.5, 1, 2, 5)),
    Distortion(2, "lens_blur", filters.lens_blur, (1, 2, 4, 6, 8)),
    Distortion(3, "motion_blur", filters.motion_blur, (1, 2, 4, 6, 10)),
    Distortion(4, "color_diffusion", color.color_diffusion, (1, 3, 6, 8, 12)),
    Distortion(5, "color_shift", color.color_shift, (1, 3, 6, 8, 12)),
    Distortion(6, "color_quantization", color.color_quantization, (64, 48, 32, 16, 8), torch_form=False),
    Distortion(7, "color_saturation_hsv", color.color_saturation_hsv, (0.4, 0.2, 0.1, 0, -0.4)),
    Distortion(8, "color_saturation_lab", color.color_saturation_lab, (1, 2, 3, 6, 9)),
    Distortion(9, "jpeg2000", codec.jpeg2000, (16, 32, 45, 120, 400), torch_form=False),
    Distortion(10, "jpeg", codec.jpeg, (43, 36, 24, 7, 4)),
    Distortion(11, "white_noise", noise.white_noise, (0.001, 0.002, 0.003, 0.005, 0.01)),
    Distortion(12, "white_noise_ycbcr", noise.white_noise_ycbcr, (0.0001, 0.0005, 0.001, 0.002, 0.003)),
    Distortion(13, "impulse_noise", noise.impulse_noise, (0.001, 0.005, 0.01, 0.02, 0.03)),
    Distortion(14, "multiplicative_noise", noise.multiplicative_noise, (0.001, 0.005, 0.01, 0.02, 0.05)),
    Distortion(15, "denoise", noise.denoise, (0.01, 0.03, 0.05, 0.1, 0.15), torch_form=False),
    Distortion(16, "brighten", tone.brighten, (0.1, 0.2, 0.4, 0.7, 1.1)),
    Distortion(17, "darken", tone.darken, (0.05, 0.1, 0.2, 0.4, 0.8)),
    Distortion(18, "mean_shift", tone.mean_shift, (0.15, 0.08, 0, -0.08, -0.15)),
    Distortion(19, "jitter", spatial.jitter, (0.05, 0.1, 0.2, 0.5, 1)),
    Distortion(20, "non_eccentricity_patch", spatial.non_eccentricity_patch, (20, 40, 60, 80, 100)),
    Distortion(21, "pixelate", spatial.pixelate, (0.01, 0.05, 0.1, 0.2, 0.5)),
    Distortion(22, "quantization", tone.quantization, (20, 16, 13, 10, 7)),
    Distortion(23, "color_block", spatial.color_block, (2, 4, 6, 8, 10)),
    Distortion(24, "high_sharpen", filters.high_sharpen, (1, 2, 3, 6, 12)),
    Distortion(25, "contrast_change", tone.contrast_change, (0.3, 0.15, 0, -0.4, -0.6)),
)

# Where the levels of TID2013 are not published (all but those of white noise), they are chosen so that the median
# PSNR over photographs takes the published steps of about 33, 30, 27, 24 and 21 dB; tests measure that.
TID2013: tuple[Distortion, ...] = (
    Distortion(1, "tid2013/additive_noise", noise.white_noise, (0.0005, 0.001, 0.002, 0.004, 0.008)),
    Distortion(2, "tid2013/color_noise", tid2013.color_noise, (0.00006, 0.00012, 0.00025, 0.00053, 0.0011)),
    Distortion(3, "tid2013/correlated_noise", tid2013.correlated_noise, (0.0005, 0.001, 0.002, 0.004, 0.008)),
    Distortion(4, "tid2013/masked_noise", tid2013.masked_noise, (0.0005, 0.001, 0.002, 0.004, 0.008)),
    Distortion(5, "tid2013/high_frequency_noise", tid2013.high_frequency_noise, (0.0005, 0.001, 0.002, 0.004, 0.008)),
    Distortion(6, "tid2013/impulse_noise", noise.impulse_noise, (0.0015, 0.003, 0.006, 0.012, 0.024)),
    Distortion(7, "tid2013/quantization_noise", tid2013.quantization_noise, (0.0775, 0.1095, 0.155, 0.219, 0.31)),
    Distortion(8, "tid2013/gaussian_blur", filters.gaussian_blur, (0.83, 1.2, 1.8, 3, 7.2)),
    Distortion(9, "tid2013/denoise", noise.denoise, (0.0022, 0.0078, 0.023, 0.048, 0.095), torch_form=False),
    Distortion(10, "tid2013/jpeg", codec.jpeg, (57, 22, 10, 5, 2)),
    Distortion(11, "tid2013/jpeg2000", codec.jpeg2000, (28, 50, 100, 230, 800), torch_form=False),
    Distortion(12, "tid2013/jpeg_errors", tid2013.jpeg_errors, (3.2, 5.4, 12.5, 26, 56), torch_form=False),
    Distortion(13, "tid2013/jpeg2000_errors", tid2013.jpeg2000_errors, (4.8, 9.4, 15, 26, 34), torch_form=False),
    Distortion(14, "tid2013/non_eccentricity_patch", spatial.non_eccentricity_patch, (22, 40, 80, 170, 390)),
    Distortion(15, "tid2013/local_blocks", tid2013.local_blocks, (0.144, 0.205, 0.3, 0.456, 0.695)),
    Distortion(16, "tid2013/mean_shift", tid2013.intensity_shift, (0.0224, 0.0316, 0.0447, 0.0631, 0.0891)),
    Distortion(17, "tid2013/contrast", tid2013.contrast, (0.084, 0.119, 0.168, 0.24, 0.34)),
    Distortion(18, "tid2013/saturation", tid2013.saturation, (0.8, 0.72, 0.6, 0.44, 0.2)),
    Distortion(19, "tid2013/multiplicative_noise", tid2013.gaussian_speckle, (0.0022, 0.0045, 0.009, 0.018, 0.038)),
    Distortion(20, "tid2013/comfort_noise", tid2013.comfort_noise, (0.066, 0.116, 0.2, 0.44, 0.99)),
    Distortion(21, "tid2013/noisy_compression", tid2013.noisy_compression, (0.00035, 0.00078, 0.0018, 0.0039, 0.0086)),
    Distortion(22, "tid2013/color_dither", color.color_quantization, (180, 70, 24, 12, 6), torch_form=False),
    Distortion(23, "tid2013/chromatic_aberration", tid2013.chromatic_aberration, (0.55, 0.8, 1.3, 2.8, 7.3)),
    Distortion(24, "tid2013/sparse_sampling", tid2013.sparse_sampling, (0.56, 0.36, 0.2, 0.085, 0.022)),
)

_BY_NAME = {row.name: row for row in (*DISTORTIONS, *TID2013)}
_BY_ID = {str(row.id): row for row in DISTORTIONS} | {f"tid2013/{row.id}": row for row in TID2013}


def find(name_or_id: str | int) -> Distortion:
    """The table's row of a name or id: "jpeg", 10 or "10" of KADID-10k's, "tid2013/jpeg" or "tid2013/10".

    Examples:
        >>> find("jpeg").id, find(10).name, find("tid2013/10").name
        (10, 'jpeg', 'tid2013/jpeg')
    """
    key = str(name_or_id).removeprefix("kadid10k/")
    row = _BY_NAME.get(key) or _BY_ID.get(key)
    if row is not None:
        return row
    known = nearest(key, _BY_NAME) or (
        f" Known are the ids 1..{len(DISTORTIONS)} or {', '.join(row.name for row in DISTORTIONS)}, and the ids "
        f"tid2013/1..{len(TID2013)} or names such as {TID2013[0].name}"
    )
    raise InputError(f"no distortion is named {name_or_id!r}.{known}")
