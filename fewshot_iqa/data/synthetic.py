"""Clean photographs x distortions -> records labelled with human means."""

import math
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from itertools import permutations
from pathlib import Path

from torch import Tensor

from ..config import SyntheticTask, human_means
from ..distortions import SMALLEST_SIDE, at_level, find
from ..errors import InputError, nearest
from ..files import photographs_in
from ..rng import permutation
from ..types import Record, Scale

OPINION = Scale(worst=1.0, best=5.0)  # KADID-10k's scale
IDENTITY = ("mean_shift", 3)  # the cell of KADID-10k that changes nothing

# Photographs that ship inside the wheels of the dependencies, so that nothing need be downloaded.
_WHEELS = {
    "astronaut": "skimage/data/astronaut.png",
    "chelsea": "skimage/data/chelsea.png",
    "coffee": "skimage/data/coffee.png",
    "motorcycle": "skimage/data/motorcycle_left.png",
    "rocket": "skimage/data/rocket.jpg",
    "china": "sklearn/datasets/images/china.jpg",
    "flower": "sklearn/datasets/images/flower.jpg",
    "grace_hopper": "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
}


def photographs(task: SyntheticTask) -> list[Path]:
    """The clean photographs of a task: its folder, or the named ones from the dependencies."""
    if task.root is not None:
        return photographs_in(task.root)
    if not task.photographs:
        raise InputError("this task needs clean photographs: give --images FOLDER")
    return [wheel_photograph(name) for name in task.photographs]


def synthetic_records(task: SyntheticTask) -> list[Record]:
    """Every photograph x distortion (and compound) x level; the rating is what people think of (distortion, level)."""
    names = [find(name).name for name in task.distortions] if task.distortions else list(human_means())
    held = {find(name).name for name in task.hold_out}
    kinds = [(name,) for name in names] + _compounds([name for name in names if name not in held], task.compounds)
    # at a compound's fifth level each part is at its third
    cells = [
        ("+".join(parts), level, tuple((name, level if len(parts) == 1 else (1 + level) / 2) for name in parts))
        for parts in kinds
        for level in task.levels
    ]
    rated = [(*cell, OPINION.rating(composed_quality(cell[2]))) for cell in cells]
    return [
        Record(path, rating, str(path), kind, level, apply=apply)
        for path in photographs(task)
        for kind, level, apply, rating in rated
    ]


def _compounds(names: Sequence[str], count: int) -> list[tuple[str, ...]]:
    """`count` pairs of distortions, one after the other; the same ones each time."""
    pairs: list[tuple[str, ...]] = list(permutations(names, 2))
    if count > len(pairs):
        raise InputError(f"task.compounds is {count}; {len(names)} distortions make {len(pairs)} pairs")
    return [pairs[i] for i in permutation(len(pairs), 0, "compounds")[:count]]


def human_opinion(name: str | int, level: float) -> float | None:
    """KADID-10k's mean opinion (1 bad .. 5 excellent) of a distortion, linear between levels; None for other types."""
    means = human_means().get(find(name).name)
    return None if means is None else at_level(means, level)


def human_quality(name: str | int, level: float) -> float:
    """The quality, 0 bad to 1 excellent, that people give a picture with a KADID-10k distortion at a level 1..5.

    It is the mean over KADID's 81 references, whatever the picture, linear between whole levels. InputError for a
    type that KADID-10k lacks.
    """
    return OPINION.quality(_rating(name, level))


def composed_quality(steps: Iterable[tuple[str, float]]) -> float:
    """The quality after several distortions, taken as the product of what each alone leaves of a clean picture's."""
    steps = list(steps)
    if len(steps) == 1:
        return human_quality(*steps[0])
    clean = human_quality(*IDENTITY)
    return clean * math.prod(min(human_quality(*step) / clean, 1.0) for step in steps)


def _rating(name: str | int, level: float) -> float:
    opinion = human_opinion(name, level)
    if opinion is None:
        raise InputError(f"people's opinion of '{find(name).name}' is not known: KADID-10k does not have this type")
    return opinion


def distortable(image: Tensor, path: Path) -> Tensor:
    """The image (3, H, W) read from `path` itself; InputError where it is too small to be distorted."""
    if min(image.shape[1:]) < SMALLEST_SIDE:
        raise InputError(f"{path}: too small to distort: {SMALLEST_SIDE} pixels a side are the least")
    return image


def wheel_photograph(name: str) -> Path:
    """The path of a photograph that ships inside a dependency's wheel."""
    if name not in _WHEELS:
        raise InputError(f"no photograph '{name}' ships with the dependencies.{nearest(name, _WHEELS)}")
    package, _, rest = _WHEELS[name].partition("/")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"the photograph '{name}' ships with {package}, which is not installed")
    return Path(spec.submodule_search_locations[0]) / rest
