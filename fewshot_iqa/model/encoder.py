"""The image side: views of pictures -> features."""

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
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
        views: Tensor | Features,
        state: PromptState,
        sets: Iterable[str] | None = None,
        tokens: Iterable[str] = (),
        *,
        embedding_only: bool = False,
    ) -> Features:
        """The features of images (B, V, 3, H, W), or (B, 3, H, W) of one view each: uint8, or float in [0, 1]; H = W =
        the tower's size. Those of a trunk are completed, and others returned as they are.

        The layers run once for each of the visual `sets` (default: `main`), with the prompts of `state`; of `tokens`,
        sets among them, it keeps the tokens as well. `embedding_only` leaves out the rest of the pooled features.
        """
        if isinstance(views, Features) and views.layers is None:
            return views
        names = list(dict.fromkeys([self.main] if sets is None else sets))
        pooled: dict[str, list[Tensor]] = {name: [] for name in names}
        kept: dict[str, list[Tensor]] = {name: [] for name in names if name in tokens}
        for start in self._starts(views):
            for name in names:
                read = 1 if embedding_only and name not in kept and self.clip.pools_cls else None
                x = self._layers(start, state, name, read=read)
                found = self.clip.pool(x, start.pooled[PLAIN][:, 0])
                pooled[name].append(found[:, : self.clip.visual.output_dim] if embedding_only else found)
                if name in kept:
                    kept[name].append(self.clip.visual.ln_post(x).to(self.clip.visual.proj))
        count, dim = _views(views), self.clip.visual.output_dim
        joined = {name: torch.cat(parts).unflatten(0, (-1, count)) for name, parts in pooled.items()}
        return Features(dim, joined, {name: torch.cat(parts).unflatten(0, (-1, count)) for name, parts in kept.items()})

    def encode_trunk(self, views: Tensor | Features, layers: int, sets: Iterable[str] | None = None) -> Features:
        """The features behind the first `layers` layers of the tower, from which `encode` goes on; views, or a trunk of
        no layers, and sets are as for `encode`."""
        names = [self.main] if sets is None else dict.fromkeys(sets)
        state = PromptState({}, {name: self.visual_prompts(name) for name in names if name != PLAIN})
        parts = []
        for start in self._starts(views):
            if layers:
                tokens = {name: self._layers(start, state, name, last=layers)[:, None] for name in names}
                start = replace(start, tokens=tokens, layers=layers)
            parts.append(start)
        return Features.cat(parts).map(lambda value: value[:, 0].unflatten(0, (-1, _views(views))))

    def _starts(self, views: Tensor | Features) -> Iterator[Features]:
        """Trunks of single views, as many as pass the layers together: all of a batch in training."""
        flat: Tensor | Features
        if isinstance(views, Features):
            flat = views.each_view()
        elif max(views.shape[-2:]) > self.clip.image_size:
            given, size = "x".join(map(str, views.shape[-2:])), self.clip.image_size
            raise InputError(f"images of {given} pixels: this CLIP reads {size}x{size}; a Scorer takes any size")
        else:
            flat = views.flatten(0, -4)
        pieces = [flat]
        if not torch.is_grad_enabled():  # a large picture has many views
            pieces = [flat[first : first + VIEWS_AT_ONCE] for first in range(0, len(flat), VIEWS_AT_ONCE)]
        for piece in pieces:
            yield piece if isinstance(piece, Features) else self._embed(piece)

    def _embed(self, images: Tensor) -> Features:
        """What enters the first layer, of images (B, 3, H, W): the features of a trunk of no layers, V = 1."""
        tokens, stem = self.clip.embed((_unit(images) - self.mean) / self.std)
        stem = tokens.new_empty(tokens.shape[0], 0) if stem is None else stem
        return Features(self.clip.visual.output_dim, {PLAIN: stem[:, None]}, {PLAIN: tokens[:, None]}, layers=0)

    def _layers(
        self, start: Features, state: PromptState, name: str, *, last: int | None = None, read: int | None = None
    ) -> Tensor:
        """The tokens (B, L, Wv) of a set behind the layers after `start`, V = 1, up to `last`, or all and the norm that
        stands behind them."""
        prompts, end_norm, at_end = self._prompted(name, state)
        first = start.layers or 0
        tokens = start.tokens[name if first else PLAIN][:, 0]
        x = self.clip.run_layers(tokens, prompts, at_end, first=first, last=last, read=read)
        return end_norm(x) if end_norm is not None and last is None else x

    def _prompted(self, name: str, state: PromptState) -> tuple[Tensor | None, nn.Module | None, bool]:
        """How the tower takes up a set: `prompts`, `end_norm` and `at_end` of `Backbone.encode_image`."""
        if name == PLAIN:
            return None, None, False
        return state.visual[name], self.visual[name].end_norm, self.spec.visual[name].at_end

    def fingerprint(self, layers: int | None = None) -> str:
        """A hash of all that `encode` depends on: backbone, visual prompts, tuned parameters, normalisation; or of what
        a trunk of `layers` layers does."""
        digest = hashlib.sha256(f"{self.clip.fingerprint} {self.spec.normalize} {self.main}".encode())
        if layers is not None:
            digest.update(f"{layers} layers".encode())
        for name, value in sorted(self.state_dict().items()):
            prompts = name.startswith("visual.") and layers != 0
            if prompts or (name in self.tuned and _acts_below(name, layers)):
                digest.update(name.encode())
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def is_tuned_below(self, layers: int) -> bool:
        """Whether its first `layers` layers, or what stands before them, are other than the shared backbone's."""
        return any(_acts_below(name, layers) for name in self.tuned)

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


def _views(views: Tensor | Features) -> int:
    """How many views each picture has."""
    if isinstance(views, Features):
        return views.views
    return views.shape[1] if views.ndim == 5 else 1


def _acts_below(name: str, layers: int | None) -> bool:
    """Whether a parameter of the image tower acts in its first `layers` layers, or before them; None: anywhere."""
    return name.startswith("clip.visual.") and (layers is None or depth_of(name) < layers)


def depth_of(name: str) -> float:
    """The layer of the image tower, from 0, that a parameter inside `clip.visual.` belongs to; -1 before the first,
    infinity behind the last."""
    if layer := re.match(r"clip\.visual\.transformer\.resblocks\.(\d+)\.", name):
        return int(layer[1])
    return math.inf if name.startswith(("clip.visual.ln_post.", "clip.visual.proj")) else -1
