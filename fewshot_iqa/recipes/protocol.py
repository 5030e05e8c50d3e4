"""The protocol of few-shot adaptation: draw shots, adapt, test once on others; again for other seeds."""

import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import metrics, rng
from ..config import AdaptSpec, Config, SyntheticTask, TableTask, revised
from ..data.loading import Loader
from ..data.readers import read_table
from ..data.splits import draw_shots, folds_by_group
from ..data.synthetic import OPINION, synthetic_records
from ..errors import InputError
from ..evaluate import Report, compare, over_trials
from ..finetune import fit, gaussian_process, ridge
from ..losses import WeightedSum
from ..model import checkpoint
from ..model.backbone import load_clip
from ..model.quality import QualityModel, scene_anchor
from ..progress import quiet, track
from ..types import Batch, Output, Record, Scale, Shots
from .common import build_model, evaluate_on

FIGURES = ("srcc", "plcc", "plcc_logistic", "krcc", "rmse", "coverage", "within", "zero_step", "seconds", "peak_mb")
Memory = dict[object, Tensor]  # what a method says of pictures before it learns anything, the same in many trials


@dataclass(frozen=True)
class Protocol:
    """How a method is tried on a source of rated pictures.

    `start` is the checkpoint that every trial begins from, None for fresh prompts. Of several `folds`, each is the
    test of one trial; else the release's own test rows are, or a share `source.test` of the groups.
    """

    settings: Config
    source: TableTask | SyntheticTask
    shots: Shots
    start: Path | None
    device: str
    folds: int | None = None


@dataclass(frozen=True)
class Draw:
    """What one trial learns from, `shots` of a training pool of `pool` pictures, and what it is tested on."""

    seed: int
    fold: int | None
    pool: int
    shots: list[Record]
    test: list[Record]
    scale: Scale


@dataclass(frozen=True)
class Trial:
    """One draw, adapted and tested, and the figures of it: `entry`, as JSON has it."""

    draw: Draw
    settings: Config
    model: QualityModel
    report: Report
    entry: dict[str, Any]


def draws(protocol: Protocol, seeds: Sequence[int]) -> list[Draw]:
    """One draw for each seed, or one for each fold of each; InputError where nothing can be learned from one."""
    records, test_rows = read_records(protocol.source)
    found = []
    for seed in seeds:
        if test_rows is None:
            splits = folds_by_group(records, protocol.folds, protocol.source.test, seed=seed)
        else:
            splits = [(records, test_rows)]
        for fold, (pool, test) in enumerate(splits):
            shots = draw_shots(pool, protocol.shots, seed=seed)
            number = fold if protocol.folds else None
            found.append(Draw(seed, number, len(pool), shots, test, _scale(protocol.source, shots)))
    return found


def try_on(protocol: Protocol, draw: Draw, known: Memory) -> Trial:
    """Adapt to the shots of a draw, and test once: nothing is chosen on the test pictures."""
    model, loader, settings = _ready(protocol, draw)
    device = protocol.device
    wanted, subsets = _qualities(draw.test, draw.scale).tolist(), [record.subset for record in draw.test]
    entry: dict[str, Any] = {"seed": draw.seed} | ({} if draw.fold is None else {"fold": draw.fold})
    before = report = None
    if model.head is None:  # else there is nothing to say before
        before = report = compare(Output(_frozen(protocol, model, loader, draw.test, known)), wanted, subsets)
    started = ended = time.monotonic()
    if settings.adapt:
        if candidates := settings.adapt.candidates():
            best = _choose(protocol, draw, candidates, settings.adapt.folds)
            entry["chosen"] = settings.adapt.choose[best]
            settings = settings.model_copy(update={"adapt": candidates[best]})
        _fit(model, loader, draw.shots, settings, device)
        ended = time.monotonic()
        report = evaluate_on(model, loader, draw.test, device, "testing after adaptation")
    elif model.head is not None:
        shots, test = (_frozen(protocol, model, loader, records, known) for records in (draw.shots, draw.test))
        started = time.monotonic()
        _solve(model, shots, _qualities(draw.shots, draw.scale), settings)
        ended = time.monotonic()
        with torch.inference_mode():
            report = compare(model.head(test), wanted, subsets)
    assert report is not None
    entry |= {"shots": len(draw.shots), "pool": draw.pool, "test": len(draw.test)} | figures(report)
    entry |= {"zero_step": figures(before) if before else None}
    entry |= {"seconds": round(ended - started, 2), "peak_mb": round(_peak(device))}
    return Trial(draw, settings, model, report, entry)


def before_learning(protocol: Protocol, drawn: Iterable[Draw]) -> Memory:
    """What the trials of all these draws need to know of their pictures, computed once."""
    known: Memory = {}
    for draw in drawn:
        model, loader, settings = _ready(protocol, draw)
        if model.head is None:
            _frozen(protocol, model, loader, draw.test, known)
        elif not settings.adapt:
            _frozen(protocol, model, loader, [*draw.shots, *draw.test], known)
    return known


def loader_of(protocol: Protocol, draw: Draw) -> Loader:
    side = getattr(protocol.source, "short_side", None)
    return Loader(protocol.settings.views, draw.scale, source_side=side, seed=draw.seed)


