"""From prompt logits to a quality."""

from torch import Tensor


def antonym_quality(logits: Tensor) -> Tensor:
    """CLIP-IQA's antonym head: the probability (B,) of the good phrase from logits (B, 2), good phrase first."""
    return logits.softmax(dim=-1)[:, 0]
