"""Few-shot adaptation: by gradients, with quality-aware regularisation, or in closed form."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .errors import InputError
from .losses import WeightedSum, distribution_cross_entropy, gradients_by_name
from .regularize import cosine, project_gradient
from .types import Batch, Params

if TYPE_CHECKING:
    from .config import AdaptSpec, GaussianProcessSpec, RidgeSpec


def fit(
    model: nn.Module,
    params: Params,
    batches: Iterable[Batch],
    loss: WeightedSum,
    spec: "AdaptSpec",
    *,
    anchor: nn.Module | None = None,
    log: Callable[[Mapping[str, float]], None] = lambda _: None,
) -> None:
    """Train `params` of `model` in place, one step per batch, with one optimiser from first to last.

    With `spec.regularizer`, the gradient of the task loss loses the part that follows the scene distribution of
    `anchor`, plain CLIP; both gradients are of one forward pass. `log` is called after each step with its `loss` and,
    with a regularizer, the `cosine` of the angle between the two. `model` stays in evaluation mode outside; dropout
    acts inside.
    """
    optimizer = _optimizer(params, spec)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, spec))
    model.train()
    try:
        for batch in batches:
            told, gradients = _gradients(model, params, batch, loss, spec, anchor)
            for name, parameter in params.items():
                parameter.grad = gradients.get(name)
            optimizer.step()
            schedule.step()
            if not math.isfinite(told["loss"]):
                raise InputError(f"the loss became {told['loss']}: lower adapt.lr (now {spec.lr:g})")
            log(told)
        if not all(value.isfinite().all() for value in params.values()):
            raise InputError(f"the last step diverged: lower adapt.lr (now {spec.lr:g})")
    finally:
        model.eval()


@torch.no_grad()
def ridge(model: Any, features: Tensor, quality: Tensor, spec: "RidgeSpec", groups: Sequence[str] = ()) -> float:
    """Set `model.head` to the ridge regression of quality (R,) on frozen features (R, S); returns the penalty.

    Features are standardised over the shots. The penalty is chosen by leave-one-out cross-validation in closed form,
    or by five folds (of whole groups) where several shots are of one of `groups`.
    """
    from sklearn.linear_model import RidgeCV  # takes a second to import
    from sklearn.model_selection import GroupKFold

    std = model.head.spread(features.double()).cpu().numpy()
    given, wanted = features.double().cpu().numpy(), quality.double().cpu().numpy()
    mean = given.mean(axis=0)
    count = len(set(groups))
    folds = GroupKFold(min(5, count)) if 1 < count < len(groups) else None
    splits = list(folds.split(given, groups=groups)) if folds else None
    fitted = RidgeCV(spec.penalties, cv=splits, scoring="neg_mean_squared_error").fit((given - mean) / std, wanted)
    weight = fitted.coef_ / std
    model.head.weight.copy_(torch.from_numpy(weight))
    model.head.bias.fill_(fitted.intercept_ - mean @ weight)
    return float(fitted.alpha_)


@torch.no_grad()
def gaussian_process(model: Any, features: Tensor, quality: Tensor, spec: "GaussianProcessSpec") -> None:
    """Make `model.head` a Gaussian process that knows the quality (R,), or what a prior leaves of it, of shots with
    features (R, S).

    The share a of the linear kernel, the noise λ and the amplitude s² are those of the greatest posterior density: with
    C = k(X, X) + λ I and a noise that is as strong as the signal, give or take a factor of ten,

        log p(y) + log p(λ) = −½ log |s² C| − R/2 − ½ (log₁₀ λ)² + const,  s² = (y − m)ᵀ C⁻¹ (y − m) / R

    Without p(λ), ten shots are often explained without noise, and the standard deviations come out too small.
    """
    head = model.head
    head.set_shots(features, quality)
    x, y = head.standardized(features), quality.double().to(features.device)
    best = -math.inf
    for linear in spec.linear:
        values, vectors = torch.linalg.eigh(head.kernel(x, x, linear, spec.length))
        centred = vectors.T @ (y - y.mean())
        for noise in spec.noise:
            precision = 1 / (values.clamp(min=0) + noise)
            amplitude = (centred.square() * precision).mean().clamp(min=1e-12)
            density = float(precision.log().sum() - len(y) * amplitude.log()) - math.log10(noise) ** 2
            if density > best:
                best = density
                chosen = (linear, spec.length, noise, float(amplitude))
    head.set_hyperparameters(*chosen)


def _gradients(
    model: nn.Module, params: Params, batch: Batch, loss: WeightedSum, spec: "AdaptSpec", anchor: nn.Module | None
) -> tuple[dict[str, float], Params]:
    """What to tell of a step, and its gradient."""
    regularizer = spec.regularizer
    if regularizer is None or regularizer.strength == 0:
        task_loss = loss(model(batch.images, branches=loss.branches, prompts=batch.prompts), batch.targets)
        return {"loss": task_loss.item()}, gradients_by_name(task_loss, params)
    assert anchor is not None
    branch, temperature = regularizer.branch, regularizer.temperature
    output = model(batch.images, branches=[*loss.branches, branch], prompts=batch.prompts)
    task_loss = loss(output, batch.targets)
    if not output.logits[branch].requires_grad:  # nothing that learns has a part in what is to be kept
        return {"loss": task_loss.item()}, gradients_by_name(task_loss, params)
    with torch.no_grad():
        target = (anchor(batch.images).logits[branch] / temperature).softmax(dim=-1)
    semantic_loss = distribution_cross_entropy(output.logits[branch], target, temperature)
    task = gradients_by_name(task_loss, params, retain_graph=True)
    semantic = gradients_by_name(semantic_loss, params)
    told = {"loss": task_loss.item(), "cosine": cosine(task, semantic)}
    return told, project_gradient(task, semantic, regularizer.strength, regularizer.scope)


def _optimizer(params: Params, spec: "AdaptSpec") -> torch.optim.Optimizer:
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[spec.optimizer]
    return kind(params.values(), lr=spec.lr, weight_decay=spec.weight_decay)


def _rate(step: int, spec: "AdaptSpec") -> float:
    """What the learning rate is multiplied by."""
    if step < spec.warmup:
        return (step + 1) / (spec.warmup + 1)
    if spec.schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * (step - spec.warmup) / max(1, (spec.steps or 0) - spec.warmup))) / 2
