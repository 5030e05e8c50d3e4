"""Few-shot adaptation: by gradients, with quality-aware regularisation, or in closed form."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .errors import InputError
from .losses import WeightedSum, distribution_cross_entropy, gradients_by_name
from .regularize import remove_component
from .types import Batch, Params

if TYPE_CHECKING:
    from .config import AdaptSpec, RidgeSpec


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

    With `spec.regularizer`, the gradient of the task loss loses, tensor by tensor, the part that follows the scene
    distribution of `anchor`, plain CLIP. `model` stays in evaluation mode outside; dropout acts inside.
    """
    optimizer = _optimizer(params, spec)
    model.train()
    try:
        for batch in batches:
            value, gradients = _gradients(model, params, batch, loss, spec, anchor)
            for name, parameter in params.items():
                parameter.grad = gradients.get(name)
            optimizer.step()
            if not math.isfinite(value):
                raise InputError(f"the loss became {value}: lower adapt.lr (now {spec.lr:g})")
            log({"loss": value})
    finally:
        model.eval()


@torch.inference_mode()
def ridge(model: Any, batches: Iterable[Batch], spec: "RidgeSpec") -> float:
    """Set `model.head` to the ridge regression of quality on frozen features; returns the penalty."""
    weight, bias, penalty = solve_ridge(*summaries(model, batches), spec)
    model.head.weight.copy_(weight)
    model.head.bias.copy_(bias)
    return penalty


@torch.inference_mode()
def summaries(model: Any, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Features (R, S) and qualities (R,) of the pictures in `batches`."""
    features, rated = [], []
    for batch in batches:
        features.append(model.summaries(batch.images))
        rated.append(batch.targets["quality"])
    return torch.cat(features), torch.cat(rated)


def solve_ridge(features: Tensor, quality: Tensor, spec: "RidgeSpec") -> tuple[Tensor, Tensor, float]:
    """Weight (S,), bias () and penalty of the ridge regression of quality (R,) on features (R, S).

    Features are standardised over the shots. The penalty is chosen by leave-one-out cross-validation (in closed form).
    """
    from sklearn.linear_model import RidgeCV  # takes a second to import

    given, wanted = features.double().cpu().numpy(), quality.double().cpu().numpy()
    mean, deviation = given.mean(axis=0), given.std(axis=0) + 1e-6
    fitted = RidgeCV(spec.penalties).fit((given - mean) / deviation, wanted)
    weight = fitted.coef_ / deviation
    bias = fitted.intercept_ - mean @ weight
    return torch.from_numpy(weight).to(features), torch.tensor(bias).to(features), float(fitted.alpha_)


def _gradients(
    model: nn.Module, params: Params, batch: Batch, loss: WeightedSum, spec: "AdaptSpec", anchor: nn.Module | None
) -> tuple[float, Params]:
    regularizer = spec.regularizer
    if regularizer is None or regularizer.strength == 0:
        task_loss = loss(model(batch.images, branches=loss.branches), batch.targets)
        return task_loss.item(), gradients_by_name(task_loss, params)
    assert anchor is not None
    branch, temperature = regularizer.branch, regularizer.temperature
    output = model(batch.images, branches=[*loss.branches, branch])
    task_loss = loss(output, batch.targets)
    with torch.no_grad():
        target = (anchor(batch.images).logits[branch] / temperature).softmax(dim=-1)
    semantic_loss = distribution_cross_entropy(output.logits[branch], target, temperature)
    task = gradients_by_name(task_loss, params, retain_graph=True)
    semantic = gradients_by_name(semantic_loss, params)
    return task_loss.item(), remove_component(task, semantic, regularizer.strength)


def _optimizer(params: Params, spec: "AdaptSpec") -> torch.optim.Optimizer:
    kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[spec.optimizer]
    return kind(params.values(), lr=spec.lr, weight_decay=spec.weight_decay)
