"""The image side: views of pictures -> features."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ..config import ModelSpec
from ..errors import InputError
from ..types import Features
from .backbone import Backbone
from .prompts import VisualPrompts

PLAIN = ""  # the visual set without prompts
VIEWS_AT_ONCE = 64  # that pass the tower together, without gradients
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class PromptState:
    """Everything that does not depend on the image, so that scoring computes it once.

    `text` {branch: (P, D)}, L2-normalised; `visual` {set: (depth, N, Wv)}.
    """

    text: Mapping[str, Tensor]
    visual: Mapping[str, Tensor]


class Encoder(nn.Module):
    """The image tower of `clip` behind sets of visual prompts. Parameters: `clip.*`, `visual.SET.*`."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ModelSpec, clip: Backbone) -> None:
        super().__init__()
        if clip.stem and spec.normalize != "clip":
            raise InputError(f"model.normalize: {spec.normalize} does not go with a CLIP that has a stem; use clip")
        self.spec = spec
        self.clip = clip
        self.tuned: set[str] = set()  # names inside `clip.` that are this model's own, not the shared backbone's
        visual = nn.ModuleDict({name: VisualPrompts(some, clip) for name, some in spec.visual.items()})
        self.visual = cast("Mapping[str, VisualPrompts]", visual)  # ModuleDict has no type of its elements
        mean, std = {
            "clip": (clip.mean, clip.std),
            "imagenet": _IMAGENET,
            "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        }[spec.normalize]
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.clip.logit_scale.device

    @property
    def main(self) -> str:
        """The visual set that pooled features are read through: that of the quality branch, where there is one."""
        branch = self.spec.branches.get(self.spec.quality)
        return branch.visual or PLAIN if branch else PLAIN

    def visual_prompts(self, name: str) -> Tensor:
        """A set as it enters the tower, (depth, N, Wv)."""
        link = self.spec.visual[name].link
        prompts: Tensor = self.visual[name](self.visual_prompts(link) if link else None)
        return prompts

    def encode(
        self,
        views: Tensor,
        state: PromptState,
        sets: Iterable[str] | None = None,
        tokens: Iterable[str] = (),
        *,
        embedding_only: bool = False,
    ) -> Features:
        """The features of images (B, V, 3, H, W), or (B, 3, H, W) of one view each: uint8, or float in [0, 1]; H = W =
        the tower's size.

        The tower runs once for each of the visual `sets` (default: `main`), with the prompts of `state`; of `tokens`,
        sets among them, it keeps the tokens as well. `embedding_only` leaves out the rest of the pooled features.
        """
        if max(views.shape[-2:]) > self.clip.image_size:
            given, size = "x".join(map(str, views.shape[-2:])), self.clip.image_size
            raise InputError(f"images of {given} pixels: this CLIP reads {size}x{size}; a Scorer takes any size")
        flat, count = views.flatten(0, -4), views.shape[1] if views.ndim == 5 else 1
        pieces = (flat,) if torch.is_grad_enabled() else flat.split(VIEWS_AT_ONCE)  # a large picture has many views
        pooled: dict[str, Tensor] = {}
        kept: dict[str, Tensor] = {}
        for name in dict.fromkeys([self.main] if sets is None else sets):
            prompts, end_norm, at_end = self._prompted(name, state)
            parts = [
                self.clip.encode(
                    (_unit(piece) - self.mean) / self.std,
                    prompts,
                    end_norm,
                    at_end,
                    pooled=not embedding_only,
                    tokens=name in tokens,
                )
                for piece in pieces
            ]
            pooled[name] = torch.cat([part for part, _ in parts]).unflatten(0, (-1, count))
            if name in tokens:
                found = torch.cat([part for _, part in parts if part is not None])
                kept[name] = found.to(self.clip.visual.proj).unflatten(0, (-1, count))
        return Features(self.clip.visual.output_dim, pooled, kept)

    def _prompted(self, name: str, state: PromptState) -> tuple[Tensor | None, nn.Module | None, bool]:
        """How the tower takes up a set: `prompts`, `end_norm` and `at_end` of `Backbone.encode_image`."""
        if name == PLAIN:
            return None, None, False
        return state.visual[name], self.visual[name].end_norm, self.spec.visual[name].at_end

    def fingerprint(self) -> str:
        """A hash of all that `encode` depends on: backbone, visual prompts, tuned parameters, normalisation."""
        digest = hashlib.sha256(f"{self.clip.fingerprint} {self.spec.normalize} {self.main}".encode())
        names = {name for name in self.tuned if name.startswith("clip.visual.")}
        for name, value in sorted(self.state_dict().items()):
            if name in names or name.startswith("visual."):
                digest.update(name.encode())
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def own_parameters(self, names: Iterable[str]) -> None:
        """Take copies of parameters inside `clip.` in the place of those that the process shares."""
        for name in names:
            if name.startswith("clip.") and name not in self.tuned:
                path, _, leaf = name.rpartition(".")
                module = self.get_submodule(path)
                module.register_parameter(leaf, nn.Parameter(getattr(module, leaf).detach().clone()))
                self.tuned.add(name)


def _unit(images: Tensor) -> Tensor:
    return images / 255 if images.dtype == torch.uint8 else images
