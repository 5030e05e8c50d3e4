"""From prompt logits, or from features, to a quality."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def antonym_quality(logits: Tensor) -> Tensor:
    """CLIP-IQA's antonym head: the probability (B,) of the good phrase from logits (B, 2), good phrase first."""
    return logits.softmax(dim=-1)[:, 0]


class LinearHead(nn.Module):
    """Quality (B,), linear in what the plain image tower says of an image; it may leave [0, 1] a little.

    Parameters: `weight` (S,), `bias`, both zero at first.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, summary: Tensor) -> Tensor:
        return summary @ self.weight + self.bias


def summarize(embedding: Tensor, patches: Tensor, features: Tensor | None = None) -> Tensor:
    """What a linear head reads, (B, S): the normalised embedding (B, D), the mean of patches (B, N, Wv), and the mean
    of a stem's features (B, C, h, w)."""
    mean = patches.mean(dim=1)
    parts = [F.normalize(embedding, dim=-1), F.layer_norm(mean, mean.shape[-1:])]
    return torch.cat([*parts, features.mean(dim=(2, 3))] if features is not None else parts, dim=-1)
