"""Linear heads: by gradients, or by ridge regression."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...config import ModelSpec
from ...config.heads import LinearSpec, RidgeSpec
from ...types import Features, Prediction
from .base import Head

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
CONSTANT = 1e-6  # a feature that varies less over the shots is not standardised
RESIDUAL = 0.1  # deviation of quality that a fitted model leaves, about


def feature_std(features: Tensor) -> Tensor:
    """The standard deviation (S,) of features (R, S) over shots; 1 for those that are constant over them."""
    std = features.std(dim=0, correction=0)
    return torch.where(std < CONSTANT, 1.0, std)


def rating_weights(variance: Tensor) -> Tensor:
    """How much each rating counts, of mean 1, where `variance` V (R,) is that of its quality as a mean of votes:
    1 / (r² + V), the weight of least squares where a model that knew all would be off by r = `RESIDUAL`.

    Examples:
        >>> rating_weights(torch.tensor([0.0, 0.03])).tolist()
        [1.600000023841858, 0.4000000059604645]
    """
    weights = 1 / (RESIDUAL**2 + variance)
    return weights / weights.mean()


def grouped_errors(
    x: Floats, y: Floats, weights: Floats | None, penalties: Sequence[float], splits: Sequence[tuple[Rows, Rows]]
) -> Floats:
    """The mean squared error (P,) of ridge regression with each of P penalties, averaged over `splits`: the rows of
    features `x` (R, S) and quality `y` (R,) that are learned from, and those that are predicted.

    As scikit-learn's grid search has it, but for all penalties from one decomposition of a split.
    """
    alphas, weights = np.array(penalties)[:, None], np.ones(len(y)) if weights is None else weights
    errors = []
    for learned, tested in splits:
        root = np.sqrt(weights[learned])
        mean, level = (np.average(values[learned], axis=0, weights=weights[learned]) for values in (x, y))
        u, s, rows = np.linalg.svd(root[:, None] * (x[learned] - mean), full_matrices=False)
        weight = s / (s**2 + alphas) * (u.T @ (root * (y[learned] - level)))  # (P, R) on the right singular vectors
        predicted = weight @ (rows @ (x[tested] - mean).T) + level
        errors.append(np.average(np.square(predicted - y[tested]), axis=1, weights=weights[tested]))
    return np.mean(errors, axis=0)


class LinearHead(Head):
    """Quality (B,) = features (B, S) · `weight` + `bias`, the mean over views; learned by gradients from zero.

    It may leave [0, 1] a little.
    """

    def __init__(self, spec: LinearSpec | RidgeSpec, model: ModelSpec, clip: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(clip.pooled_width))
        self.bias = nn.Parameter(torch.zeros(()))

    def predict(self, features: Features) -> Prediction:
        return Prediction(features.matrix() @ self.weight + self.bias)


class RidgeHead(LinearHead):
    """The same by ridge regression on features that are standardised over the shots.

    The penalty is that of `penalties` with the least squared error in leave-one-out cross-validation in closed form,
    or in five folds of whole groups where several shots are of one group. `penalty` is the one chosen.
    """

    penalty: float

    def __init__(self, spec: RidgeSpec, model: ModelSpec, clip: Any) -> None:
        super().__init__(spec, model, clip)
        self.penalties = spec.penalties

    @torch.no_grad()
    def fit(
        self, features: Features, quality: Tensor, *, groups: Sequence[str] = (), variance: Tensor | None = None
    ) -> None:
        from sklearn.linear_model import RidgeCV  # takes a second to import
        from sklearn.model_selection import GroupKFold

        matrix = features.matrix().cpu().double()  # not every device has float64
        std, y = feature_std(matrix).numpy(), quality.cpu().double().numpy()
        mean = matrix.numpy().mean(axis=0)
        x = (matrix.numpy() - mean) / std
        count, penalties = len(set(groups)), self.penalties
        weights = None if variance is None else rating_weights(variance).cpu().numpy()
        if 1 < count < len(groups):
            splits = list(GroupKFold(min(5, count)).split(x, groups=groups))
            penalties = [penalties[grouped_errors(x, y, weights, penalties, splits).argmin()]]
        fitted = RidgeCV(penalties, scoring="neg_mean_squared_error").fit(x, y, sample_weight=weights)
        weight = fitted.coef_ / std
        self.weight.copy_(torch.from_numpy(weight).to(self.weight.dtype))
        self.bias.fill_(fitted.intercept_ - mean @ weight)
        self.penalty, self.is_fitted = float(fitted.alpha_), True
