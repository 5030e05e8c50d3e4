"""Learning from shots: a stage of gradients, then the head in closed form, or either alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from .. import rng
from ..config import AdaptSpec, Config
from ..data.loading import FeatureLoader, Loader
from ..finetune import finetune, step_gradients
from ..losses import Loss, WeightedSum
from ..model.clip import shared_clip
from ..model.quality import QualityModel, zero_shot_teacher
from ..precision import keeps_gradients, pays_in_bf16
from ..progress import track
from ..types import Batch, Features, Params, Record
from .trunk import Crops, Trunk


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
        features = model.encode(batch.inputs.to(model.device), state)
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
    plain = settings.plain or isinstance(loader, FeatureLoader)
    layers = None if plain else model.frozen_layers(spec.trainable)
    trunk = None if layers is None else Trunk(model, layers)

    def encode(batch: Batch, bf16: bool) -> Batch:
        """What stays the same in all steps, of crops."""
        batch, targets = batch.to(str(device)), {}
        inputs = batch.inputs
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            if trunk is not None and not model.is_tuned_below(0):  # teacher and trunk begin alike
                inputs = model.encode_trunk(inputs, 0)
            if teacher is not None and spec.regularizer is not None:
                targets = {"teacher": teacher(inputs).logits[spec.regularizer.branch]}
            inputs = inputs if trunk is None else trunk.encode(inputs)
        return replace(batch, inputs=inputs, targets={**batch.targets, **targets})

    def gradients(bf16: bool) -> Params:
        """Of the first step."""
        (first,) = _shot_batches(Crops(loader, None, partial(encode, bf16=bf16)), shots, 1, spec.batch, seed)
        return step_gradients(model, params, first, loss, spec.model_copy(update={"bf16": bf16}), teacher)[1]

    bf16 = False if settings.plain else spec.bf16
    if bf16 is None:
        bf16 = pays_in_bf16(model.clip.vision_width, device) and keeps_gradients(gradients)
    spec = spec.model_copy(update={"bf16": bf16})
    history: list[Mapping[str, float]] = []
    with track("adapting", steps) as show, rng.scoped(seed, "dropout"):

        def log(logged: Mapping[str, float]) -> None:
            history.append(logged)
            show(logged)

        batches = _shot_batches(Crops(loader, spec.crops, partial(encode, bf16=bf16)), shots, steps, spec.batch, seed)
        finetune(model, params, batches, loss, spec, teacher=teacher, log=log)
    model.head.is_fitted = not settings.head.closed_form
    return history


def _shot_batches(crops: Crops, shots: Sequence[Record], steps: int, size: int, seed: int) -> Iterator[Batch]:
    """`steps` batches of up to `size` shots, each drawn anew."""
    for step in range(steps):
        noise = rng.generator(seed, "adapt", step)
        order = torch.randperm(len(shots), generator=noise)[:size].tolist()
        yield crops.batch([shots[i] for i in order], noise)
