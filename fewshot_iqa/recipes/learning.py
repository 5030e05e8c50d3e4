"""How a model learns from shots: in closed form, by gradients, or by both."""

from collections.abc import Iterator, Mapping, Sequence

import torch

from .. import rng
from ..config import AdaptSpec, Config
from ..data.loading import Loader
from ..finetune import fit, gaussian_process, ridge
from ..losses import WeightedSum
from ..model.backbone import load_clip
from ..model.heads import GaussianProcessHead
from ..model.quality import QualityModel, scene_anchor
from ..progress import track
from ..types import Batch, Record


def learn(
    model: QualityModel, loader: Loader, shots: Sequence[Record], settings: Config, device: str
) -> list[Mapping[str, float]]:
    """Adapt `model` in place: by gradients, or its head in closed form, or the first and then the second with what the
    model says by then; returns what is told of each step."""
    if isinstance(model.head, GaussianProcessHead):
        model.head.forget()
    history = _descend(model, loader, shots, settings.adapt, settings, device) if settings.adapt else []
    if settings.ridge or settings.gp:
        _solve(model, loader, shots, settings, device)
    return history


def _solve(model: QualityModel, loader: Loader, shots: Sequence[Record], settings: Config, device: str) -> None:
    """The closed form: of the shots' quality, or of what the prior leaves of it."""
    features, quality, prior = [], [], model.spec.prior
    with torch.no_grad():
        state = model.encode_prompts()
        for batch in loader.fixed_batches(shots):
            seen = model.summary(batch.images.to(device), state)
            features.append(seen.mean(dim=1))
            rated = batch.targets["quality"].to(device)
            quality.append(rated - prior * model(seen, state).quality if prior else rated)
    if settings.ridge:
        ridge(model, torch.cat(features), torch.cat(quality), settings.ridge, [record.group for record in shots])
    elif settings.gp:
        gaussian_process(model, torch.cat(features), torch.cat(quality), settings.gp)


def _descend(
    model: QualityModel, loader: Loader, shots: Sequence[Record], spec: AdaptSpec, settings: Config, device: str
) -> list[Mapping[str, float]]:
    seed, steps = settings.seed, spec.steps_for(len(shots))
    spec = spec.of_steps(steps)
    anchor, params = _anchor(settings, spec, device), model.train_only(spec.trainable)
    history: list[Mapping[str, float]] = []
    with track("adapting", steps) as show, rng.scoped(seed, "dropout"):

        def log(told: Mapping[str, float]) -> None:
            history.append(told)
            show(told)

        batches = (batch.to(device) for batch in _shot_batches(loader, shots, steps, spec.batch, seed))
        fit(model, params, batches, WeightedSum(settings.loss), spec, anchor=anchor, log=log)
    return history


def _anchor(settings: Config, spec: AdaptSpec, device: str) -> QualityModel | None:
    if spec.regularizer is None or spec.regularizer.strength == 0:
        return None
    return scene_anchor(settings.model, spec.regularizer.branch, load_clip(settings.clip)).to(device)


def _shot_batches(loader: Loader, shots: Sequence[Record], steps: int, size: int, seed: int) -> Iterator[Batch]:
    """`steps` batches of up to `size` shots, each drawn anew."""
    for step in range(steps):
        noise = rng.generator(seed, "adapt", step)
        order = torch.randperm(len(shots), generator=noise)[:size].tolist()
        yield loader.random_batch([shots[i] for i in order], noise)
