"""CLIP-IQA's antonym head."""

from typing import Any

from torch import Tensor

from ...config import ModelSpec
from ...config.heads import AntonymSpec
from ...types import Features, Prediction
from .base import Head


def antonym_quality(logits: Tensor) -> Tensor:
    """The probability (...) of the good phrase from logits (..., 2), good phrase first."""
    return logits.softmax(dim=-1)[..., 0]


class AntonymHead(Head):
    """Quality is the probability of the good phrase of the quality branch, the mean over views. Nothing to fit."""

    @property
    def zero_shot(self) -> bool:
        return True

    reads_pooled = False

    def __init__(self, spec: AntonymSpec, model: ModelSpec, clip: Any) -> None:
        super().__init__()
        self.branch = model.quality

    def predict(self, features: Features) -> Prediction:
        return Prediction(antonym_quality(features.logits[self.branch]).mean(dim=1))
