"""Which photographs and distortions a run of the experiment trains on, adapts to, and is tested on."""

from dataclasses import dataclass
from pathlib import Path

from .. import rng
from ..config import MetaVsNoneSpec, SyntheticTask, kadid_mos_table
from ..data.splits import draw_shots, split_by_group
from ..data.synthetic import photographs, synthetic_records
from ..errors import InputError
from ..pretraining.captions import is_held_out
from ..types import Record, Shots


@dataclass(frozen=True)
class Pictures:
    """What one run sees: no photograph is in two of these lists, no distortion in `training` and another."""

    training: list[Record]
    pool: list[Record]
    test: list[Record]


def held_types(spec: MetaVsNoneSpec, choice: int) -> list[str]:
    """The distortions of one choice: disjoint ones, as long as there are enough."""
    names = list(kadid_mos_table())
    rounds, place = divmod(choice * spec.held_types, len(names) - len(names) % spec.held_types)
    order = rng.permutation(len(names), rounds, "held-out distortions")
    return [names[i] for i in order[place : place + spec.held_types]]


def draw_photographs(spec: MetaVsNoneSpec, source: SyntheticTask) -> list[Path]:
    """`spec.photographs` of the folder's, the same ones each time; the share to be held out is of those that
    `fsiqa pretrain` never reads, as far as they go."""
    each = photographs(source)
    if spec.photographs is None or spec.photographs >= len(each):
        return each
    drawn = [each[i] for i in rng.permutation(len(each), 0, "photographs")]
    unseen = [path for path in drawn if is_held_out(path)][: round(spec.held_photographs * spec.photographs)]
    return unseen + [path for path in drawn if not is_held_out(path)][: spec.photographs - len(unseen)]


def draw_pictures(spec: MetaVsNoneSpec, source: SyntheticTask, choice: int, seed: int, *, pretrained: bool) -> Pictures:
    """The pictures of one run.

    Of the photographs, those that `fsiqa pretrain` never reads and others up to `held_photographs` are held out; with a
    CLIP that is `pretrained` so, only the former are adapted to and tested on.
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
    held = held_types(spec, choice)
    seen = [name for name in kadid_mos_table() if name not in held]
    training = synthetic_records(source.model_copy(update={"distortions": seen}))
    known = synthetic_records(source.model_copy(update={"distortions": held}))
    pool, test = split_by_group([r for r in known if r.path in target], 0.5, seed=seed)
    return Pictures(
        [record for record in training if record.path in trained],
        pool,
        draw_shots(test, Shots.parse(min(spec.test, len(test))), seed=seed),
    )


def every_picture(spec: MetaVsNoneSpec, source: SyntheticTask) -> dict[Path, list[Record]]:
    """All pictures of each photograph."""
    each: dict[Path, list[Record]] = {path: [] for path in draw_photographs(spec, source)}
    for record in synthetic_records(source):
        if record.path in each:
            each[record.path].append(record)
    return each
