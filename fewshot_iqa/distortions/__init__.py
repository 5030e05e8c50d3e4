"""Distortions of images: KADID-10k's 25 types and TID2013's 24, pure, seeded, on the CPU and on GPUs.

Parameters and level order of the KADID-10k types are those of its generator. Levels are not a common scale of severity:
types 5, 18 and 25 are not ordered by severity, and level 3 of mean_shift changes nothing.
"""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from ..errors import InputError
from . import ops
from .draws import Draws
from .table import DISTORTIONS, FAMILIES, LEVELS, TID2013, Distortion, at_level, family, find

__all__ = [
    "DISTORTIONS",
    "FAMILIES",
    "LEVELS",
    "SMALLEST_SIDE",
    "TID2013",
    "Distortion",
    "at_level",
    "compose",
    "distort",
    "distort_batch",
    "family",
    "find",
]

SMALLEST_SIDE = 32  # pixels: a color block must fit
# A range of two 8-bit steps is a flat image: stretching it would show nothing but rounding errors.
FLAT = 2 / 255
SLACK = 1e-3  # tolerance beyond [0, 1], where resizing overshoots

Step = tuple[str | int, float]


def distort(image: Tensor, name: str | int, level: float, *, generator: torch.Generator) -> Tensor:
    """Distort an image (3, H, W), float in [0, 1], sides of 32 or more, at a level 1..5, whole or between.

    `name` is a type's name or id: "jpeg" or 10 for KADID-10k's, "tid2013/jpeg" or "tid2013/10" for TID2013's.
    Returns a new tensor of the same shape, dtype and device, in [0, 1]; the image is not changed.
    Before and after KADID's distortions the minimum and maximum over all channels are mapped to 0 and 1, as its
    generator does. All randomness comes from `generator`; every call advances it by one draw. InputError for an unknown
    name, a level outside 1..5, or an image of another shape, type or range.

    Examples:
        >>> image = torch.linspace(0, 1, 64).expand(3, 48, 64)
        >>> noisy = distort(image, "white_noise", 2.5, generator=torch.Generator().manual_seed(0))
        >>> noisy.shape, bool(0 <= noisy.min() <= noisy.max() <= 1)
        (torch.Size([3, 48, 64]), True)

        The same seed gives the same picture:

        >>> again = distort(image, "white_noise", 2.5, generator=torch.Generator().manual_seed(0))
        >>> torch.equal(noisy, again)
        True
    """
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3:
        raise InputError(f"expected a tensor (3, H, W), got {_described(image)}")
    return distort_batch(image[None], [name], [level], generators=[generator])[0]


def distort_batch(
    images: Tensor,
    names: Sequence[str | int],
    levels: Sequence[float],
    *,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Distort images (B, 3, H, W), each with its own name, level and generator, exactly as `distort` does.

    On the CPU, images are spread over as many threads as torch uses; elsewhere, images of the same type and level
    are distorted together.

    Examples:
        >>> images = torch.linspace(0, 1, 64).expand(2, 3, 48, 64)
        >>> generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
        >>> distort_batch(images, ["jpeg", "tid2013/color_noise"], [2, 4], generators=generators).shape
        torch.Size([2, 3, 48, 64])
    """
    _check(images, names, levels, generators)
    rows = [find(name) for name in names]
    amounts = [row.amount(level) for row, level in zip(rows, levels, strict=True)]
    seeds = [int(torch.randint(2**63 - 1, (), generator=g, device=g.device)) for g in generators]
    jobs: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, (row, amount) in enumerate(zip(rows, amounts, strict=True)):
        jobs[(index,) if ops.on_cpu(images) else (row, amount)].append(index)

    distorted = torch.empty_like(images, memory_format=torch.contiguous_format)
    inference = torch.is_inference_mode_enabled()  # which threads do not inherit

    def run(members: list[int]) -> None:
        draws = Draws([seeds[index] for index in members], images.device)
        with torch.inference_mode(inference), torch.autocast(images.device.type, enabled=False):
            result = _distorted(images[members].detach(), rows[members[0]], amounts[members[0]], draws)
            distorted[members] = result.to(images.dtype)

    threads = torch.get_num_threads()
    if ops.on_cpu(images) and min(len(jobs), threads) > 1:
        try:
            # Each worker on one thread; that sets the default of later threads too, hence the last line.
            with ThreadPoolExecutor(min(len(jobs), threads), initializer=torch.set_num_threads, initargs=(1,)) as pool:
                list(pool.map(run, jobs.values()))
        finally:
            torch.set_num_threads(threads)
    else:
        for members in jobs.values():
            run(members)
    return distorted


def compose(
    image: Tensor, steps: Sequence[Step], *, generator: torch.Generator, shuffle: bool = False
) -> tuple[Tensor, list[tuple[str, float]]]:
    """Distort an image (3, H, W) by several (name, level) steps, one after another.

    Returns the picture and the steps in the order in which they were applied: the given one, or with `shuffle` one
    drawn from `generator`.

    Examples:
        >>> image = torch.linspace(0, 1, 64).expand(3, 48, 64)
        >>> steps = [("lens_blur", 2), (11, 1), ("jpeg", 3.5)]
        >>> picture, applied = compose(image, steps, generator=torch.Generator().manual_seed(0))
        >>> applied
        [('lens_blur', 2), ('white_noise', 1), ('jpeg', 3.5)]
    """
    order: Sequence[int] = range(len(steps))
    if shuffle:
        order = torch.randperm(len(steps), generator=generator, device=generator.device).tolist()
    applied = [(find(steps[i][0]).name, steps[i][1]) for i in order]
    image = image.clone()
    for name, level in applied:
        image = distort(image, name, level, generator=generator)
    return image, applied


def _distorted(images: Tensor, row: Distortion, amount: float, draws: Draws) -> Tensor:
    """(n, 3, H, W), float32: between the min-max maps of KADID's generator where the row is from there."""
    layout = torch.channels_last if ops.on_cpu(images) else torch.contiguous_format
    images = images.to(torch.float32).contiguous(memory_format=layout)
    if row.data_set == "kadid10k":
        return ops.stretch(row.function(ops.stretch(images, FLAT), amount, draws), FLAT).clamp_(0, 1)
    return row.function(images.clamp(0, 1), amount, draws).clamp(0, 1)


def _check(
    images: Tensor, names: Sequence[str | int], levels: Sequence[float], generators: Sequence[torch.Generator]
) -> None:
    """InputError for input that `distort_batch` cannot handle."""
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"expected a tensor (B, 3, H, W), got {_described(images)}")
    if not images.is_floating_point():
        raise InputError(f"expected floating-point images in [0, 1], got {images.dtype}")
    if min(images.shape[2:]) < SMALLEST_SIDE:
        raise InputError(f"expected sides of at least {SMALLEST_SIDE} pixels, got {tuple(images.shape[2:])}")
    if not len(images) == len(names) == len(levels) == len(generators):
        raise InputError(
            f"{len(images)} images need as many names, levels and generators, "
            f"got {len(names)}, {len(levels)} and {len(generators)}"
        )
    # On a GPU this check would take longer than the distortion.
    if ops.on_cpu(images) and len(images) and not -SLACK <= images.amin() <= images.amax() <= 1 + SLACK:
        raise InputError(f"expected values in [0, 1], got {images.amin():g}..{images.amax():g}")


def _described(value: object) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
