"""What trials learn from and are tested on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..config import SyntheticTask, TableTask
from ..data.splits import draw_shots, folds_by_group, split_by_group
from ..data.synthetic import KADID_SCALE
from ..errors import InputError
from ..images import Source
from ..types import Record, Scale, Shots
from .sources import Rated

FOLDS = 5
LEAVE_ONE_OUT = 25  # with fewer pictures, each group is a fold of its own


@dataclass(frozen=True)
class Draw:
    """What one trial learns from, `shots` out of a training pool of `pool` pictures, and what it is tested on, if
    anything. `source_side` is that of synthetic pictures before they are distorted; `sources` are the pictures that are
    not files, by the paths of their records."""

    seed: int
    shots: list[Record]
    test: list[Record]
    scale: Scale
    pool: int
    fold: int | None = None
    source_side: int | None = None
    sources: Mapping[Path, Source] = field(default_factory=dict)

    @property
    def pictures(self) -> list[Record]:
        return [*self.shots, *self.test]


def draw_trials(rated: Rated, shots: Shots, seeds: Iterable[int], folds: int | None = None) -> list[Draw]:
    """One draw for each seed; or, of the groups cut in `folds`, one with each fold as the test.

    Else the test is the release's own rows, or a share `source.test` of the groups. The order of the rows of a table of
    one's own changes no draw. InputError where nothing can be learned from one of the draws.
    """
    drawn, records = [], _ordered(rated.source, rated.records)
    own_test = None if rated.test is None else _ordered(rated.source, rated.test)
    for seed in seeds:
        if own_test is not None:
            splits = [(records, own_test)]
        elif rated.splits:
            if seed >= len(rated.splits):
                raise InputError(f"--splits: there are {len(rated.splits)} splits, none for the seed {seed}")
            pool, test = rated.splits[seed]
            splits = [(_ordered(rated.source, pool), _ordered(rated.source, test))]
        elif folds:
            splits = folds_by_group(records, folds, seed=seed)
        else:
            splits = [split_by_group(records, rated.source.test, seed=seed)]
        for fold, (pool, test) in enumerate(splits):
            chosen = draw_shots(pool, shots, seed=seed)
            drawn.append(draw_of(rated.source, seed, chosen, test, pool=len(pool), fold=fold if folds else None))
    return drawn


def draw_of(
    source: TableTask | SyntheticTask,
    seed: int,
    shots: list[Record],
    test: list[Record],
    *,
    pool: int | None = None,
    fold: int | None = None,
    sources: Mapping[Path, Source] = {},
) -> Draw:
    """A draw with the scale of the source, or the span of the shots' ratings: never that of the test pictures."""
    if isinstance(source, SyntheticTask):
        scale, side = KADID_SCALE, source.short_side
    else:
        low, high = source.range or (min(r.rating for r in shots), max(r.rating for r in shots))
        ends = (high, low) if source.lower_is_better else (low, high)
        scale, side = Scale(*ends, per_subset=not source.pooled), None
    return Draw(seed, shots, test, scale, len(shots) if pool is None else pool, fold, side, sources)


def draw_all(rated: Rated, seed: int, folds: int | None = None) -> list[Draw]:
    """Draws that learn from all ratings: first those that predict every picture out of fold, last the one to keep.

    The folds are of whole groups: `folds`, by default five, or each group in turn below 25 pictures. Where the task has
    test rows of its own, or no fold can be learned from (one group; ratings that hardly differ), there are none.
    """
    if rated.splits:
        raise InputError("--splits FILES: is for draws; add --shots, such as 100%")
    records = _ordered(rated.source, rated.records)
    drawn: list[Draw] = []
    groups = len({record.group for record in records})
    if rated.test is None and groups > 1:
        count = folds or (groups if len(records) < LEAVE_ONE_OUT else min(FOLDS, groups))
        splits = list(enumerate(folds_by_group(records, count, seed=seed)))
        if not rated.has_guessed_scale or all(_differ(pool) for _, (pool, _) in splits):
            drawn = [draw_of(rated.source, seed, pool, test, fold=fold) for fold, (pool, test) in splits]
    return [*drawn, draw_of(rated.source, seed, records, rated.test or [])]


def _ordered(source: TableTask | SyntheticTask, records: list[Record]) -> list[Record]:
    """The records by name; those of a released data set in its own order, in which its splits count them."""
    released = isinstance(source, SyntheticTask) or source.pictures is not None
    return records if released else sorted(records, key=lambda record: record.place)


def _differ(records: list[Record]) -> bool:
    """Whether the ratings span a scale."""
    return len({record.rating for record in records}) > 1
