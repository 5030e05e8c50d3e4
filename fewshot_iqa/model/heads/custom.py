"""A head given from Python."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...types import Features, Prediction
from .base import Head


class CustomHead(Head):
    """An object with `fit(features, quality, *, groups)` and `predict(features) -> Prediction`, such as a regressor of
    scikit-learn behind these two.

    A checkpoint holds the features and the ratings that it was fitted on, and no code: whoever loads it gives the
    object again, and it is fitted again. Buffers: `train_x` (R, S), `train_y` (R,), `train_groups` (R,).
    """

    train_x: Tensor
    train_y: Tensor
    train_groups: Tensor

    def __init__(self, regressor: Any) -> None:
        super().__init__()
        for name in ("fit", "predict"):
            if not callable(getattr(regressor, name, None)):
                raise InputError(f"head: {type(regressor).__name__} has no method {name}")
        self.regressor = regressor
        self.register_buffer("train_x", torch.zeros(0, 0))
        self.register_buffer("train_y", torch.zeros(0))
        self.register_buffer("train_groups", torch.zeros(0, dtype=torch.long))

    def fit(self, features: Features, quality: Tensor, *, groups: Sequence[str] = ()) -> None:
        names = list(dict.fromkeys(groups))
        self.train_x, self.train_y = features.matrix().detach(), quality
        self.train_groups = torch.tensor([names.index(group) for group in groups or []], dtype=torch.long)
        self.regressor.fit(features, quality, groups=groups)
        self.is_fitted = True

    def set_train_data(self, *data: Tensor) -> None:
        """Fit again on what a checkpoint holds: features, quality, groups."""
        train_x, train_y, train_groups = data
        features = Features(train_x.shape[1], {"": train_x[:, None]})
        self.fit(features, train_y, groups=[str(group) for group in train_groups.tolist()])
        self.train_groups = train_groups

    def predict(self, features: Features) -> Prediction:
        found: Prediction = self.regressor.predict(features)
        if not isinstance(found, Prediction):
            raise InputError(f"head: {type(self.regressor).__name__}.predict returned no fewshot_iqa.Prediction")
        return found
