"""Gaussian-process regression on features of the image tower."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...config import ModelSpec
from ...config.heads import GaussianProcessSpec
from ...types import Features, Prediction
from .antonym import antonym_quality
from .base import Head
from .linear import feature_std
from .prior import linear_prior

NEGLIGIBLE = 0.01  # posterior probability of hyperparameters that are left out


class _Solved(NamedTuple):
    """What predictions need of one (a, λ): X standardised, m, L⁻¹ where L Lᵀ = k(X, X) + λ I, L⁻¹ (y − m); its weight,
    a, ℓ, λ, s²."""

    shots: Tensor
    mean: Tensor
    whitening: Tensor
    known: Tensor
    weight: float
    linear: float
    lengthscale: float
    noise: float
    outputscale: float


class GaussianProcessHead(Head):
    """Quality and its standard deviation by Gaussian-process regression (Rasmussen and Williams, 2006, ch. 2).

    With x the pooled features of a picture (S,), standardised over R shots, p the prior mean, and y = rated quality − p
    of the shots, of mean m:

        k(x, x') = 1 + a ⟨x, x'⟩ / S + (1 − a) exp(−‖x − x'‖ / (ℓ √S))
        mean     = p + m + k(x, X) (k(X, X) + λ I)⁻¹ (y − m)
        std²     = s² (k(x, x) + λ − k(x, X) (k(X, X) + λ I)⁻¹ k(X, x))

    The 1 stands for the uncertain mean of the shots; std is that of one more rating. Both are averaged over the values
    of a and λ by their posterior probability, and std² includes the variance of their means. The prior mean is

        p = `prompt_mean_weight` · (what the phrases predict) + `synthetic_mean_weight` · (x · w + b)

    with w and b of `linear_prior`, which meta-training fits to distorted photographs. A head with a prior mean predicts
    it before it is fitted, as a mean of the two predictions. Buffers: `train_x` (R, S) and `train_y` (R,), the shots;
    `hyperparameters` (G, 5): weight, a, ℓ (lengthscale), λ (noise), s² (outputscale); `prior_weight` (S,) and
    `prior_bias`, w and b.
    """

    train_x: Tensor
    train_y: Tensor
    hyperparameters: Tensor
    prior_weight: Tensor
    prior_bias: Tensor

    def __init__(self, spec: GaussianProcessSpec, model: ModelSpec, clip: Any) -> None:
        super().__init__()
        self.spec, self.branch, self.groups = spec, model.quality, clip.deep_groups
        self.register_buffer("train_x", torch.zeros(0, clip.pooled_width))
        self.register_buffer("train_y", torch.zeros(0))
        self.register_buffer("hyperparameters", torch.zeros(0, 5, dtype=torch.float64))
        self.register_buffer("prior_weight", torch.zeros(clip.pooled_width, dtype=torch.float64))
        self.register_buffer("prior_bias", torch.zeros((), dtype=torch.float64))
        self._has_linear_prior = False
        self._solved: list[_Solved] | None = None
        self._moments: tuple[Tensor, Tensor] | None = None

    @property
    def zero_shot(self) -> bool:
        return self.spec.prompt_mean_weight + self._synthetic_mean_weight > 0

    @property
    def _synthetic_mean_weight(self) -> float:
        """0 where w and b were not fitted."""
        return self.spec.synthetic_mean_weight if self._has_linear_prior else 0.0

    @torch.no_grad()
    def fit_prior(self, clean: Features, distorted: Features, quality: Tensor, clean_quality: Tensor) -> None:
        """Fit w and b: row i of `distorted` is a copy, of `quality`, of row i of `clean`, of `clean_quality`."""
        weight, bias = linear_prior(clean.matrix(), distorted.matrix(), quality, clean_quality, self.groups)
        self.prior_weight.copy_(weight)
        self.prior_bias.fill_(bias)
        self._has_linear_prior = True

    @torch.no_grad()
    def fit(self, features: Features, quality: Tensor, *, groups: Sequence[str] = ()) -> None:
        """Weigh each a and λ by its posterior probability, with C = k(X, X) + λ I, s² integrated out, and a log-normal
        prior on λ:

            log p(y) + log p(λ) = −½ log |C| − ½ (R − 1) log q − ½ (log₁₀ λ)² + const,  q = (y − m)ᵀ C⁻¹ (y − m)

        Without p(λ), ten shots are often explained without noise. s² = q / (R − 3) is the variance of Student's t with
        R − 1 degrees of freedom that follows, so that few shots lead to wide intervals.
        """
        x = features.matrix()
        self.set_train_data(x, quality.to(x.device) - self._prior_mean(features).to(x))
        x, y, lengthscale = self.standardize(x), self.train_y.double(), self.spec.lengthscale
        inner, near = self._similarities(x, x, lengthscale)
        found, density, count = [], [], len(y)
        for linear in self.spec.linear:
            values, vectors = torch.linalg.eigh(_weighed(linear, inner, near))
            centred = vectors.T @ (y - y.mean())
            for noise in self.spec.noise:
                precision = 1 / (values.clamp(min=0) + noise)
                square = (centred.square() * precision).sum().clamp(min=1e-12)
                likely = precision.log().sum() - (count - 1) * square.log() - math.log10(noise) ** 2
                density.append(likely / 2)
                found.append([linear, lengthscale, noise, float(square) / max(count - 3, 1)])
        weight = torch.stack(density).softmax(dim=0)
        kept = weight > NEGLIGIBLE
        rows = torch.cat([weight[:, None], torch.tensor(found).to(weight)], dim=1)[kept]
        rows[:, 0] /= rows[:, 0].sum()
        self.set_hyperparameters(rows)

    def predict(self, features: Features) -> Prediction:
        if not self.is_fitted:
            weight = self.spec.prompt_mean_weight + self._synthetic_mean_weight
            return Prediction((self._prior_mean(features) / weight).to(features.matrix()))
        x = features.matrix()
        if self._solved is None or self._solved[0].shots.device != x.device:
            self._solved = self._solve()
        first, new = self._solved[0], self.standardize(x)
        squares = new.square().mean(dim=1)
        similar = self._similarities(first.shots, new, first.lengthscale)
        mean = variance = torch.zeros_like(squares)
        for each in self._solved:
            cross = each.whitening @ _weighed(each.linear, *similar)
            itself = 1 + each.linear * squares + (1 - each.linear)
            within = each.outputscale * (itself + each.noise - cross.square().sum(dim=0)).clamp(min=0)
            ahead = (cross.T @ each.known)[:, 0]
            mean = mean + each.weight * ahead
            variance = variance + each.weight * (within + ahead.square())
        variance = (variance - mean.square()).clamp(min=0)
        return Prediction((first.mean + mean).to(x) + self._prior_mean(features).to(x), variance.sqrt().to(x))

    def _prior_mean(self, features: Features) -> Tensor:
        """p (B,)."""
        x, spec = features.matrix(), self.spec
        mean = torch.zeros_like(x[:, 0], dtype=torch.float64)
        if spec.prompt_mean_weight:
            mean = mean + spec.prompt_mean_weight * antonym_quality(features.logits[self.branch]).mean(dim=1)
        if weight := self._synthetic_mean_weight:
            mean = mean + weight * (x.double() @ self.prior_weight + self.prior_bias)
        return mean

    def reset(self) -> None:
        self.set_train_data(self.train_x[:0], self.train_y[:0])

    def set_train_data(self, *data: Tensor) -> None:
        """Take these shots, features (R, S) and quality (R,), in the place of others."""
        train_x, train_y = data
        self.train_x, self.train_y = train_x.to(self.train_x), train_y.to(self.train_y)
        self._solved = self._moments = None
        self.is_fitted = len(train_y) > 0

    def restore(self, buffers: Mapping[str, Tensor]) -> None:
        super().restore(buffers)
        self.set_hyperparameters(buffers["hyperparameters"])
        self._has_linear_prior = bool(buffers["prior_weight"].any())

    def set_hyperparameters(self, rows: Tensor) -> None:
        """Rows of weight, a, ℓ, λ, s²; the weights add up to 1."""
        self.hyperparameters = rows.to(self.hyperparameters)
        self._solved = None

    def standardize(self, features: Tensor) -> Tensor:
        """(B, S) in float64, by mean and deviation of the shots; what is constant over them is centred only."""
        if self._moments is None or self._moments[0].device != features.device:
            shots = self.train_x.double()
            self._moments = shots.mean(dim=0), feature_std(shots)
        mean, std = self._moments
        return (features.double() - mean) / std

    def _solve(self) -> list[_Solved]:
        shots, y = self.standardize(self.train_x), self.train_y.double()
        unit, solved = torch.eye(len(y)).to(y), []
        for weight, linear, lengthscale, noise, outputscale in self.hyperparameters.tolist():
            root = torch.linalg.cholesky(self.kernel(shots, shots, linear, lengthscale) + noise * unit)
            whitening = torch.linalg.solve_triangular(root, unit, upper=False)
            known = whitening @ (y - y.mean())[:, None]  # a column: products with a vector are not exported rightly
            solved.append(_Solved(shots, y.mean(), whitening, known, weight, linear, lengthscale, noise, outputscale))
        return solved

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
