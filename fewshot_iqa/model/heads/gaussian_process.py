"""Gaussian-process regression on features of the image tower."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...config import ModelSpec
from ...config.heads import GaussianProcessSpec
from ...types import Features, Prediction
from .antonym import antonym_quality
from .base import Head
from .linear import feature_std


class _Solved(NamedTuple):
    """What predictions need: X standardised, L⁻¹ where L Lᵀ = k(X, X) + λ I, L⁻¹ (y − m), m; a, ℓ, λ, s²."""

    shots: Tensor
    whitening: Tensor
    known: Tensor
    mean: Tensor
    linear: float
    lengthscale: float
    noise: float
    outputscale: float


class GaussianProcessHead(Head):
    """Quality and its standard deviation by Gaussian-process regression (Rasmussen and Williams, 2006, ch. 2).

    With x the pooled features of a picture (S,), standardised over R shots, p the quality that the phrases predict, w
    the `prompt_mean_weight`, and y = rated quality − w p of the shots, of mean m:

        k(x, x') = 1 + a ⟨x, x'⟩ / S + (1 − a) exp(−‖x − x'‖ / (ℓ √S))
        mean     = w p + m + k(x, X) (k(X, X) + λ I)⁻¹ (y − m)
        std²     = s² (k(x, x) + λ − k(x, X) (k(X, X) + λ I)⁻¹ k(X, x))

    The 1 stands for the uncertain mean of the shots; std is that of one more rating. Before it is fitted, a head with a
    prompt mean predicts p. Buffers: `train_x` (R, S) and `train_y` (R,), the shots; `hyperparameters` (4,): a, ℓ
    (lengthscale), λ (noise), s² (outputscale).
    """

    train_x: Tensor
    train_y: Tensor
    hyperparameters: Tensor

    def __init__(self, spec: GaussianProcessSpec, model: ModelSpec, clip: Any) -> None:
        super().__init__()
        self.spec, self.branch = spec, model.quality
        self.zero_shot = spec.prompt_mean_weight > 0
        self.register_buffer("train_x", torch.zeros(0, clip.pooled_width))
        self.register_buffer("train_y", torch.zeros(0))
        self.register_buffer("hyperparameters", torch.zeros(4, dtype=torch.float64))
        self._solved: _Solved | None = None
        self._moments: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def fit(self, features: Features, quality: Tensor, *, groups: Sequence[str] = ()) -> None:
        """Choose a, λ and s² by the greatest posterior density, with C = k(X, X) + λ I and a log-normal prior on λ:

            log p(y) + log p(λ) = −½ log |s² C| − R/2 − ½ (log₁₀ λ)² + const,  s² = (y − m)ᵀ C⁻¹ (y − m) / R

        Without p(λ), ten shots are often explained without noise, and the predicted deviations come out too small.
        """
        x, weight = features.matrix(), self.spec.prompt_mean_weight
        y = quality.to(x.device)
        self.set_train_data(x, y - weight * self._phrases(features) if weight else y)
        x, y, lengthscale = self.standardize(x), self.train_y.double(), self.spec.lengthscale
        best, chosen = -math.inf, (0.0, lengthscale, 1.0, 0.0)
        inner, near = self._similarities(x, x, lengthscale)
        for linear in self.spec.linear:
            values, vectors = torch.linalg.eigh(_weighed(linear, inner, near))
            centred = vectors.T @ (y - y.mean())
            for noise in self.spec.noise:
                precision = 1 / (values.clamp(min=0) + noise)
                outputscale = (centred.square() * precision).mean().clamp(min=1e-12)
                density = float(precision.log().sum() - len(y) * outputscale.log()) - math.log10(noise) ** 2
                if density > best:
                    best, chosen = density, (linear, lengthscale, noise, float(outputscale))
        self.set_hyperparameters(*chosen)

    def predict(self, features: Features) -> Prediction:
        weight = self.spec.prompt_mean_weight
        if not self.is_fitted:
            return Prediction(self._phrases(features))
        x = features.matrix()
        if self._solved is None or self._solved.shots.device != x.device:
            self._solved = self._solve(*self.hyperparameters.tolist())
        solved = self._solved
        new, linear = self.standardize(x), solved.linear
        cross = solved.whitening @ self.kernel(solved.shots, new, linear, solved.lengthscale)
        itself = 1 + linear * new.square().mean(dim=1) + (1 - linear)
        variance = solved.outputscale * (itself + solved.noise - cross.square().sum(dim=0))
        mean = (solved.mean + (cross.T @ solved.known)[:, 0]).to(x)
        prior = weight * self._phrases(features) if weight else 0
        return Prediction(mean + prior, variance.clamp(min=0).sqrt().to(x))

    def _phrases(self, features: Features) -> Tensor:
        """p (B,)."""
        return antonym_quality(features.logits[self.branch]).mean(dim=1)

    def reset(self) -> None:
        self.set_train_data(self.train_x[:0], self.train_y[:0])

    def set_train_data(self, *data: Tensor) -> None:
        """Take these shots, features (R, S) and quality (R,), in the place of others."""
        train_x, train_y = data
        self.train_x, self.train_y = train_x.to(self.train_x), train_y.to(self.train_y)
        self._solved = self._moments = None
        self.is_fitted = len(train_y) > 0

    def set_hyperparameters(self, linear: float, lengthscale: float, noise: float, outputscale: float) -> None:
        """a, ℓ, λ, s²."""
        values = torch.tensor([linear, lengthscale, noise, outputscale], dtype=torch.float64)
        self.hyperparameters.copy_(values)
        self._solved = None

    def standardize(self, features: Tensor) -> Tensor:
        """(B, S) in float64, by mean and deviation of the shots; what is constant over them is centred only."""
        if self._moments is None or self._moments[0].device != features.device:
            shots = self.train_x.double()
            self._moments = shots.mean(dim=0), feature_std(shots)
        mean, std = self._moments
        return (features.double() - mean) / std

    def _solve(self, linear: float, lengthscale: float, noise: float, outputscale: float) -> "_Solved":
        shots, y = self.standardize(self.train_x), self.train_y.double()
        unit = torch.eye(len(y)).to(y)
        root = torch.linalg.cholesky(self.kernel(shots, shots, linear, lengthscale) + noise * unit)
        whitening = torch.linalg.solve_triangular(root, unit, upper=False)
        known = whitening @ (y - y.mean())[:, None]
        return _Solved(shots, whitening, known, y.mean(), linear, lengthscale, noise, outputscale)

    @classmethod
    def kernel(cls, one: Tensor, two: Tensor, linear: float, lengthscale: float) -> Tensor:
        """k of standardised rows (M, S) and (N, S): (M, N)."""
        return _weighed(linear, *cls._similarities(one, two, lengthscale))

    @staticmethod
    def _similarities(one: Tensor, two: Tensor, lengthscale: float) -> tuple[Tensor, Tensor]:
        """The two parts of k that a weighs, (M, N)."""
        width = one.shape[1]
        distance = torch.cdist(one, two, compute_mode="use_mm_for_euclid_dist")  # which can be exported
        return (one @ two.T) / width, (-distance / (lengthscale * width**0.5)).exp()


def _weighed(linear: float, inner: Tensor, near: Tensor) -> Tensor:
    return 1 + linear * inner + (1 - linear) * near
