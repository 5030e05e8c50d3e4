"""Training in bfloat16, where it pays: the hardware has it, the towers are wide, and gradients keep their direction."""

from collections.abc import Callable

import torch

from .regularize import cosine
from .types import Params

WIDE = 128  # the products of narrower towers are too small to gain
LEAST_COSINE = 0.999


def choose_bf16(
    wanted: bool | None, width: int, device: torch.device, gradients: Callable[[bool], Params] | None = None
) -> bool:
    """Whether to train a tower of `width` in bfloat16: as `wanted`; for None, where it pays and, if they are
    given, `gradients` keep their direction."""
    if wanted is not None:
        return wanted
    return pays_in_bf16(width, device) and (gradients is None or keeps_gradients(gradients))


def pays_in_bf16(width: int, device: torch.device) -> bool:
    """Whether training a tower of `width` is quicker in bfloat16."""
    return width >= WIDE and has_bf16(device)


def has_bf16(device: torch.device) -> bool:
    """Whether a device multiplies matrices of bfloat16 faster than of float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, lambda: False)() for name in tests)


def keeps_gradients(gradients: Callable[[bool], Params]) -> bool:
    """Whether `gradients(bf16)` has the direction that it has in float32, within a cosine of .999.

    Dropout is drawn alike in both.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)  # of each device
        exact = gradients(False)
        torch.manual_seed(0)
        found = cosine(exact, {name: value.to(exact[name]) for name, value in gradients(True).items()})
    return found >= LEAST_COSINE
