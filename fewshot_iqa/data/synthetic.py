"""Clean photographs x distortions -> records rated with KADID-10k's mean opinion scores (MOS)."""

import math
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from itertools import permutations
from pathlib import Path

from ..config import SyntheticTask, kadid_mos_table
from ..distortions import SMALLEST_SIDE, at_level, find
from ..errors import InputError, nearest
from ..files import photographs_in
from ..images import Picture
from ..rng import permutation
from ..types import Record, Scale

KADID_SCALE = Scale(worst=1.0, best=5.0)  # of KADID-10k's MOS
IDENTITY = ("mean_shift", 3)  # the distortion and level of KADID-10k that change nothing

# Photographs inside the packages of the dependencies: the demo needs no download.
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
    """The clean photographs of a task: those of its folder, or the named ones from the dependencies."""
    if task.root is not None:
        return photographs_in(task.root)
    if not task.photographs:
        raise InputError("this task needs clean photographs: give --images FOLDER")
    return [wheel_photograph(name) for name in task.photographs]


def synthetic_records(task: SyntheticTask) -> list[Record]:
    """Every photograph x distortion (and compound) x level, rated with the MOS of (distortion, level), 1 to 5."""
    names = [find(name).name for name in task.distortions] if task.distortions else list(kadid_mos_table())
    held = {find(name).name for name in task.hold_out}
    kinds = [(name,) for name in names] + _compounds([name for name in names if name not in held], task.compounds)
    # the parts of a compound have lower levels than the compound, as their effects add up: 3 each at level 5
    cells = [
        ("+".join(parts), level, tuple((name, level if len(parts) == 1 else (1 + level) / 2) for name in parts))
        for parts in kinds
        for level in task.levels
    ]
    rated = [(*cell, KADID_SCALE.rating(composed_quality(cell[2]))) for cell in cells]
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


def kadid_mos(name: str | int, level: float, *, normalize: bool = False) -> float:
    """KADID-10k's mean opinion score (MOS) of a distortion at a level 1..5, on its scale from 1 (bad) to 5 (excellent).

    It is the mean over KADID's 81 reference photographs, linear between whole levels: the label of a distorted picture
    whose own MOS is not known. With `normalize` it is the quality, 0 (bad) to 1 (excellent). InputError for a type that
    KADID-10k lacks, and for a level outside 1..5.

    >>> kadid_mos("jpeg", 1)
    4.338
    >>> kadid_mos("jpeg", 1, normalize=True)
    0.8345
    """
    row = find(name)
    if row.name not in kadid_mos_table():
        raise InputError(f"no mean opinion score of '{row.name}' is known: KADID-10k does not have this type")
    mos = at_level(kadid_mos_table()[row.name], level)
    return KADID_SCALE.quality(mos) if normalize else mos


def composed_quality(steps: Iterable[tuple[str, float]]) -> float:
    """The quality in [0, 1] after several (name, level) steps: of a clean picture, times the share each step leaves."""
    steps = list(steps)
    if len(steps) == 1:
        return kadid_mos(*steps[0], normalize=True)
    clean = kadid_mos(*IDENTITY, normalize=True)
    return clean * math.prod(min(kadid_mos(*step, normalize=True) / clean, 1.0) for step in steps)


def distortable(image: Picture, path: Path) -> Picture:
    """The image (3, H, W) that was read from `path`, unchanged; InputError where it is too small to distort."""
    if min(image.shape[1:]) < SMALLEST_SIDE:
        raise InputError(f"{path}: too small to distort: {SMALLEST_SIDE} pixels a side are the least")
    return image


def wheel_photograph(name: str) -> Path:
    """The path of a named photograph inside a dependency's package; InputError for an unknown name."""
    if name not in _WHEELS:
        raise InputError(f"no photograph '{name}' ships with the dependencies.{nearest(name, _WHEELS)}")
    package, _, rest = _WHEELS[name].partition("/")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"the photograph '{name}' ships with {package}, which is not installed")
    return Path(spec.submodule_search_locations[0]) / rest
