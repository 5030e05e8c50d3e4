"""Learned prompts: vectors that stand before the phrases, and tokens that stand among the patches."""

import math

import torch
from torch import Tensor, nn

from ..config import BranchSpec, VisualSpec
from .backbone import Backbone


class VisualPrompts(nn.Module):
    """Deep visual prompts (Jia et al., VPT, 2022): `tokens` (depth, N, Wv), replaced at every layer.

    With `project`, one linear map shared by all layers is applied to the tokens; then, where they learn, dropout.
    `end_norm` is a LayerNorm for all tokens of the tower after its last layer (None without). With `link`, a layer's
    prompts are linear in [its tokens ; those of another set], each layer by a map of its own (CLIP-AGIQA).
    """

    def __init__(self, spec: VisualSpec, backbone: Backbone) -> None:
        super().__init__()
        width, patch = backbone.vision_width, backbone.patch_size
        depth = min(spec.depth or backbone.vision_layers, backbone.vision_layers)
        bound = math.sqrt(6 / (3 * patch**2 + width))  # VPT: Xavier over patch pixels and width
        self.tokens = nn.Parameter(torch.empty(depth, spec.length, width).uniform_(-bound, bound))
        self.link = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(depth)) if spec.link else None
        self.project = nn.Linear(width, width) if spec.project else None
        self.dropout = nn.Dropout(spec.dropout)
        self.end_norm = nn.LayerNorm(width, eps=1e-6) if spec.end_norm else None
        if self.project is not None:
            nn.init.kaiming_normal_(self.project.weight, a=0, mode="fan_out")
            nn.init.zeros_(self.project.bias)

    def forward(self, guide: Tensor | None = None) -> Tensor:
        """The prompts as they enter the tower, (depth, N, Wv); `guide`, alike, are those of the linked set."""
        tokens: Tensor = self.tokens
        if self.link is not None:
            assert guide is not None
            both = torch.cat([tokens, guide], dim=-1)
            tokens = torch.stack([linear(layer) for linear, layer in zip(self.link, both, strict=True)])
        if self.project is not None:
            tokens = self.project(tokens)
        return self.dropout(tokens) if tokens.requires_grad else tokens


class TextPrompts(nn.Module):
    """A branch's phrases behind L learned context vectors (CoOp, Zhou et al., 2022); L = 0 is the plain phrase.

    `context` (L, Wt) or None; `deeper` (depth - 1, L, Wt), what stands in its place at the next layers (MaPLe, Khattak
    et al., 2023), or None; `tokens` (P, length). Where pictures are compared with their own prompts, it is None, and a
    `threshold` () is learned, the cosine at which a picture matches its prompt no more than it does not.
    """

    tokens: Tensor | None

    def __init__(self, spec: BranchSpec, backbone: Backbone) -> None:
        super().__init__()
        tokens = None if spec.own_prompt else backbone.tokenize(spec.phrases, spec.context)
        self.register_buffer("tokens", tokens, persistent=False)
        self.threshold = nn.Parameter(torch.tensor(0.2)) if spec.own_prompt else None
        context = torch.empty(spec.context, backbone.text_width).normal_(std=0.02)
        self.context = nn.Parameter(context) if spec.context else None
        layers = min(spec.depth, len(backbone.transformer.resblocks))
        deeper = torch.empty(layers - 1, spec.context, backbone.text_width).normal_(std=0.02)
        self.deeper = nn.Parameter(deeper) if deeper.numel() else None
