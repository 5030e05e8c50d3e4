"""Learning from shots: a stage of gradients, then the head in closed form, or either alone."""

from collections.abc import Iterator, Mapping, Sequence

import torch

from .. import rng
from ..config import AdaptSpec, Config
from ..data.loading import Loader
from ..finetune import finetune
from ..losses import Loss, WeightedSum
from ..model.clip import shared_clip
from ..model.quality import QualityModel, zero_shot_teacher
from ..progress import track
from ..types import Batch, Features, Record


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
        history = _finetune(model, loader, shots, settings.adapt, settings, loss or WeightedSum(settings.loss), seed)
    if settings.head.closed_form:
        _fit_head(model, loader, shots)
    return history


@torch.no_grad()
def _fit_head(model: QualityModel, loader: Loader, shots: Sequence[Record]) -> None:
    """Fit the head on the shots' features, as the model encodes them by now."""
    state, parts, quality = model.encode_prompts(), [], []
    for batch in loader.fixed_batches(shots):
        inputs = batch.inputs.to(model.device)
        features = inputs if isinstance(inputs, Features) else model.encode(inputs, state)
        parts.append(model.compare(features, state, model.quality_branches).mean_over_views())
        quality.append(batch.targets["quality"])
    model.head.fit(Features.cat(parts), torch.cat(quality).to(model.device), groups=[record.group for record in shots])


def _finetune(
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
