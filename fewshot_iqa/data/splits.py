"""Splits that keep a group on one side, and nested draws of shots."""

from collections.abc import Sequence

from ..errors import InputError
from ..rng import permutation
from ..types import Record, Shots


def split_by_group(records: Sequence[Record], test: float, *, seed: int) -> tuple[list[Record], list[Record]]:
    """(pool, test): about a share `test` of the groups goes to the test side, at least one to each.

    InputError where there is only one group.
    """
    groups = sorted({record.group for record in records})
    if len(groups) < 2:
        raise InputError(f"all {len(records)} pictures are of one group ('{groups[0]}'): a split needs two or more")
    count = min(max(1, round(test * len(groups))), len(groups) - 1)
    held = {groups[i] for i in permutation(len(groups), seed, "split")[:count]}
    pool = [record for record in records if record.group not in held]
    return pool, [record for record in records if record.group in held]


def folds_by_group(records: Sequence[Record], folds: int, *, seed: int) -> list[tuple[list[Record], list[Record]]]:
    """(pool, test) for each of `folds` parts of the groups, every group in the test of one.

    InputError where there are fewer groups than folds.
    """
    groups = sorted({record.group for record in records})
    if len(groups) < folds:
        raise InputError(f"--folds {folds}: the {len(records)} pictures are of {len(groups)} groups only")
    part = {groups[i]: rank % folds for rank, i in enumerate(permutation(len(groups), seed, "split"))}
    return [
        ([r for r in records if part[r.group] != fold], [r for r in records if part[r.group] == fold])
        for fold in range(folds)
    ]


def draw_shots(pool: Sequence[Record], shots: Shots, *, seed: int) -> list[Record]:
    """A draw from the pool; smaller draws of one seed are prefixes of larger ones."""
    count = shots.of(len(pool))
    return [pool[i] for i in permutation(len(pool), seed, "shots")[:count]]
