"""One trial of few-shot learning: draw, encode, fit, predict, compare."""

import copy
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .. import metrics, rng
from ..config import AdaptSpec, Config
from ..data.loading import FeatureLoader, Loader, PictureCache
from ..data.splits import folds_by_group
from ..evaluation import Report
from ..features import FeatureCache, encode_cached
from ..finetune import finetune
from ..losses import Loss, WeightedSum
from ..memory import peak_memory_mb, reset_peak_memory
from ..model import checkpoint
from ..model.clip import shared_clip
from ..model.quality import QualityModel, zero_shot_teacher
from ..progress import quiet, track
from ..types import Batch, Features, Record
from .common import build_model, evaluate_on, read_all
from .draws import Draw


@dataclass(frozen=True)
class Method:
    """How a model is made and learns: a configuration, the checkpoint that its prompts come from (None: fresh prompts),
    and, from Python, a head and a loss in the place of the configuration's."""

    settings: Config
    start: Path | None = None
    device: str = "cpu"
    head: Any = None
    loss: Loss | None = None

    def build(self, seed: int) -> QualityModel:
        """A model of its own, on the backbone of the process; fresh prompts are drawn from `seed`."""
        settings = self.settings.model_copy(update={"seed": seed})
        model = build_model(settings, self.device, copy.deepcopy(self.head))
        if self.start is not None:
            checkpoint.overlay(model, self.start)
        return model

    def has_frozen_features(self, model: QualityModel) -> bool:
        """Whether a picture is encoded once for all that this method learns."""
        adapt, evaluated = self.settings.adapt, [*self.settings.label_branches.values(), *self.settings.model.alignment]
        specs = [adapt, *adapt.candidates()] if adapt else []
        frozen = model.has_frozen_features(glob for spec in specs for glob in spec.trainable)
        return frozen and model.features_suffice(evaluated)


@dataclass(frozen=True)
class Memory:
    """What several trials share: features, and pictures that are prepared to be cut."""

    features: FeatureCache = field(default_factory=FeatureCache)
    pictures: PictureCache = field(default_factory=PictureCache)


@dataclass(frozen=True)
class Trial:
    """The model that learned from a draw, its test (None without test pictures), and the metrics as JSON has them."""

    settings: Config
    model: QualityModel
    report: Report | None
    entry: dict[str, Any] = field(default_factory=dict)


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
            encoded(model, loader, list(dict.fromkeys(r for draw in own for r in draw.test)), memory.features)


def run_trial(method: Method, draw: Draw, memory: Memory) -> Trial:
    """Learn from the shots of a draw, and test once: nothing is chosen on the test pictures."""
    reset_peak_memory(method.device)
    settings, model = method.settings, method.build(draw.seed)
    pictures = zero_shot_pictures = loader_of(method, draw, memory)
    frozen = method.has_frozen_features(model)
    if frozen:
        pictures = zero_shot_pictures = encoded(model, pictures, draw.pictures, memory.features)
    elif draw.test and not (model.lacks_zero_shot_score or model.dense):
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
    history = fit(model, pictures, draw.shots, settings, seed=draw.seed, loss=method.loss)
    seconds = time.monotonic() - started
    report = before
    if draw.test and settings.learns:
        branches = settings.label_branches, settings.model.alignment
        report = evaluate_on(model, pictures, draw.test, "testing after adaptation", *branches)

    cosines = [logged["cosine"] for logged in history if "cosine" in logged]
    entry |= {"cosine": statistics.median(cosines)} if cosines else {}
    entry |= {"shots": len(draw.shots), "pool": draw.pool, "test": len(draw.test)}
    entry |= metrics_of(report) if report else {}
    entry |= {"zero_shot": metrics_of(before) if before else None}
    entry |= {"seconds": round(seconds, 2), "peak_mb": peak_memory_mb(method.device)}
    return Trial(settings.model_copy(update={"seed": draw.seed}), model, report, entry)


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

    def views(missing: Sequence[Record]) -> Iterator[torch.Tensor]:
        for batch in loader.fixed_batches(missing):
            assert not isinstance(batch.inputs, Features)
            yield batch.inputs

    with track("encoding", len(set(records))) as log:
        found = encode_cached(model, records, loader.key, views, cache, log=log)
    return FeatureLoader(loader.views, loader.scale, dict(zip(records, found, strict=True)))


def metrics_of(report: Report) -> dict[str, Any]:
    """The metrics of a report, and `within` each subset."""
    return {**report.metrics, "within": report.within}


def fit(
    model: QualityModel,
    loader: Loader,
    shots: Sequence[Record],
    settings: Config,
    *,
    seed: int | None = None,
    loss: Loss | None = None,
) -> list[Mapping[str, float]]:
    """Learn from shots in place: by gradients, then the head in closed form, or either alone, as `settings` say.

    Returns what each gradient step logs.
    """
    seed = settings.seed if seed is None else seed
    model.head.reset()
    history: list[Mapping[str, float]] = []
    if settings.adapt:
        history = _descend(model, loader, shots, settings.adapt, settings, loss or WeightedSum(settings.loss), seed)
    if settings.head.closed_form:
        fit_head(model, loader, shots)
    return history


@torch.no_grad()
def fit_head(model: QualityModel, loader: Loader, shots: Sequence[Record]) -> None:
    """Fit the head on the shots' features, as the model encodes them by now."""
    state, parts, quality = model.encode_prompts(), [], []
    for batch in loader.fixed_batches(shots):
        inputs = batch.inputs.to(model.device)
        features = inputs if isinstance(inputs, Features) else model.encode(inputs, state)
        parts.append(model.compare(features, state, model.quality_branches).mean_over_views())
        quality.append(batch.targets["quality"])
    model.head.fit(Features.cat(parts), torch.cat(quality).to(model.device), groups=[record.group for record in shots])


def _descend(
    model: QualityModel,
    loader: Loader,
    shots: Sequence[Record],
    spec: AdaptSpec,
    settings: Config,
    loss: Loss,
    seed: int,
) -> list[Mapping[str, float]]:
    steps, device = spec.steps_for(len(shots)), model.device
    spec, params, teacher = spec.of_steps(steps), model.train_only(spec.trainable), None
    if spec.regularizer is not None and spec.regularizer.strength:
        teacher = zero_shot_teacher(model.spec, spec.regularizer.branch, shared_clip(settings.clip, str(device)))
    history: list[Mapping[str, float]] = []
    with track("adapting", steps) as show, rng.scoped(seed, "dropout"):

        def log(logged: Mapping[str, float]) -> None:
            history.append(logged)
            show(logged)

        batches = (batch.to(str(device)) for batch in _shot_batches(loader, shots, steps, spec.batch, seed))
        finetune(model, params, batches, loss, spec, teacher=teacher, log=log)
    model.head.is_fitted = not settings.head.closed_form
    return history


def _shot_batches(loader: Loader, shots: Sequence[Record], steps: int, size: int, seed: int) -> Iterator[Batch]:
    """`steps` batches of up to `size` shots, each drawn anew."""
    for step in range(steps):
        noise = rng.generator(seed, "adapt", step)
        order = torch.randperm(len(shots), generator=noise)[:size].tolist()
        yield loader.random_batch([shots[i] for i in order], noise)


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
