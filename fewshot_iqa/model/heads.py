"""From prompt logits, or from features, to a quality."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..types import Output

CONSTANT = 1e-6  # a feature that varies less over the shots is not standardised


def spread(shots: Tensor) -> Tensor:
    """The standard deviation (S,) of features (R, S) over shots, 1 for those that are constant over them."""
    std = shots.std(dim=0, correction=0)
    return torch.where(std < CONSTANT, 1.0, std)


def antonym_quality(logits: Tensor) -> Tensor:
    """CLIP-IQA's antonym head: the probability (...) of the good phrase from logits (..., 2), good phrase first."""
    return logits.softmax(dim=-1)[..., 0]


class LinearHead(nn.Module):
    """Quality (B,), linear in what the plain image tower says of an image; it may leave [0, 1] a little.

    Parameters: `weight` (S,), `bias`, both zero at first.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, summary: Tensor) -> Output:
        return Output(summary @ self.weight + self.bias)

    spread = staticmethod(spread)  # by what features are divided when they are standardised


class GaussianProcessHead(nn.Module):
    """Quality (B,) and its standard deviation by Gaussian-process regression (Rasmussen and Williams, 2006, ch. 2).

    With x what the image tower says of an image (S,), standardised over R shots, and y their ratings, or what a prior
    leaves of these, of mean m:

        k(x, x') = 1 + a ⟨x, x'⟩ / S + (1 − a) exp(−‖x − x'‖ / (ℓ √S))
        quality  = m + k(x, X) (k(X, X) + λ I)⁻¹ (y − m)
        variance = s² (k(x, x) + λ − k(x, X) (k(X, X) + λ I)⁻¹ k(X, x))

    The 1 is for the mean, which shots tell but roughly; the variance is that of one more rating. Buffers: `inputs`
    (R, S) and `quality` (R,), the shots; `hyperparameters` (4,): a, ℓ, λ, s².
    """

    inputs: Tensor
    quality: Tensor
    hyperparameters: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("inputs", torch.zeros(0, width))
        self.register_buffer("quality", torch.zeros(0))
        self.register_buffer("hyperparameters", torch.zeros(4, dtype=torch.float64))
        self._solved: tuple[Tensor, Tensor, Tensor] | None = None

    def forward(self, summary: Tensor) -> Output:
        linear, length, noise, amplitude = self.hyperparameters.tolist()
        if self._solved is None or self._solved[0].device != summary.device:
            self._solved = self._solve(linear, length, noise)
        shots, root, known = self._solved
        new = self.standardized(summary)
        cross = torch.linalg.solve_triangular(root, self.kernel(shots, new, linear, length), upper=False)
        itself = 1 + linear * new.square().mean(dim=1) + (1 - linear)
        variance = amplitude * (itself + noise - cross.square().sum(dim=0))
        quality = self.quality.double().mean() + (cross.T @ known)[:, 0]
        return Output(quality.to(summary), std=variance.clamp(min=0).sqrt().to(summary))

    @property
    def ignorant(self) -> bool:
        """Whether it knows no shots."""
        return not len(self.quality)

    def forget(self) -> None:
        """Know no shots."""
        self.set_shots(self.inputs[:0], self.quality[:0])

    def set_shots(self, inputs: Tensor, quality: Tensor) -> None:
        """Take these shots, (R, S) and (R,), in the place of others."""
        self.inputs, self.quality, self._solved = inputs.to(self.inputs), quality.to(self.quality), None

    def set_hyperparameters(self, linear: float, length: float, noise: float, amplitude: float) -> None:
        """a, ℓ, λ, s²."""
        self.hyperparameters.copy_(torch.tensor([linear, length, noise, amplitude], dtype=torch.float64))
        self._solved = None

    def standardized(self, summary: Tensor) -> Tensor:
        """(B, S) in float64, as the shots are; what is constant over them is centred only."""
        shots = self.inputs.double()
        return (summary.double() - shots.mean(dim=0)) / spread(shots)

    def _solve(self, linear: float, length: float, noise: float) -> tuple[Tensor, Tensor, Tensor]:
        """The shots, the Cholesky root L of k(X, X) + λ I, and L⁻¹ (y − m)."""
        shots, y = self.standardized(self.inputs), self.quality.double()
        root = torch.linalg.cholesky(self.kernel(shots, shots, linear, length) + noise * torch.eye(len(y)).to(y))
        return shots, root, torch.linalg.solve_triangular(root, (y - y.mean())[:, None], upper=False)

    @staticmethod
    def kernel(one: Tensor, two: Tensor, linear: float, length: float) -> Tensor:
        """k of standardised rows (M, S) and (N, S): (M, N)."""
        width = one.shape[1]
        near = (-torch.cdist(one, two) / (length * width**0.5)).exp()
        return 1 + linear * (one @ two.T) / width + (1 - linear) * near


def pool_windows(patches: Tensor, count: int) -> Tensor:
    """The maximum of each feature in `count` x `count` windows of the grid, row by row: (B, G, D) to (B, count², D)."""
    side = math.isqrt(patches.shape[1])
    return F.adaptive_max_pool2d(patches.mT.unflatten(2, (side, side)), count).flatten(2).mT


def attend(similarity: Tensor, temperature: float) -> Tensor:
    """MP-IQE's equation 10: of the similarities s (..., J, P) of P phrases to J windows, for each phrase (..., P)

    Σ_j w_j s_j,  w = softmax over the windows of s / temperature
    """
    return ((similarity / temperature).softmax(dim=-2) * similarity).sum(dim=-2)


class FusionLayer(nn.Module):
    """One layer of MP-IQE's multi-modal decoder (equations 12 to 14), for queries Q (B, P, D) and tokens I' (B, N, D):

    Q' = MHSA(LN(Q)) + Q,  S = MLP(MHCA(LN(Q'), I', I') + Q')
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_self, self.norm_cross = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """(B, P, D)."""
        asked = self.norm_self(queries)
        queries = self.self_attention(asked, asked, asked, need_weights=False)[0] + queries
        asked = self.norm_cross(queries)
        merged: Tensor = self.mlp(self.cross_attention(asked, tokens, tokens, need_weights=False)[0] + queries)
        return merged


class FusionHead(nn.Module):
    """MP-IQE's head: phrases (P, D) ask the image's tokens (B, N, Wv), brought to D by a linear layer, and an MLP makes
    one quality (B,) of the mean answer; it may leave [0, 1] a little."""

    def __init__(self, image_width: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise InputError(f"model.fusion.heads: {heads} do not divide the CLIP's {width} dimensions")
        self.reduce = nn.Linear(image_width, width)
        self.layers = nn.ModuleList(FusionLayer(width, heads) for _ in range(layers))
        self.score = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))

    def forward(self, phrases: Tensor, tokens: Tensor) -> Tensor:
        """(B,)."""
        queries, tokens = phrases.expand(len(tokens), -1, -1), self.reduce(tokens)
        for layer in self.layers:
            queries = layer(queries, tokens)
        score: Tensor = self.score(queries.mean(dim=1))[:, 0]
        return score


def summarize(embedding: Tensor, patches: Tensor, features: Tensor | None = None) -> Tensor:
    """What a linear head reads, (B, S): the normalised embedding (B, D), the mean of patches (B, N, Wv), and the mean
    of a stem's features (B, C, h, w)."""
    mean = patches.mean(dim=1)
    parts = [F.normalize(embedding, dim=-1), F.layer_norm(mean, mean.shape[-1:])]
    return torch.cat([*parts, features.mean(dim=(2, 3))] if features is not None else parts, dim=-1)
