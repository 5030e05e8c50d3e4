"""MP-IQE's multi-modal decoder as a head."""

from typing import Any

import torch
from torch import Tensor, nn

from ...config import ModelSpec
from ...config.heads import FusionSpec
from ...errors import InputError
from ...types import Features, Prediction
from .base import Head


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
        normed = self.norm_self(queries)
        queries = self.self_attention(normed, normed, normed, need_weights=False)[0] + queries
        normed = self.norm_cross(queries)
        merged: Tensor = self.mlp(self.cross_attention(normed, tokens, tokens, need_weights=False)[0] + queries)
        return merged


class FusionHead(Head):
    """MP-IQE's head: phrases (P, D) attend to the image's tokens (B, N, Wv), brought to D by a linear layer, and an MLP
    turns the mean output into a quality, the mean over views; it may leave [0, 1] a little. Learned by gradients."""

    reads_pooled = False

    def __init__(self, spec: FusionSpec, model: ModelSpec, clip: Any) -> None:
        super().__init__()
        self.branches, width = spec.branches, clip.visual.output_dim
        self.visual = model.branches[spec.branches[0]].visual or ""
        if width % spec.heads:
            raise InputError(f"head.heads: {spec.heads} do not divide the CLIP's {width} dimensions")
        self.reduce = nn.Linear(clip.vision_width, width)
        self.layers = nn.ModuleList(FusionLayer(width, spec.heads) for _ in range(spec.layers))
        self.score = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))

    def predict(self, features: Features) -> Prediction:
        tokens = features.tokens[self.visual]
        phrases = torch.cat([features.text[name] for name in self.branches])
        return Prediction(self.decode(phrases, tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2]).mean(dim=1))

    def decode(self, phrases: Tensor, tokens: Tensor) -> Tensor:
        """(B,) from phrases (P, D) and tokens (B, N, Wv)."""
        queries, tokens = phrases.expand(tokens.shape[0], -1, -1), self.reduce(tokens)
        for layer in self.layers:
            queries = layer(queries, tokens)
        score: Tensor = self.score(queries.mean(dim=1))[:, 0]
        return score
