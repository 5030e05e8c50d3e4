"""The prior mean: what photographs and distorted copies of them tell about quality before any rating."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .linear import feature_std

SHRINKAGE = 10.0  # of the covariance of clean photographs: between 3 and 30 the choice makes little difference


def linear_prior(
    clean: Tensor, distorted: Tensor, quality: Tensor, clean_quality: Tensor, groups: Sequence[slice]
) -> tuple[Tensor, float]:
    """(weight (S,), bias) of a linear predictor of quality, x · weight + bias, in float64.

    Row i of `distorted` (N, S) are the pooled features of a distorted copy, of `quality` (N,), of the photograph of row
    i of `clean` (N, S), of `clean_quality` (N,). With features standardised over all rows, the direction of each group
    of features is a shrunk discriminant (Fisher, 1936; Friedman, 1989) of what distortion changes:

        Σ = covariance of the clean rows,  d = Σ_i (clean_quality_i − quality_i) (clean_i − distorted_i) / N
        u = (Σ + γ tr(Σ) / S_g · I)⁻¹ d

    The projections on u, scaled to equal deviation, are added over the groups, and quality is their least-squares line:
    a regression on all features at once follows what is special about the distortions it has seen.

    Examples:
        Distortion lowers the first feature; the second is content:

        >>> clean = torch.tensor([[1.0, 3.0], [1.1, -1.0], [0.9, 0.5]])
        >>> distorted = clean - torch.tensor([0.8, 0.0])
        >>> weight, bias = linear_prior(clean, distorted, torch.full((3,), 0.2), torch.ones(3), [slice(0, 2)])
        >>> bool(weight[0] > 10 * abs(weight[1]))
        True
    """
    clean, distorted = clean.double(), distorted.double()
    lost = clean_quality.to(clean) - quality.to(clean)
    every = torch.cat([clean, distorted])
    mean, std = every.mean(dim=0), feature_std(every)
    change, content = (clean - distorted) / std, (clean - clean.mean(dim=0)) / std
    direction = torch.zeros_like(mean)
    for group in groups:
        part = content[:, group]
        covariance = part.T @ part / len(part)
        size = covariance.shape[0]
        ridge = SHRINKAGE * covariance.trace().clamp(min=1e-12) / size
        towards = torch.linalg.solve(
            covariance + ridge * torch.eye(size).to(part), change[:, group].T @ lost / len(part)
        )
        projected = (every[:, group] / std[group]) @ towards
        direction[group] = towards / projected.std(correction=0).clamp(min=1e-12)
    direction = direction / std
    projected, both = (every - mean) @ direction, torch.cat([clean_quality.to(clean), quality.to(clean)])
    slope = (projected @ (both - both.mean())) / projected.square().sum().clamp(min=1e-12)
    weight = slope * direction
    return weight, float(both.mean() - mean @ weight)
