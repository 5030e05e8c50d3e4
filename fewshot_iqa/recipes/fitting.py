"""Learning from shots: a stage of gradients, then the head in closed form, or either alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from .. import rng
from ..config import AdaptSpec, Config
from ..data.loading import FeatureLoader, Loader
from ..finetune import finetune, step_gradients
from ..losses import Loss, WeightedSum
from ..model.clip import shared_clip
from ..model.quality import QualityModel, zero_shot_teacher
from ..precision import choose_bf16
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
        compared = model.compare(features, state, model.quality_branches, batch.prompts)
        parts.append(compared.mean_over_views())
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
    spec = spec.of_steps(spec.steps_for(len(shots)))
    stage = prepare(model, loader, spec, settings)

    def first_gradients(bf16: bool) -> Params:
        either = stage.with_bf16(bf16)
        (first,) = shot_batches(Crops(loader, None, either.encode), shots, spec.of_steps(1), seed)
        return either.gradients(first, loss)

    stage = stage.with_bf16(choose_bf16(stage.spec.bf16, model.clip.vision_width, model.device, first_gradients))
    batches = shot_batches(Crops(loader, spec.crops, stage.encode), shots, spec, seed)
    history: list[Mapping[str, float]] = []
    with track("adapting", spec.steps or 0) as show, rng.scoped(seed, "dropout"):

        def log(logged: Mapping[str, float]) -> None:
            history.append(logged)
            show(logged)

        finetune(model, stage.params, batches, loss, stage.spec, teacher=stage.teacher, log=log)
    model.head.is_fitted = not settings.head.closed_form
    return history


@dataclass(frozen=True)
class Stage:
    """A model ready to learn by gradients: the parameters that learn, the teacher, and what stays the same meanwhile,
    its `trunk`, None where nothing is frozen; a `plain` one keeps nothing."""

    model: QualityModel
    spec: AdaptSpec
    params: Params
    teacher: QualityModel | None
    trunk: Trunk | None
    plain: bool

    def encode(self, batch: Batch) -> Batch:
        """Crops as the trunk sees them, with the logits of the teacher among their targets."""
        batch, targets = batch.to(str(self.model.device)), {}
        if self.plain:
            return batch
        inputs = batch.inputs
        with torch.no_grad(), torch.autocast(self.model.device.type, torch.bfloat16, enabled=bool(self.spec.bf16)):
            if self.trunk is not None and not self.model.is_tuned_below(0):  # teacher and trunk begin alike
                inputs = self.model.encode_trunk(inputs, 0)
            if self.teacher is not None and self.spec.regularizer is not None:
                targets = {"teacher": self.teacher(inputs).logits[self.spec.regularizer.branch]}
            inputs = inputs if self.trunk is None else self.trunk.encode(inputs)
        return replace(batch, inputs=inputs, targets={**batch.targets, **targets})

    def gradients(self, batch: Batch, loss: Loss) -> Params:
        """The gradient of a step on what `encode` gives."""
        return step_gradients(self.model, self.params, batch, loss, self.spec, self.teacher)[1]

    def with_bf16(self, bf16: bool) -> "Stage":
        return replace(self, spec=self.spec.model_copy(update={"bf16": bf16}))


def prepare(model: QualityModel, loader: Loader, spec: AdaptSpec, settings: Config) -> Stage:
    """Freeze what `spec` does not train, and make the teacher."""
    params, teacher, trunk = model.train_only(spec.trainable), None, None
    if regularizer := spec.active_regularizer:
        teacher = zero_shot_teacher(model.spec, regularizer.branch, shared_clip(settings.clip, str(model.device)))
    if settings.plain:
        spec = spec.model_copy(update={"bf16": False})
    elif not isinstance(loader, FeatureLoader) and (layers := model.frozen_layers(spec.trainable)) is not None:
        trunk = Trunk(model, layers)
    return Stage(model, spec, params, teacher, trunk, settings.plain)


def shot_batches(crops: Crops, shots: Sequence[Record], spec: AdaptSpec, seed: int) -> Iterator[Batch]:
    """Batches of up to `spec.batch` shots, each drawn anew, one for each step."""
    for step in range(spec.steps or 0):
        noise = rng.generator(seed, "adapt", step)
        order = torch.randperm(len(shots), generator=noise)[: spec.batch].tolist()
        yield crops.batch([shots[i] for i in order], noise)