def summary(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Median and interquartile range of the figures over trials."""
    median, iqr = over_trials([{name: trial[name] for name in FIGURES if name in trial} for trial in trials])
    return {"median": median, "iqr": iqr}


def figures(report: Report) -> dict[str, Any]:
    """The metrics of a report, and `within` each subset."""
    return {**report.metrics, "within": report.within}


def read_records(source: TableTask | SyntheticTask) -> tuple[list[Record], list[Record] | None]:
    """All records, and the release's own test rows where it has such."""
    if isinstance(source, SyntheticTask):
        return synthetic_records(source), None
    records = read_table(source)
    if source.labels is None or source.test_labels is None:
        return records, None
    test = read_table(revised(source, labels=source.test_labels, root=source.root or source.labels.parent))
    for group in {record.group for record in records} & {record.group for record in test}:
        raise InputError(f"{source.test_labels}: '{group}' is among the training rows of {source.labels} as well")
    return records, test


def anchor_of(settings: Config, spec: AdaptSpec, device: str) -> QualityModel | None:
    if spec.regularizer is None or spec.regularizer.strength == 0:
        return None
    return scene_anchor(settings.model, spec.regularizer.branch, load_clip(settings.clip)).to(device)


def shot_batches(loader: Loader, shots: Sequence[Record], steps: int, size: int, seed: int) -> Iterator[Batch]:
    """`steps` batches of up to `size` shots, each drawn anew."""
    for step in range(steps):
        noise = rng.generator(seed, "adapt", step)
        order = torch.randperm(len(shots), generator=noise)[:size].tolist()
        yield loader.random_batch([shots[i] for i in order], noise)


def _ready(protocol: Protocol, draw: Draw) -> tuple[QualityModel, Loader, Config]:
    settings = protocol.settings.model_copy(update={"seed": draw.seed})
    model = build_model(settings)
    if protocol.start is not None:
        checkpoint.overlay(model, protocol.start)
    return model.to(protocol.device), loader_of(protocol, draw), settings


def _fit(model: QualityModel, loader: Loader, shots: Sequence[Record], settings: Config, device: str) -> None:
    spec, seed = settings.adapt, settings.seed
    assert spec is not None
    anchor, params = anchor_of(settings, spec, device), model.train_only(spec.trainable)
    with track("adapting", spec.steps) as log, rng.scoped(seed, "dropout"):
        batches = (batch.to(device) for batch in shot_batches(loader, shots, spec.steps, spec.batch, seed))
        fit(model, params, batches, WeightedSum(settings.loss), spec, anchor=anchor, log=log)


def _choose(protocol: Protocol, draw: Draw, candidates: Sequence[AdaptSpec], folds: int) -> int:
    """Which candidate is the best when each is trained on the shots but a fold, and judged on the fold."""
    if len({record.group for record in draw.shots}) < folds:
        return 0
    splits, merits = folds_by_group(draw.shots, folds, 0.5, seed=draw.seed), []
    with track("choosing", len(candidates) * folds) as log:
        for candidate in candidates:
            reports = []
            for rest, fold in splits:
                model, loader, settings = _ready(protocol, draw)
                with quiet():
                    _fit(model, loader, rest, settings.model_copy(update={"adapt": candidate}), protocol.device)
                    reports.append(evaluate_on(model, loader, fold, protocol.device))
                log({})
            predicted, rated = ([v for r in reports for v in getattr(r, side)] for side in ("predicted", "rated"))
            merits.append(metrics.merit(metrics.report(predicted, rated)))
    return merits.index(max(merits))


def _solve(model: QualityModel, features: Tensor, quality: Tensor, settings: Config) -> None:
    if settings.ridge:
        ridge(model, features, quality, settings.ridge)
    elif settings.gp:
        gaussian_process(model, features, quality, settings.gp)


def _frozen(
    protocol: Protocol, model: QualityModel, loader: Loader, records: Sequence[Record], known: Memory
) -> Tensor:
    """What the model says of each record before it learns anything: the features that a linear head reads (R, S), or
    else its quality (R,). Computed where it is not `known`."""
    prompts = any(name.startswith(("text.", "visual.")) for name, _ in model.named_parameters())
    fresh = protocol.start is None and prompts  # drawn by the seed
    keys = [(r.path, r.apply, loader.seed if fresh or r.apply else None) for r in records]
    missing = {key: record for key, record in zip(keys, records, strict=True) if key not in known}
    title, rows = "reading features" if model.head else "testing before adaptation", []
    with track(title, -(-len(missing) // loader.at_once)) as log, torch.inference_mode():
        state = model.encode_prompts()
        for batch in loader.fixed_batches(list(missing.values())):
            images = batch.images.to(protocol.device)
            rows += list(model.summaries(images) if model.head else model(images, state).quality)
            log({})
    known.update(zip(missing, rows, strict=True))
    return torch.stack([known[key] for key in keys])


def _qualities(records: Sequence[Record], scale: Scale) -> Tensor:
    return torch.tensor([scale.quality(record.rating) for record in records])


def _scale(source: TableTask | SyntheticTask, shots: Sequence[Record]) -> Scale:
    """The task's own scale, or the span of the shots' ratings: never that of the test pictures."""
    if isinstance(source, SyntheticTask):
        return OPINION
    low, high = source.range or (min(r.rating for r in shots), max(r.rating for r in shots))
    return Scale(high, low) if source.lower_is_better else Scale(low, high)


def _peak(device: str) -> float:
    """The most memory in MB that the process has held so far; on a GPU, that PyTorch has."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)
