"""Which photographs and distortions a run of the experiment trains on, adapts to, and is tested on."""

from dataclasses import dataclass
from pathlib import Path

from .. import rng
from ..config import MetaVsNoneSpec, SyntheticTask, kadid_mos_table
from ..data.criteria import draw_criterion
from ..data.episodes import group_by_content
from ..data.splits import draw_shots, split_by_group
from ..data.synthetic import photographs, synthetic_records
from ..errors import InputError
from ..pretraining.captions import is_held_out
from ..types import Record, Shots


@dataclass(frozen=True)
class Split:
    """The records of one run: no two lists share a photograph, and `training` shares no distortion (or criterion) with
    the others."""

    training: list[Record]
    pool: list[Record]
    test: list[Record]


def held_types(spec: MetaVsNoneSpec, choice: int) -> list[str]:
    """The held-out distortions of a choice. Consecutive choices are disjoint until all distortions are used."""
    names = list(kadid_mos_table())
    rounds, first = divmod(choice * spec.held_types, len(names) - len(names) % spec.held_types)
    order = rng.permutation(len(names), rounds, "held-out distortions")
    return [names[i] for i in order[first : first + spec.held_types]]


def draw_photographs(spec: MetaVsNoneSpec, source: SyntheticTask) -> list[Path]:
    """`spec.photographs` photographs of the folder, the same in every run.

    The share that is to be held out comes from those that `fsiqa pretrain` never reads, as far as there are enough.
    """
    each = photographs(source)
    if spec.photographs is None or spec.photographs >= len(each):
        return each
    drawn = [each[i] for i in rng.permutation(len(each), 0, "photographs")]
    unseen = [path for path in drawn if is_held_out(path)][: round(spec.held_photographs * spec.photographs)]
    return unseen + [path for path in drawn if not is_held_out(path)][: spec.photographs - len(unseen)]


def draw_split(spec: MetaVsNoneSpec, source: SyntheticTask, choice: int, seed: int, *, pretrained: bool) -> Split:
    """The records of the run of a choice of distortions and a seed.

    Photographs that `fsiqa pretrain` never reads are held out, and random others up to the share `held_photographs`.
    Where the CLIP is `pretrained` by that command, shots and test come from the former only.
    """
    each = draw_photographs(spec, source)
    unseen = {path for path in each if is_held_out(path)}
    others = [path for path in each if path not in unseen]
    count = max(0, round(spec.held_photographs * len(each)) - len(unseen))
    drawn = {others[i] for i in rng.permutation(len(others), seed, "held-out photographs")[:count]}
    target = unseen if pretrained else unseen | drawn
    trained = set(others) - drawn
    if len(target) < 2 or len(trained) < 2:
        raise InputError(f"{source.root}: too few photographs: at least two to train on, and two held out")
    held, every = held_types(spec, choice), list(kadid_mos_table())
    seen = [name for name in every if name not in held]
    if spec.criteria:
        held = seen = every
    training = synthetic_records(source.model_copy(update={"distortions": seen}))
    known = synthetic_records(source.model_copy(update={"distortions": held}))
    known = [record for record in known if record.path in target]
    if spec.criteria:
        criterion = draw_criterion(spec.criteria + choice, spec.contents, seed=seed)
        group_of = group_by_content(each, spec.contents)
        known = [criterion.rate(record, group_of[record.path]) for record in known]
    pool, test = split_by_group(known, 0.5, seed=seed)
    return Split(
        [record for record in training if record.path in trained],
        pool,
        draw_shots(test, Shots.parse(min(spec.test, len(test))), seed=seed),
    )


def records_by_photograph(spec: MetaVsNoneSpec, source: SyntheticTask) -> dict[Path, list[Record]]:
    """All records of each photograph."""
    each: dict[Path, list[Record]] = {path: [] for path in draw_photographs(spec, source)}
    for record in synthetic_records(source):
        if record.path in each:
            each[record.path].append(record)
    return each
