"""Losses over `Output` and targets. Every function returns the mean over the batch."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from .types import Output

if TYPE_CHECKING:
    from .config import LossTerm


def soft_cross_entropy(logits: Tensor, quality: Tensor) -> Tensor:
    """GRMP-IQA's quality loss: −mean(y·log p_high + (1−y)·log p_low).

    `logits` (B, 2) of an antonym pair, the good phrase first; `quality` (B,) in [0, 1].
    """
    log_p = logits.log_softmax(dim=-1)
    return -(quality * log_p[:, 0] + (1 - quality) * log_p[:, 1]).mean()


def distribution_cross_entropy(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross-entropy of softmax(`logits` / temperature) to the distribution `target`, both (B, P)."""
    return -(target * (logits / temperature).log_softmax(dim=-1)).sum(dim=-1).mean()


_TERMS: dict[str, Callable[[Output, str, Tensor], Tensor]] = {
    "soft_cross_entropy": lambda output, branch, y: soft_cross_entropy(output.logits[branch], y),
    "mse": lambda output, branch, y: F.mse_loss(output.logits[branch].softmax(dim=-1)[:, 0], y),
}


def weighted_sum(terms: "list[LossTerm]", output: Output, targets: Mapping[str, Tensor]) -> Tensor:
    """Σ weight · term over the configured terms, each on its own branch and target."""
    return sum(  # type: ignore[return-value]
        term.weight * _TERMS[term.kind](output, term.branch, targets[term.target]) for term in terms
    )
