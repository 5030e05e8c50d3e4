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

TRAIN = ("train_x", "train_y", "train_p", "train_match", "train_noise")
NEGLIGIBLE = 0.01  # posterior probability of hyperparameters that are left out
SYNTHETIC_ODDS = 20.0  # of the linear model against the phrases, before any shot: with 7, BIQ2021 loses twice as much


class _Row(NamedTuple):
    """One row of hyperparameters: its posterior probability, the weights in p, a, ℓ, λ, s²."""

    weight: float
    prompt: float
    synthetic: float
    linear: float
    lengthscale: float
    noise: float
    outputscale: float


class _Solved(NamedTuple):
    """What predictions need of a row: X standardised, m, L⁻¹ where L Lᵀ = k(X, X) + λ I, L⁻¹ (y − m)."""

    row: _Row
    shots: Tensor
    mean: Tensor
    whitening: Tensor
    known: Tensor


class GaussianProcessHead(Head):
    """Quality and its standard deviation by Gaussian-process regression (Rasmussen and Williams, 2006, ch. 2).

    With x the pooled features of a picture (S,), standardised over R shots, p the prior mean, and y = rated quality − p
    of the shots, of mean m:

        k(x, x') = 1 + a ⟨x, x'⟩ / S + (1 − a) exp(−‖x − x'‖ / (ℓ √S)) + `match_weight` · c c'
        mean     = p + m + k(x, X) C⁻¹ (y − m),   C = k(X, X) + V + λ I
        std²     = s² (k(x, x) + λ − k(x, X) C⁻¹ k(X, x))

    The 1 stands for the uncertain mean of the shots; c is the match of a picture and the prompt that it was generated
    from, standardised over the shots, 0 without a prompt. V is diagonal: by how much the variance of a shot's rating is
    above that of the best known one, as a multiple of s²; std is that of one more rating known as well as that. Mean
    and std are averaged over the values of a and λ by their posterior probability, and std² includes the variance of
    the means. The prior mean p is one of

        `prompt_mean_weight` · (what the phrases predict),  `synthetic_mean_weight` · (x · w + b)

    with w and b of `linear_prior`, which meta-training fits to distorted photographs, or 0 where neither has a weight.
    Several, by kind and weight, are averaged over like a and λ, the second kind with prior odds of `SYNTHETIC_ODDS` to
    1. A head with a prior mean predicts before it is fitted: the mean of the two, by these odds. Buffers: `train_x`
    (R, S), `train_y`, `train_p`, `train_match` and `train_noise` (R,), the shots, their quality, what the phrases
    predict, c, and V; `match_moments` (2,), mean and deviation of the match over the shots; `hyperparameters` (G, 7):
    probability, the weights of phrases and linear model in p, a, ℓ (lengthscale), λ (noise), s² (outputscale);
    `prior_weight` (S,) and `prior_bias`, w and b.
    """

    on_cpu = True
    train_x: Tensor
    train_y: Tensor
    train_p: Tensor
    train_match: Tensor
    train_noise: Tensor
    match_moments: Tensor
    hyperparameters: Tensor
    prior_weight: Tensor
    prior_bias: Tensor

    def __init__(self, spec: GaussianProcessSpec, model: ModelSpec, clip: Any) -> None:
        super().__init__()
        self.spec, self.branch, self.groups = spec, model.quality, clip.deep_groups
        self.register_buffer("train_x", torch.zeros(0, clip.pooled_width))
        self.register_buffer("train_y", torch.zeros(0))
        self.register_buffer("train_p", torch.zeros(0))
        self.register_buffer("train_match", torch.zeros(0))
        self.register_buffer("train_noise", torch.zeros(0))
        self.register_buffer("match_moments", torch.tensor([0.0, 1.0], dtype=torch.float64))
        self.register_buffer("hyperparameters", torch.zeros(0, 7, dtype=torch.float64))
        self.register_buffer("prior_weight", torch.zeros(clip.pooled_width, dtype=torch.float64))
        self.register_buffer("prior_bias", torch.zeros((), dtype=torch.float64))
        self._has_linear_prior = False
        self._solved: list[_Solved] | None = None
        self._moments: tuple[Tensor, Tensor] | None = None

    @property
    def reads_prompts(self) -> bool:
        return self.spec.match_weight > 0

    @property
    def learned_from_prompts(self) -> bool:
        return self.reads_prompts and bool(self.train_match.any())

    @property
    def zero_shot(self) -> bool:
        return any(prompt or synthetic for _, prompt, synthetic in self._prior_means())

    def _prior_means(self) -> list[tuple[float, float, float]]:
        """The prior means that it has: the probability of each before any shot, and its weights of phrases and linear
        model."""
        prompt = [weight for weight in self.spec.prompt_mean_weight if weight]
        synthetic = [weight for weight in self.spec.synthetic_mean_weight if weight and self._has_linear_prior]
        found = [(1 / len(prompt), weight, 0.0) for weight in prompt]
        found += [(SYNTHETIC_ODDS / len(synthetic), 0.0, weight) for weight in synthetic]
        found = found or [(1.0, 0.0, 0.0)]
        total = sum(odds for odds, *_ in found)
        return [(odds / total, prompt, synthetic) for odds, prompt, synthetic in found]

    @torch.no_grad()
    def fit_prior(self, clean: Features, distorted: Features, quality: Tensor, clean_quality: Tensor) -> None:
        """Fit w and b: row i of `distorted` is a copy, of `quality`, of row i of `clean`, of `clean_quality`."""
        rows = [each.matrix().cpu() for each in (clean, distorted)]
        weight, bias = linear_prior(rows[0], rows[1], quality.cpu(), clean_quality.cpu(), self.groups)
        self.prior_weight.copy_(weight)
        self.prior_bias.fill_(bias)
        self._has_linear_prior = True

    @torch.no_grad()
    def fit(
        self, features: Features, quality: Tensor, *, groups: Sequence[str] = (), variance: Tensor | None = None
    ) -> None:
        """Weigh each p, a and λ by its posterior probability given the shots; V is in units of the s² without it."""
        features, quality, variance = features.to("cpu"), quality.cpu(), None if variance is None else variance.cpu()
        match = _match(features)
        known = match[~match.isnan()].double()
        moments = (float(known.mean()), float(feature_std(known))) if len(known) else (0.0, 1.0)
        self.match_moments.copy_(torch.tensor(moments))
        predicted, none = self._predictions(features)[:, 0], torch.zeros(len(quality))
        self.set_train_data(features.matrix(), quality, predicted, self._standard_match(match), none)
        rows = self._weigh()
        if variance is not None and (beyond := variance.double() - variance.min()).any():
            self.train_noise = (beyond / float(rows[:, 0] @ rows[:, -1])).to(self.train_noise)
            rows = self._weigh()
        self.set_hyperparameters(rows)

    def _weigh(self) -> Tensor:
        """Rows of hyperparameters, those of negligible probability left out, with s² integrated out and a log-normal
        prior on λ:

            log p(y) + log p(λ) = −½ log |C| − ½ (R − 1) log q − ½ (log₁₀ λ)² + const,  q = (y − m)ᵀ C⁻¹ (y − m)

        Without p(λ), ten shots are often explained without noise. s² = q / (R − 3) is the variance of Student's t with
        R − 1 degrees of freedom that follows, so that few shots lead to wide intervals.
        """
        priors, residuals = self._prior_means(), []
        for _, prompt, synthetic in priors:
            y = self._residuals(prompt, synthetic)
            residuals.append(y - y.mean())
        x, lengthscale, count = self.standardize(self.train_x), self.spec.lengthscale, len(self.train_x)
        inner, near = self._similarities(x, x, lengthscale)
        added = self._added()
        found, density = [], []
        for linear in self.spec.linear:
            values, vectors = torch.linalg.eigh(_weighed(linear, inner, near) + added)
            centred = [vectors.T @ residual for residual in residuals]
            for noise in self.spec.noise:
                precision = 1 / (values.clamp(min=0) + noise)
                for (probability, prompt, synthetic), residual in zip(priors, centred, strict=True):
                    square = (residual.square() * precision).sum().clamp(min=1e-12)
                    likely = precision.log().sum() - (count - 1) * square.log() - math.log10(noise) ** 2
                    density.append(likely / 2 + math.log(probability))
                    scale = float(square) / max(count - 3, 1)
                    found.append([prompt, synthetic, linear, lengthscale, noise, scale])
        weight = torch.stack(density).softmax(dim=0)
        kept = weight > NEGLIGIBLE
        rows = torch.cat([weight[:, None], torch.tensor(found).to(weight)], dim=1)[kept]
        rows[:, 0] /= rows[:, 0].sum()
        return rows

    def predict(self, features: Features) -> Prediction:
        given, features = features.matrix(), features.to("cpu")
        x, predicted = features.matrix(), self._predictions(features)
        if not self.is_fitted:
            weights = torch.tensor(self._prior_means()).to(predicted)
            shares = weights[:, :1] * weights[:, 1:] / weights[:, 1:].sum(dim=1, keepdim=True)
            return Prediction((predicted * shares.sum(dim=0)).sum(dim=1).to(x).to(given))
        if self._solved is None:
            self._solved = self._solve()
        first, new = self._solved[0], self.standardize(x)
        squares = new.square().mean(dim=1)
        similar = self._similarities(first.shots, new, first.row.lengthscale)
        own = self._standard_match(_match(features))
        matched = self._matched(own)
        mean = variance = torch.zeros_like(squares)
        for row, _, level, whitening, known in self._solved:
            cross = whitening @ (_weighed(row.linear, *similar) + matched)
            itself = 1 + row.linear * squares + (1 - row.linear) + self.spec.match_weight * own.square()
            within = row.outputscale * (itself + row.noise - cross.square().sum(dim=0)).clamp(min=0)
            prior = row.prompt * predicted[:, 0] + row.synthetic * predicted[:, 1]
            ahead = prior + level + (cross.T @ known)[:, 0]
            mean = mean + row.weight * ahead
            variance = variance + row.weight * (within + ahead.square())
        variance = (variance - mean.square()).clamp(min=0)
        return Prediction(mean.to(x).to(given), variance.sqrt().to(x).to(given))

    def _predictions(self, features: Features) -> Tensor:
        """What phrases and linear model predict (B, 2), in float64; 0 where it reads no phrases."""
        x = features.matrix().double()
        linear = x @ self.prior_weight + self.prior_bias
        phrases = torch.zeros_like(linear)
        if any(self.spec.prompt_mean_weight):
            phrases = antonym_quality(features.logits[self.branch]).mean(dim=1).to(x)
        return torch.stack([phrases, linear], dim=1)

    def _residuals(self, prompt: float, synthetic: float) -> Tensor:
        """What these weights in the prior mean leave of the shots' quality (R,)."""
        linear = self.train_x.double() @ self.prior_weight + self.prior_bias
        return self.train_y.double() - prompt * self.train_p.double() - synthetic * linear

    def reset(self) -> None:
        self.set_train_data(*(getattr(self, name)[:0] for name in TRAIN))

    def set_train_data(self, *data: Tensor) -> None:
        """Take these shots in the place of others: features (R, S), quality, what the phrases predict, c, V (R,)."""
        for name, values in zip(TRAIN, data, strict=True):
            setattr(self, name, values.to(getattr(self, name)))
        self._solved = self._moments = None
        self.is_fitted = len(self.train_y) > 0

    def restore(self, buffers: Mapping[str, Tensor]) -> None:
        super().restore(buffers)
        self.set_hyperparameters(buffers["hyperparameters"])
        self._has_linear_prior = bool(buffers["prior_weight"].any())

    def set_hyperparameters(self, rows: Tensor) -> None:
        """Rows as in the buffer `hyperparameters`; their probabilities add up to 1."""
        self.hyperparameters = rows.to(self.hyperparameters)
        self._solved = None

    def standardize(self, features: Tensor) -> Tensor:
        """(B, S) in float64, by mean and deviation of the shots; what is constant over them is centred only."""
        if self._moments is None:
            shots = self.train_x.double()
            self._moments = shots.mean(dim=0), feature_std(shots)
        mean, std = self._moments
        return (features.double() - mean) / std

    def _solve(self) -> list[_Solved]:
        shots, solved = self.standardize(self.train_x), []
        unit, added = torch.eye(len(shots)).to(shots), self._added()
        for row in map(_Row._make, self.hyperparameters.tolist()):
            y = self._residuals(row.prompt, row.synthetic)
            covariance = self.kernel(shots, shots, row.linear, row.lengthscale) + added + row.noise * unit
            root = torch.linalg.cholesky(covariance)
            whitening = torch.linalg.solve_triangular(root, unit, upper=False)
            known = whitening @ (y - y.mean())[:, None]  # a column: products with a vector are not exported rightly
            solved.append(_Solved(row, shots, y.mean(), whitening, known))
        return solved

    def _standard_match(self, match: Tensor) -> Tensor:
        """c of matches (B,), in float64."""
        mean, std = self.match_moments
        return ((match.double() - mean) / std).nan_to_num(0.0)

    def _matched(self, c: Tensor) -> Tensor:
        """The part of k that prompts give, of the shots and of pictures with c (B,): (R, B)."""
        return self.spec.match_weight * self.train_match.double()[:, None] * c.double()

    def _added(self) -> Tensor:
        """What prompts and V add to k of the shots (R, R)."""
        return self._matched(self.train_match) + self.train_noise.double().diag()

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


def _match(features: Features) -> Tensor:
    """The match of each picture with its prompt (B,), nan without one."""
    if features.match is None:
        return torch.full_like(features.matrix()[:, 0], math.nan)
    return features.match.mean(dim=1)


def _weighed(linear: float, inner: Tensor, near: Tensor) -> Tensor:
    return 1 + linear * inner + (1 - linear) * near
