"""The protocol of few-shot adaptation: draw shots, adapt, test once on others; again for other seeds."""

import resource
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import metrics
from ..config import AdaptSpec, Config, SyntheticTask, TableTask
from ..data.loading import Loader, SeenLoader
from ..data.splits import draw_shots, folds_by_group, split_by_group
from ..data.synthetic import OPINION
from ..evaluate import Report, compare, over_trials
from ..model import checkpoint
from ..model.quality import QualityModel
from ..progress import quiet, track
from ..types import Output, Record, Scale, Shots
from .common import build_model, evaluate_on
from .learning import learn
from .sources import Rated

FIGURES = (
    "srcc",
    "plcc",
    "plcc_logistic",
    "krcc",
    "rmse",
    "coverage",
    "scene_accuracy",
    "distortion_accuracy",
    "alignment_srcc",
    "alignment_auc",
    "within",
    "zero_step",
    "cosine",
    "seconds",
    "peak_mb",
)
Cache = dict[object, Tensor]  # what a method says of pictures before it learns anything, the same in many trials


@dataclass(frozen=True)
class Protocol:
    """How a method is tried on a source of rated pictures.

    `start` is the checkpoint that every trial begins from, None for fresh prompts.
    """

    settings: Config
    source: TableTask | SyntheticTask
    start: Path | None
    device: str


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

    settings: Config
    model: QualityModel
    report: Report
    entry: dict[str, Any]


def draw_trials(rated: Rated, shots: Shots, seeds: Iterable[int], folds: int | None = None) -> list[Draw]:
    """One draw for each seed; or, of the groups cut in `folds`, one with each fold as the test.

    Else the test is the release's own rows, or a share `source.test` of the groups. InputError where nothing can be
    learned from one of the draws.
    """
    drawn = []
    for seed in seeds:
        if rated.test is not None:
            splits = [(rated.records, rated.test)]
        elif folds:
            splits = folds_by_group(rated.records, folds, seed=seed)
        else:
            splits = [split_by_group(rated.records, rated.source.test, seed=seed)]
        for fold, (pool, test) in enumerate(splits):
            chosen = draw_shots(pool, shots, seed=seed)
            scale = _scale(rated.source, chosen)
            drawn.append(Draw(seed, fold if folds else None, len(pool), chosen, test, scale))
    return drawn


def run_trial(protocol: Protocol, draw: Draw, cache: Cache) -> Trial:
    """Adapt to the shots of a draw, and test once: nothing is chosen on the test pictures."""
    model, loader, settings = _ready(protocol, draw)
    device = protocol.device
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    wanted, subsets = _qualities(draw.test, draw.scale).tolist(), [record.subset for record in draw.test]
    entry: dict[str, Any] = {"seed": draw.seed} | ({} if draw.fold is None else {"fold": draw.fold})
    same = _looks_the_same(model, settings)
    needed = _needed(protocol, model, draw, same)
    known = dict(zip(needed, _known(protocol, model, loader, needed, cache, same), strict=True))
    pictures = SeenLoader(loader.views, loader.scale, known) if same else loader
    before = report = None
    if not _untaught(protocol, model):
        if same:
            before = evaluate_on(model, pictures, draw.test, device, "testing before adaptation")
        else:
            before = compare(Output(torch.stack([known[record] for record in draw.test])), wanted, subsets)
        report = before
    started = ended = time.monotonic()
    if settings.adapt and (candidates := settings.adapt.candidates()):
        best = _choose(protocol, draw, pictures, candidates, settings.adapt.folds)
        entry["chosen"] = settings.adapt.choose[best]
        settings = settings.model_copy(update={"adapt": candidates[best]})
    if settings.learns:
        history = learn(model, pictures, draw.shots, settings, device)
        ended = time.monotonic()
        cosines = [told["cosine"] for told in history if "cosine" in told]
        entry |= {"cosine": statistics.median(cosines)} if cosines else {}
        title = "testing after adaptation"
        report = evaluate_on(model, pictures, draw.test, device, title, settings.labels, settings.model.alignment)
    assert report is not None
    entry |= {"shots": len(draw.shots), "pool": draw.pool, "test": len(draw.test)} | figures(report)
    entry |= {"zero_step": figures(before) if before else None}
    entry |= {"seconds": round(ended - started, 2), "peak_mb": round(_peak(device))}
    return Trial(settings, model, report, entry)


def by_picture(draw: Draw, report: Report) -> list[dict[str, Any]]:
    """What is known of each picture of a trial: whether it is a shot or of the test, its rating, the same as a quality
    in [0, 1] (`rated`), and of the test pictures the quality that the model predicted, with its deviation."""
    spread: Sequence[float | None] = report.spread or [None] * len(draw.test)
    shots = [("shot", record, None, None) for record in draw.shots]
    tested = [("test", *row) for row in zip(draw.test, report.predicted, spread, strict=True)]
    return [
        {
            "seed": draw.seed,
            "fold": draw.fold,
            "part": part,
            "image": str(record.path),
            "distortion": record.distortion,
            "level": record.level,
            "subset": record.subset,
            "rating": record.rating,
            "rated": draw.scale.quality(record.rating),
            "predicted": predicted,
            "predicted_sd": deviation,
        }
        for part, record, predicted, deviation in [*shots, *tested]
    ]


