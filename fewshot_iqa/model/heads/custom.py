"""A head given from Python."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...types import Features, Prediction
from .base import Head


class CustomHead(Head):
    """An object with `fit(features, quality, *, groups)` and `predict(features) -> Prediction`, such as a regressor of
    scikit-learn behind these two. It reads the pooled features of the visual set `visual`, D = `dim`.

    A checkpoint holds the features, the quality and the groups that it was fitted on, and no code: whoever loads it
    gives the object again, and it is fitted again. Groups are numbers, as text. Buffers: `train_x` (R, S), `train_y`
    (R,), `train_groups` (R,).
    """

    train_x: Tensor
    train_y: Tensor
    train_groups: Tensor

    def __init__(self, regressor: Any, visual: str, dim: int) -> None:
        super().__init__()
        self.name = type(regressor).__name__
        if isinstance(regressor, type):
            raise InputError(f"head: {regressor.__name__} is a class; give an object, {regressor.__name__}()")
        for name in ("fit", "predict"):
            if not callable(getattr(regressor, name, None)):
                raise InputError(f"head: {self.name} has no method {name}")
        parameters = inspect.signature(regressor.fit).parameters.values()
        if not any(each.name == "groups" or each.kind is each.VAR_KEYWORD for each in parameters):
            raise InputError(f"head: {self.name}.fit takes no groups; define fit(features, quality, *, groups=())")
        self.regressor, self.visual, self.dim = regressor, visual, dim
        self.register_buffer("train_x", torch.zeros(0, 0))
        self.register_buffer("train_y", torch.zeros(0))
        self.register_buffer("train_groups", torch.zeros(0, dtype=torch.long))

    def fit(
        self, features: Features, quality: Tensor, *, groups: Sequence[str] = (), variance: Tensor | None = None
    ) -> None:
        names = list(dict.fromkeys(groups))
        numbers = torch.tensor([names.index(group) for group in groups], dtype=torch.long)
        self.set_train_data(features.pooled[self.visual].mean(dim=1).detach(), quality, numbers)

    def set_train_data(self, *data: Tensor) -> None:
        """Fit on features (R, S), quality (R,) and groups (R,), those of shots or of a checkpoint."""
        self.train_x, self.train_y, self.train_groups = data
        features = Features(self.dim, {self.visual: self.train_x[:, None]})
        self.regressor.fit(features, self.train_y, groups=[str(group) for group in self.train_groups.tolist()])
        self.is_fitted = True

    def predict(self, features: Features) -> Prediction:
        found = self.regressor.predict(Features(self.dim, {self.visual: features.pooled[self.visual]}))
        if not isinstance(found, Prediction):
            raise InputError(f"head: {self.name}.predict returned no fewshot_iqa.Prediction")
        mean, std = (
            self._column(name, value, len(features)) for name, value in (("mean", found.mean), ("std", found.std))
        )
        assert mean is not None
        if std is not None and (std < 0).any():
            raise InputError(f"head: {self.name}.predict returned a negative std")
        return Prediction(mean.to(features.pooled[self.visual]), std if std is None else std.to(mean.device))

    def _column(self, name: str, value: Any, count: int) -> Tensor | None:
        """A tensor (B,) of finite numbers."""
        if value is None and name == "std":
            return None
        tensor = torch.as_tensor(value).float()
        if tensor.shape != (count,) or not tensor.isfinite().all():
            shape = tuple(tensor.shape)
            raise InputError(f"head: {self.name}.predict returned a {name} of shape {shape}; give ({count},), finite")
        return tensor
