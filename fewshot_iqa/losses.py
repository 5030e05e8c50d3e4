"""Losses over a `Prediction` and targets. Every function returns the mean over the batch, weighed by how well each
rating is known where `weight` (B,) tells it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import InputError
from .types import Params, Prediction

if TYPE_CHECKING:
    from .config import LossTerm


def weighted_mean(values: Tensor, weight: Tensor | None = None) -> Tensor:
    """Σ w·v / Σ w over a batch (B,); the mean without weights."""
    return values.mean() if weight is None else (weight * values).sum() / weight.sum()


def soft_cross_entropy(logits: Tensor, quality: Tensor, weight: Tensor | None = None) -> Tensor:
    """GRMP-IQA's quality loss: −mean(y·log p_high + (1−y)·log p_low), p = softmax of `logits`.

    `logits` (B, 2) are those of an antonym pair, the phrase of high quality first; `quality` y (B,) is in [0, 1].
    """
    log_p = logits.log_softmax(dim=-1)
    return -weighted_mean(quality * log_p[:, 0] + (1 - quality) * log_p[:, 1], weight)


def distribution_cross_entropy(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross-entropy −mean Σ_i t_i · log p_i, with p = softmax(`logits` / temperature) and t = `target`, both (B, P)."""
    return -(target * (logits / temperature).log_softmax(dim=-1)).sum(dim=-1).mean()


def label_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """MP-IQE's alignment losses (equations 9 and 11): −1/P Σ_i t_i · log p_i, with p = softmax of `logits` (B, P).

    A row of `target` (B, P) is a distribution over the P classes, or zero for a picture without a label. The mean is
    over the pictures that have a label; 0 where none has.
    """
    each = -(target * logits.log_softmax(dim=-1)).mean(dim=-1)
    return each.sum() / target.sum().clamp(min=1)


class Loss(Protocol):
    """A loss, and the text branches that it reads."""

    @property
    def branches(self) -> Sequence[str]: ...

    def __call__(self, prediction: Prediction, targets: Mapping[str, Tensor], /) -> Tensor: ...


@dataclass(frozen=True)
class FunctionLoss:
    """A function of a prediction and the targets {name: (B,)}, among them `quality`, as a loss."""

    function: Callable[[Prediction, Mapping[str, Tensor]], Tensor]
    branches: Sequence[str] = ()

    def __call__(self, prediction: Prediction, targets: Mapping[str, Tensor]) -> Tensor:
        value = self.function(prediction, targets)
        if not isinstance(value, Tensor) or value.ndim or not value.requires_grad:
            name = getattr(self.function, "__name__", "the function")
            raise InputError(f"loss: {name} has to return a tensor of one number that depends on the prediction")
        return value


@dataclass(frozen=True)
class WeightedSum:
    """The configured loss: Σ weight · term. A term's target is `targets["quality"]`, unless it names another one.
    `targets["weight"]`, where it is there, weighs the pictures in terms of quality."""

    terms: "Sequence[LossTerm]"

    @property
    def branches(self) -> list[str]:
        """The text branches whose logits the terms need."""
        return [term.branch for term in self.terms if term.branch]

    def __call__(self, prediction: Prediction, targets: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([term.weight * _term(term, prediction, targets) for term in self.terms]).sum()


def _term(term: "LossTerm", prediction: Prediction, targets: Mapping[str, Tensor]) -> Tensor:
    target = targets[term.target or "quality"]
    weight = None if term.target else targets.get("weight")
    if term.branch is None:
        measure = F.mse_loss if term.kind == "mse" else F.smooth_l1_loss
        return weighted_mean(measure(prediction.mean, target, reduction="none"), weight)
    logits = prediction.logits[term.branch]
    if term.kind == "cross_entropy":
        return label_cross_entropy(logits, target)
    known = target.isfinite() & logits.isfinite().all(dim=-1)  # nan where a picture has no such rating or no prompt
    if not known.any():
        return logits.nansum() * 0
    logits, target, weight = logits[known], target[known], None if weight is None else weight[known]
    if term.kind == "soft_cross_entropy":
        return soft_cross_entropy(logits, target, weight)
    return weighted_mean((logits.softmax(dim=-1)[:, 0] - target).square(), weight)


def gradients_by_name(loss: Tensor, params: Params, *, retain_graph: bool = False) -> Params:
    """The gradient of a scalar `loss`, {name: tensor}, for the parameters that it depends on; the others are absent."""
    gradients = torch.autograd.grad(loss, list(params.values()), retain_graph=retain_graph, allow_unused=True)
    return {name: g for name, g in zip(params, gradients, strict=True) if g is not None}


def first_infinite(tensors: Params, factor: float = 1.0) -> str | None:
    """The name of the first tensor that holds NaN or infinity, or would when multiplied by `factor`; None where none
    does. One pass over them, which waits for the device once."""
    if not tensors or (nn.utils.get_total_norm(tensors.values()) * factor).isfinite():
        return None
    return next((name for name, value in tensors.items() if not (value * factor).isfinite().all()), None)
