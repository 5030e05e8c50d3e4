"""One trial of few-shot learning: draw, encode, fit, predict, compare."""

import copy
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from .. import metrics
from ..config import AdaptSpec, Config
from ..data.loading import FEATURES_AT_ONCE, FeatureLoader, Loader, PictureCache
from ..data.splits import folds_by_group
from ..errors import InputWarning
from ..evaluation import Report, compare
from ..features import FeatureCache, encode_cached
from ..losses import Loss
from ..memory import peak_memory_mb, reset_peak_memory
from ..model import checkpoint
from ..model.quality import QualityModel
from ..progress import quiet, track
from ..types import Features, Prediction, Record
from .common import evaluate_on, read_all
from .draws import Draw
from .fitting import fit
from .trunk import with_trunk

REVERSED, ASKED_FROM = -0.3, 10  # SRCC of zero-shot predictions with the shots; fewer shots tell nothing
ASKED_OF = 32  # shots, where each has to be encoded for it


@dataclass(frozen=True)
class Method:
    """How a model is made and learns: a configuration, the checkpoint that its prompts come from (None: fresh prompts),
    and, from Python, a head and a loss in the place of the configuration's. `looks` is how often test pictures are
    predicted while it learns by gradients, as released codes do; nothing but `best_look` of a trial comes of it."""

    settings: Config
    start: Path | None = None
    device: str = "cpu"
    head: Any = None
    loss: Loss | None = None
    looks: int = 0

    def build(self, seed: int) -> QualityModel:
        """A model of its own, on the backbone of the process; fresh prompts are drawn from `seed`."""
        settings = self.settings.model_copy(update={"seed": seed})
        model = checkpoint.build(settings, self.device, copy.deepcopy(self.head))
        if self.start is not None:
            checkpoint.overlay(model, self.start)
        return model

    def has_frozen_features(self, model: QualityModel) -> bool:
        """Whether the pooled features of a picture, computed once, are enough for all that this method learns."""
        evaluated = [*self.settings.label_branches.values(), *self.settings.model.alignment]
        return self._has_frozen_encoder(model) and model.features_suffice(evaluated)

    def frozen_layers(self, model: QualityModel) -> int | None:
        """How many layers of the image tower stay as they are, as for `QualityModel.frozen_layers`."""
        if self.settings.plain:
            return None
        return model.frozen_layers(glob for spec in self._specs() for glob in spec.trainable)

    def _has_frozen_encoder(self, model: QualityModel) -> bool:
        if any(spec.active_regularizer for spec in self._specs()):
            return False  # the teacher looks through other prompts
        return model.has_frozen_features(glob for spec in self._specs() for glob in spec.trainable)

    def _specs(self) -> list[AdaptSpec]:
        """The ways to adapt that it chooses from."""
        adapt = self.settings.adapt
        return [adapt, *adapt.candidates()] if adapt else []


@dataclass(frozen=True)
class Memory:
    """What several trials share: features, and pictures that are prepared to be cut."""

    features: FeatureCache = field(default_factory=FeatureCache)
    pictures: PictureCache = field(default_factory=PictureCache)


@dataclass(frozen=True)
class Trial:
    """The model that learned from a draw, its test (None without test pictures), the metrics as JSON has them, what
    each gradient step logged, and the quality that it predicts of the test pictures, else of a few shots."""

    settings: Config
    model: QualityModel
    report: Report | None
    entry: dict[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, float]] = ()
    predicted: Sequence[float] = ()


def read_pictures(method: Method, drawn: Sequence[Draw], memory: Memory) -> None:
    """Read every picture of several draws before anything is trained, so that a broken file is found here: encode it
    where features are frozen and do not depend on the seed's prompts, else prepare it."""
    if not drawn:
        return
    model, seeds = method.build(drawn[0].seed), dict.fromkeys(draw.seed for draw in drawn)
    shared = method.start is not None or not method.settings.model.visual
    frozen = shared and method.has_frozen_features(model)
    tested = shared and not (frozen or model.lacks_zero_shot_score or model.dense)
    for seed in seeds:
        own = [draw for draw in drawn if draw.seed == seed]
        loader = loader_of(method, own[0], memory)
        every = list(dict.fromkeys(record for draw in own for record in draw.pictures))
        if frozen:
            encoded(model, loader, every, memory.features)
            continue
        read_all(loader, every)
        if tested:
            layers = method.frozen_layers(model)
            loader = with_trunk(loader, model, layers, len(own[0].pictures), memory.features)
            encoded(model, loader, list(dict.fromkeys(r for draw in own for r in draw.test)), memory.features)


