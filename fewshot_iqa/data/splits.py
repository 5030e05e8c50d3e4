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


def draw_shots(pool: Sequence[Record], shots: Shots, *, seed: int) -> list[Record]:
    """A draw from the pool; smaller draws of one seed are prefixes of larger ones."""
    count = shots.of(len(pool))
    return [pool[i] for i in permutation(len(pool), seed, "shots")[:count]]