def precompute(protocol: Protocol, drawn: Sequence[Draw], cache: Cache) -> None:
    """Put into `cache` what the trials of these draws need to know of their pictures, where it is not a matter of the
    seed's prompts."""
    for seed in dict.fromkeys(draw.seed for draw in drawn):
        mine = [draw for draw in drawn if draw.seed == seed]
        model, loader, settings = _ready(protocol, mine[0])
        same = _looks_the_same(model, settings)
        if _fresh(protocol, same):
            return
        records = dict.fromkeys(record for draw in mine for record in _needed(protocol, model, draw, same))
        _known(protocol, model, loader, list(records), cache, same)


def reads(protocol: Protocol, label: str) -> str:
    """The same for methods that may share a `Cache`: those that learn from what the same plain tower says of the same
    views. Any other method is `label`."""
    settings = protocol.settings
    if settings.model.visual or not _looks_the_same(build_model(settings), settings):
        return label
    return f"{settings.clip} {settings.model.normalize} {settings.views} {protocol.start}"


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


def _ready(protocol: Protocol, draw: Draw) -> tuple[QualityModel, Loader, Config]:
    settings = protocol.settings.model_copy(update={"seed": draw.seed})
    model = build_model(settings)
    if protocol.start is not None:
        checkpoint.overlay(model, protocol.start)
    return model.to(protocol.device), loader_of(protocol, draw), settings


def _choose(protocol: Protocol, draw: Draw, pictures: Loader, candidates: Sequence[AdaptSpec], folds: int) -> int:
    """Which candidate is the best when each is trained on the shots but a fold, and judged on the fold."""
    if len({record.group for record in draw.shots}) < folds:
        return 0
    splits, merits = folds_by_group(draw.shots, folds, seed=draw.seed), []
    with track("choosing", len(candidates) * folds) as log:
        for candidate in candidates:
            reports = []
            for rest, fold in splits:
                model, _, settings = _ready(protocol, draw)
                with quiet():
                    learn(model, pictures, rest, settings.model_copy(update={"adapt": candidate}), protocol.device)
                    reports.append(evaluate_on(model, pictures, fold, protocol.device))
                log({})
            predicted, rated = ([v for r in reports for v in getattr(r, side)] for side in ("predicted", "rated"))
            merits.append(metrics.merit(metrics.report(predicted, rated)))
    return merits.index(max(merits))


def _looks_the_same(model: QualityModel, settings: Config) -> bool:
    """Whether the image tower says of a picture the same, whatever is learned: then it is asked once, and the method
    learns from, and is tested on, what it said of the fixed views."""
    specs = [settings.adapt, *settings.adapt.candidates()] if settings.adapt else []
    return model.looks_the_same(glob for spec in specs for glob in spec.trainable)


def _untaught(protocol: Protocol, model: QualityModel) -> bool:
    """Whether the model has a head that has seen no rating yet, so that it has nothing to say before the shots."""
    unknown = model.spec.summarized or protocol.start is None
    return model.head is not None and unknown and not model.spec.prior


def _needed(protocol: Protocol, model: QualityModel, draw: Draw, same: bool) -> list[Record]:
    """The records of which a trial needs to know something before it learns."""
    if same:
        return [*draw.shots, *draw.test]
    return [] if _untaught(protocol, model) else draw.test


def _known(
    protocol: Protocol, model: QualityModel, loader: Loader, records: Sequence[Record], cache: Cache, same: bool
) -> list[Tensor]:
    """What the model says of each record before it learns anything: what its tower says (V, S) where that stays the
    `same`, or else the quality (). Computed where `cache` has it not."""
    own = _fresh(protocol, same)
    keys = [(r.path, r.apply, loader.seed if own or r.apply else None) for r in records]
    missing = {key: record for key, record in zip(keys, records, strict=True) if key not in cache}
    title, rows = "reading features" if same else "testing before adaptation", []
    with track(title, -(-len(missing) // loader.views.at_once)) as log, torch.inference_mode():
        state = model.encode_prompts()
        for batch in loader.fixed_batches(list(missing.values())):
            images = batch.images.to(protocol.device)
            rows += list(model.summary(images, state) if same else model(images, state).quality)
            log({})
    cache.update(zip(missing, rows, strict=True))
    return [cache[key] for key in keys]


def _fresh(protocol: Protocol, same: bool) -> bool:
    """Whether what is known of a picture is a matter of the seed: of prompts that only it tells."""
    spec = protocol.settings.model
    return protocol.start is None and bool(spec.visual if same else spec.learned)


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