def warn_reversed(method: Method, drawn: Sequence[Draw], memory: Memory) -> bool:
    """Ask by an InputWarning whether ratings have the other direction, where those of the shots run against the
    zero-shot predictions of the start; whether it asked. Test ratings are not looked at.

    The draw with most shots tells it. Fresh prompts predict at random, and synthetic ratings are known.
    """
    draw = max(drawn, key=lambda each: len(each.shots), default=None)
    fresh = method.start is None and method.settings.model.has_prompts
    if draw is None or fresh or draw.source_side or draw.scale.per_subset or not method.settings.learns:
        return False
    model = method.build(draw.seed)
    if len(draw.shots) < ASKED_FROM or model.lacks_zero_shot_score:
        return False
    if method.has_frozen_features(model):
        shots = _some(draw.shots, FEATURES_AT_ONCE)
        pictures: Loader = encoded(model, loader_of(method, draw, memory), shots, memory.features)
    else:  # one view of a few: less than a step of adaptation
        views = method.settings.views.model_copy(update={"count": 1, "stride": None})
        one = replace(method, settings=method.settings.model_copy(update={"views": views}))
        shots, pictures = _some(draw.shots, ASKED_OF), loader_of(one, draw, memory)
    with quiet():
        found = evaluate_on(model, pictures, shots).metrics["srcc"]
    if found is None or found > REVERSED:
        return False
    ask = "are lower ones better? then --lower-is-better"
    if draw.scale.worst > draw.scale.best:
        ask = "are higher ones better? lower_is_better is set"
    message = f"the ratings run against what the prompts see (SRCC {found:.2f}): {ask}"
    warnings.warn(message, InputWarning, stacklevel=3)
    return True


def run_trial(method: Method, draw: Draw, memory: Memory) -> Trial:
    """Learn from the shots of a draw, and test once: nothing is chosen on the test pictures."""
    reset_peak_memory(method.device)
    settings, model = method.settings, method.build(draw.seed)
    pictures = zero_shot_pictures = loader_of(method, draw, memory)
    frozen = method.has_frozen_features(model)
    if frozen:
        pictures = zero_shot_pictures = encoded(model, pictures, draw.pictures, memory.features)
    else:
        layers = method.frozen_layers(model)
        pictures = with_trunk(pictures, model, layers, len(draw.pictures), memory.features)
        zero_shot_pictures = pictures
        if draw.test and not (model.lacks_zero_shot_score or model.dense):
            zero_shot_pictures = encoded(model, pictures, draw.test, memory.features)

    entry: dict[str, Any] = {"seed": draw.seed} | ({} if draw.fold is None else {"fold": draw.fold})
    before = None
    if draw.test and not model.lacks_zero_shot_score:
        before = evaluate_on(model, zero_shot_pictures, draw.test, "testing before adaptation")
    started = time.monotonic()
    if settings.adapt and settings.adapt.choose:
        candidates = settings.adapt.candidates()
        best = choose_candidate(method, draw, pictures, candidates, settings.adapt.folds)
        entry["chosen"] = settings.adapt.choose[best]
        settings = settings.model_copy(update={"adapt": candidates[best]})
    looks = Looks(method, model, pictures, draw.test)
    history = fit(model, pictures, draw.shots, settings, seed=draw.seed, loss=method.loss, after_step=looks)
    seconds = time.monotonic() - started
    report = before
    if draw.test and settings.learns:
        branches = settings.label_branches, settings.model.alignment
        report = evaluate_on(model, pictures, draw.test, "testing after adaptation", *branches)

    cosines = [logged["cosine"] for logged in history if "cosine" in logged]
    entry |= {"cosine": statistics.median(cosines)} if cosines else {}
    entry |= {"shots": len(draw.shots), "pool": draw.pool, "test": len(draw.test)}
    entry |= metrics_of(report) if report else {}
    entry |= {"best_look": looks.best} if looks.best else {}
    entry |= {"zero_shot": metrics_of(before) if before else None}
    entry |= {"seconds": round(seconds, 2), "peak_mb": peak_memory_mb(method.device)}
    looked = report or evaluate_on(model, pictures, _some(draw.shots, pictures.at_once), "looking")
    return Trial(settings.model_copy(update={"seed": draw.seed}), model, report, entry, history, looked.predicted)


