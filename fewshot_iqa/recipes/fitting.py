"""Learning from shots: a stage of gradients, then the head in closed form, or either alone."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import rng
from ..config import AdaptSpec, Config
from ..data.loading import FeatureLoader, Loader
from ..data.splits import folds_by_group
from ..data.votes import variance_of_means
from ..finetune import finetune, step_gradients
from ..losses import Loss, WeightedSum
from ..model.clip import shared_clip
from ..model.heads.linear import rating_weights
from ..model.quality import QualityModel, zero_shot_teacher
from ..precision import choose_bf16
from ..progress import track
from ..types import Batch, Features, Params, Record, Scale
from .trunk import Crops, Trunk


def fit(
    model: QualityModel,
    loader: Loader,
    shots: Sequence[Record],
    settings: Config,
    *,
    seed: int | None = None,
    loss: Loss | None = None,
    after_step: Callable[[int, int], None] = lambda step, steps: None,
) -> list[Mapping[str, float]]:
    """Learn from shots in place: by gradients, then the head in closed form, or either alone, as `settings` say.

    After gradients, the head is fitted on features out of fold: each shot is encoded by a model that learned from the
    other `adapt.folds` - 1 folds. Features that were learned from a shot's own rating know it too well, and a Gaussian
    process takes them for less noise than there is. Returns what each gradient step logs; `after_step` is called after
    each, with its number from 1 on and the number of steps.
    """
    seed = settings.seed if seed is None else seed
    model.head.reset()
    history: list[Mapping[str, float]] = []
    parts: list[_Encoded] = []
    if settings.adapt:
        loss = loss or WeightedSum(settings.loss)
        stage = _choose_precision(prepare(model, loader, settings.adapt, settings), loader, shots, loss, seed)
        crops = Crops(loader, settings.adapt.crops, stage.encode)
        if settings.head.closed_form:
            parts = _encode_out_of_fold(stage, crops, shots, loss, seed)
        history = _train(stage, crops, shots, loss, seed, after_step)
        model.head.is_fitted = not settings.head.closed_form
    if settings.head.closed_form:
        parts = parts or [_encode(model, loader, shots)]
        features, quality = Features.cat([part.features for part in parts]), torch.cat([part.quality for part in parts])
        records = [record for part in parts for record in part.records]
        variance = ratings_variance(records, loader.scale)
        model.head.fit(features, quality, groups=[record.group for record in records], variance=variance)
    return history


def ratings_variance(records: Sequence[Record], scale: Scale) -> Tensor | None:
    """That of each quality as a mean of votes (R,); None unless all records tell it."""
    if any(record.votes is None for record in records):
        return None
    known = [(math.nan if record.rating_std is None else record.rating_std, record.votes) for record in records]
    found = variance_of_means(*np.array(known, float).T) / (scale.best - scale.worst) ** 2
    return torch.from_numpy(found) if np.isfinite(found).all() else None


class _Encoded(NamedTuple):
    """Rated pictures and what a model makes of them."""

    records: Sequence[Record]
    features: Features
    quality: Tensor


@torch.no_grad()
def _encode(model: QualityModel, loader: Loader, records: Sequence[Record]) -> _Encoded:
    state, parts, quality = model.encode_prompts(), [], []
    for batch in loader.fixed_batches(records):
        features = model.encode(batch.inputs.to(model.device), state)
        compared = model.compare(features, state, model.quality_branches, batch.prompts)
        parts.append(compared.mean_over_views())
        quality.append(batch.targets["quality"])
    return _Encoded(records, Features.cat(parts), torch.cat(quality).to(model.device))


def _encode_out_of_fold(stage: "Stage", crops: Crops, shots: Sequence[Record], loss: Loss, seed: int) -> list[_Encoded]:
    """Each fold of the shots as the model encodes it after learning from the others, which it then forgets; nothing
    where all shots are of one group."""
    start = {name: value.detach().clone() for name, value in stage.params.items()}
    folds, parts = min(stage.spec.folds, len({record.group for record in shots})), []
    for rest, fold in folds_by_group(shots, folds, seed=seed) if folds > 1 else ():
        _train(stage, crops, rest, loss, seed)
        parts.append(_encode(stage.model, crops.loader, fold))
        with torch.no_grad():
            for name, value in stage.params.items():
                value.copy_(start[name])
    return parts


def _train(
    stage: "Stage",
    crops: Crops,
    shots: Sequence[Record],
    loss: Loss,
    seed: int,
    after_step: Callable[[int, int], None] = lambda step, steps: None,
) -> list[Mapping[str, float]]:
    """Learn by gradients from crops of the shots; what each step logs."""
    spec, history = stage.spec.of_steps(stage.spec.steps_for(len(shots))), []
    with track("adapting", spec.steps or 0) as show, rng.scoped(seed, "dropout"):

        def log(logged: Mapping[str, float]) -> None:
            history.append(logged)
            show(logged)
            after_step(len(history), spec.steps or 0)

        batches = shot_batches(crops, shots, spec, seed)
        finetune(stage.model, stage.params, batches, loss, spec, teacher=stage.teacher, log=log)
    return history


def _choose_precision(stage: "Stage", loader: Loader, shots: Sequence[Record], loss: Loss, seed: int) -> "Stage":
    """The stage in bfloat16, where its first gradient keeps its direction and hardware has it, or not."""

    def first_gradients(bf16: bool) -> Params:
        either = stage.with_bf16(bf16)
        (first,) = shot_batches(Crops(loader, None, either.encode), shots, stage.spec.of_steps(1), seed)
        return either.gradients(first, loss)

    model = stage.model
    return stage.with_bf16(choose_bf16(stage.spec.bf16, model.clip.vision_width, model.device, first_gradients))


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
    """Batches of up to `spec.batch` shots, each drawn anew, one for each step. Their target `weight` says how well the
    votes know each rating, where the shots tell it."""
    variance = ratings_variance(shots, crops.loader.scale)
    weights = None if variance is None else rating_weights(variance).float()
    for step in range(spec.steps or 0):
        noise = rng.generator(seed, "adapt", step)
        order = torch.randperm(len(shots), generator=noise)[: spec.batch].tolist()
        batch = crops.batch([shots[i] for i in order], noise)
        if weights is not None:
            weight = weights[order].repeat_interleave(crops.loader.views.random)
            batch = replace(batch, targets={**batch.targets, "weight": weight.to(batch.targets["quality"])})
        yield batch