class Looks:
    """Predicts the test pictures while a method learns by gradients, and keeps the metrics of the step with the best
    SRCC: what is reported where a release chooses its checkpoint on the test."""

    def __init__(self, method: Method, model: QualityModel, pictures: Loader, test: Sequence[Record]) -> None:
        self.count = 0 if method.settings.head.closed_form or not test else method.looks
        self.model, self.pictures, self.test = model, pictures, test
        self.best: dict[str, Any] = {}

    def __call__(self, step: int, steps: int) -> None:
        """Look after `step` of `steps` steps, if it is one of the evenly spaced ones; the last always is."""
        if step * self.count // steps == (step - 1) * self.count // steps:
            return
        was_training = self.model.training
        self.model.eval()
        with quiet():
            found = evaluate_on(self.model, self.pictures, self.test).metrics
        self.model.train(was_training)
        if found["srcc"] is not None and found["srcc"] > self.best.get("srcc", -2):
            self.best = {"step": step, "srcc": found["srcc"], "plcc": found["plcc"]}


def subset_mean_trial(draw: Draw) -> dict[str, Any]:
    """The entry of a trial of the baseline that sees no picture: each test picture has the mean quality of the shots of
    its subset, or of all shots where its subset has none."""
    quality = [draw.scale.quality(shot.rating) for shot in draw.shots]
    of = defaultdict(list)
    for shot, value in zip(draw.shots, quality, strict=True):
        of[shot.subset].append(value)
    predicted = [statistics.fmean(of.get(record.subset) or quality) for record in draw.test]
    rated = [draw.scale.quality(record.rating) for record in draw.test]
    subsets = [record.subset for record in draw.test]
    report = compare(Prediction(torch.tensor(predicted)), rated, subsets, per_subset=draw.scale.per_subset)
    entry = {"seed": draw.seed} | ({} if draw.fold is None else {"fold": draw.fold})
    return entry | {"shots": len(draw.shots), "pool": draw.pool, "test": len(draw.test)} | metrics_of(report)


def loader_of(method: Method, draw: Draw, memory: Memory) -> Loader:
    return Loader(
        method.settings.views,
        draw.scale,
        source_side=draw.source_side,
        seed=draw.seed,
        sources=draw.sources,
        pictures=memory.pictures,
    )


def encoded(model: QualityModel, loader: Loader, records: Sequence[Record], cache: FeatureCache) -> FeatureLoader:
    """A loader of what the model encodes of the pictures' fixed views, at its present weights."""

    def views(missing: Sequence[Record]) -> Iterator[torch.Tensor | Features]:
        return (batch.inputs for batch in loader.fixed_batches(missing))

    with track("encoding", len(set(records))) as log:
        found = encode_cached(model, records, loader.key, views, cache, log=log)
    return FeatureLoader(loader.views, loader.scale, {r.pixels: f for r, f in zip(records, found, strict=True)})


def _some(records: Sequence[Record], most: int) -> Sequence[Record]:
    """At most so many, evenly spaced."""
    return records[:: -(-len(records) // most)]


def metrics_of(report: Report) -> dict[str, Any]:
    """The metrics of a report, and `within` each subset."""
    return {**report.metrics, "within": report.within}


def choose_candidate(method: Method, draw: Draw, pictures: Loader, candidates: Sequence[AdaptSpec], folds: int) -> int:
    """The candidate with the best selection score when each learns from the shots but a fold, and predicts the fold."""
    if len({record.group for record in draw.shots}) < folds:
        return 0
    splits, scores = folds_by_group(draw.shots, folds, seed=draw.seed), []
    with track("choosing", len(candidates) * folds) as log:
        for candidate in candidates:
            settings, reports = method.settings.model_copy(update={"adapt": candidate}), []
            for rest, fold in splits:
                model = method.build(draw.seed)
                with quiet():
                    fit(model, pictures, rest, settings, seed=draw.seed, loss=method.loss)
                    reports.append(evaluate_on(model, pictures, fold))
                log({})
            predicted, rated = ([v for r in reports for v in getattr(r, side)] for side in ("predicted", "rated"))
            scores.append(metrics.selection_score(metrics.report(predicted, rated)))
    return scores.index(max(scores))
