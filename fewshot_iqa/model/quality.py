"""The one model of every variant: text branches looking at an image through sets of visual prompts."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import ModelSpec
from ..errors import InputError
from ..types import Output, Params
from .backbone import Backbone
from .heads import FusionHead, GaussianProcessHead, LinearHead, antonym_quality, attend, pool_windows
from .prompts import TextPrompts, VisualPrompts

PLAIN = ""  # the visual set without prompts
AT_ONCE = 64  # views that pass the tower together
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class PromptState:
    """Everything that does not depend on the image, so that scoring computes it once.

    `text` {branch: (P, D)}, L2-normalised; `visual` {set: (depth, N, Wv)}.
    """

    text: dict[str, Tensor]
    visual: dict[str, Tensor]


class QualityModel(nn.Module):
    """CLIP with prompts. Parameters: `clip.*`, `text.BRANCH.context`, `visual.SET.*`, `head.*` where it is linear.

    A head of its own (`linear`, `gp`) reads what the tower says, instead of comparing the image with phrases; or, with
    `spec.prior`, beside it: before any shots quality is what the phrases tell, p, and then that share of p and what the
    process, which has learned what is left of the shots' quality, adds.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ModelSpec, clip: Backbone) -> None:
        super().__init__()
        if clip.stem and spec.normalize != "clip":
            raise InputError(f"model.normalize: {spec.normalize} does not go with a CLIP that has a stem; say clip")
        self.spec = spec
        self.clip = clip
        self.tuned: set[str] = set()  # names inside `clip.` that no longer equal the base CLIP
        text = nn.ModuleDict({name: TextPrompts(branch, clip) for name, branch in spec.branches.items()})
        visual = nn.ModuleDict({name: VisualPrompts(some, clip) for name, some in spec.visual.items()})
        self.text = cast("Mapping[str, TextPrompts]", text)  # ModuleDict has no type of its elements
        self.visual = cast("Mapping[str, VisualPrompts]", visual)
        self.head = _head(spec, clip)
        dense = [
            branch for name, branch in spec.branches.items() if branch.windows or (spec.fusion and name in spec.asked)
        ]
        self.dense = {branch.visual or PLAIN for branch in dense}  # the visual sets of which the patches count too
        mean, std = {
            "clip": (clip.mean, clip.std),
            "imagenet": _IMAGENET,
            "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        }[spec.normalize]
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def encode_prompts(self, branches: Iterable[str] | None = None) -> PromptState:
        """The text features of `branches` (default: all) and the visual prompts that they look through."""
        names = list(self.spec.branches if branches is None else branches)
        text = {name: self._text(name, tokens) for name in names if (tokens := self.text[name].tokens) is not None}
        sets = {self.spec.branches[name].visual for name in names}
        return PromptState(text, {name: self._visual_prompts(name) for name in self.visual if name in sets})

    def _text(self, name: str, tokens: Tensor) -> Tensor:
        prompts = self.text[name]
        return F.normalize(self.clip.encode_text(tokens, prompts.context, prompts.deeper), dim=-1)

    def _visual_prompts(self, name: str) -> Tensor:
        link = self.spec.visual[name].link
        prompts: Tensor = self.visual[name](self._visual_prompts(link) if link else None)
        return prompts

    def forward(
        self,
        images: Tensor,
        state: PromptState | None = None,
        branches: Sequence[str] | None = None,
        prompts: Sequence[str | None] = (),
    ) -> Output:
        """Quality and logits of `images` (B, 3, H, W) or (B, V, 3, H, W), H = W = the tower's size; as in a `Batch`.

        `branches` names the ones to compute besides those that quality is taken from (default: none). Without `state`
        prompts are encoded anew, as training needs. Images are encoded once per distinct visual set. Of V views each
        is judged for itself, and the mean returned. A model without visual prompts, or with a head that reads it, also
        takes a `summary` of them.
        `prompts` are those of B pictures, as in a `Batch`; logits of a branch with `own_prompt` are nan without one.
        """
        wanted = list(dict.fromkeys([*self.spec.asked, *(branches or ())]))
        state = state or self.encode_prompts(wanted)
        tokens, seen = {}, {}
        if self.spec.summarized:
            images = self.summary(images, state)
        for name in dict.fromkeys(map(self._set, wanted)):
            if name in self.dense:
                tokens[name] = self._tokens(images, name, state)
                seen[name] = F.normalize(tokens[name][:, :, 0] @ self.clip.visual.proj, dim=-1)
            else:
                seen[name] = self.look(images, name, state)
        scale = self.clip.logit_scale.exp()
        logits = {}
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 would round logits of 30 to eighths
            for name in wanted:
                branch, image = self.spec.branches[name], seen[self._set(name)].to(scale)
                if branch.own_prompt:
                    logits[name] = self._matches(image, name, prompts, scale)
                elif branch.windows:
                    similarity = self._similarity(tokens[self._set(name)], name, state)
                    logits[name] = scale * attend(similarity, branch.attention)
                else:
                    logits[name] = scale * image @ state.text[name].to(scale).T
        if self.head is not None and self.spec.summarized:
            judged: Output = self._read(images, logits)
        elif self.head is not None:
            through = tokens[self._set(self.spec.asked[0])]
            phrases = torch.cat([state.text[name] for name in self.spec.asked])
            judged = Output(self.head(phrases, through.flatten(0, 1)).unflatten(0, through.shape[:2]).mean(dim=1))
        else:
            judged = Output(antonym_quality(logits[self.spec.quality]).mean(dim=1))
        told = [antonym_quality(logits[name]).mean(dim=1) for name in self.spec.alignment if name in logits]
        alignment = torch.stack(told).nanmean(dim=0) if told else None
        logits, features = ({k: v.mean(dim=1) for k, v in values.items()} for values in (logits, seen))
        return replace(judged, logits=logits, features=features, alignment=alignment)

    def _read(self, summary: Tensor, logits: Mapping[str, Tensor]) -> Output:
        """What a head that reads a summary (B, V, S) makes of it, and of the logits of the phrases."""
        assert self.head is not None
        if not (self.spec.prior and isinstance(self.head, GaussianProcessHead)):
            return self.head(summary.mean(dim=1))
        told = antonym_quality(logits[self.spec.quality]).mean(dim=1)
        if self.head.ignorant:
            return Output(told)
        judged: Output = self.head(summary.mean(dim=1))
        return replace(judged, quality=judged.quality + self.spec.prior * told)

    def look(self, images: Tensor, visual: str = PLAIN, state: PromptState | None = None) -> Tensor:
        """The embedding of each view of `images`, as for `forward`, (B, V, D), L2-normalised, through a visual set of
        `state`; or of a `summary` its own."""
        if images.ndim == 3:
            return images[:, :, : self.clip.visual.output_dim]
        prompted = self._prompted(visual, state)
        return F.normalize(self._each(images, lambda x: self.clip.encode_image(x, *prompted)[0]), dim=-1)

    def summary(self, images: Tensor, state: PromptState | None = None) -> Tensor:
        """All that the image tower says of each view of `images`, (B, V, S), the embedding first: what a head of its
        own reads. With a prior, through the visual prompts of `state`. Of what it has said already, the same."""
        if images.ndim == 3:
            return images
        prompted = self._prompted(self._set(self.spec.quality) if self.spec.prior else PLAIN, state)
        return self._each(images, lambda x: self.clip.summarize(x, *prompted))

    def windows(self, images: Tensor, branch: str, state: PromptState) -> Tensor:
        """How alike each window of each view and each phrase of a branch with windows are: (B, V, windows², P)."""
        return self._similarity(self._tokens(images, self._set(branch), state), branch, state)

    def _similarity(self, tokens: Tensor, branch: str, state: PromptState) -> Tensor:
        count = self.spec.branches[branch].windows
        assert count is not None
        patches = pool_windows(tokens[:, :, 1:].flatten(0, 1) @ self.clip.visual.proj, count)
        return (F.normalize(patches, dim=-1) @ state.text[branch].to(patches).T).unflatten(0, tokens.shape[:2])

    def _matches(self, seen: Tensor, branch: str, prompts: Sequence[str | None], scale: Tensor) -> Tensor:
        """The cosine of each view of a picture (B, V, D) and its own prompt, and the threshold, scaled: (B, V, 2)."""
        pair = seen.new_full((*seen.shape[:2], 2), math.nan)
        having = [i for i, prompt in enumerate(prompts) if prompt]
        if not having:
            return pair
        threshold = self.text[branch].threshold
        assert threshold is not None
        texts = [prompts[i] or "" for i in having]
        tokens = self.clip.tokenize(texts, self.spec.branches[branch].context, truncate=True).to(seen.device)
        cosine = (seen[having] * self._text(branch, tokens)[:, None].to(seen)).sum(dim=-1)
        known = scale * torch.stack([cosine, threshold.expand_as(cosine)], dim=-1)
        return pair.index_put((torch.tensor(having),), known)

    def _tokens(self, images: Tensor, visual: str, state: PromptState) -> Tensor:
        """CLS and the patches of each view, (B, V, 1 + G, Wv)."""
        prompted = self._prompted(visual, state)
        return self._each(images, lambda x: self.clip.encode_tokens(x, *prompted)).to(self.clip.visual.proj)

    def _prompted(self, visual: str, state: PromptState | None) -> tuple[Tensor | None, nn.Module | None, bool]:
        """How the tower takes up a set: `prompts`, `end_norm` and `at_end` of `Backbone.encode_image`."""
        if visual == PLAIN:
            return None, None, False
        assert state is not None
        return state.visual[visual], self.visual[visual].end_norm, self.spec.visual[visual].at_end

    def _set(self, branch: str) -> str:
        return self.spec.branches[branch].visual or PLAIN

    def _each(self, images: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """What `encode` makes of all views of all pictures, normalised as the tower wants them: (B, V, ...). Without
        gradients in pieces, since a large picture may have very many views."""
        flat, views = images.flatten(0, -4), images.shape[1] if images.ndim == 5 else 1
        pieces = (flat,) if torch.is_grad_enabled() else flat.split(AT_ONCE)
        return torch.cat([encode((_unit(piece) - self.mean) / self.std) for piece in pieces]).unflatten(0, (-1, views))

    def looks_the_same(self, globs: Iterable[str]) -> bool:
        """Whether `summary` stays the same while `trainable(globs)` learn, and is all that counts: through visual
        prompts only where nothing is trained, since training draws dropout, and compares with the plain tower."""
        chosen = self.trainable(globs)
        tuned = any(name.startswith("clip.visual.") for name in chosen)
        prompted = bool(self.visual) and not (self.spec.prior and not chosen)
        return not self.dense and not tuned and not prompted

    def trainable(self, globs: Iterable[str]) -> Params:
        """The parameters whose names match any of `globs`; InputError for a glob that matches none."""
        named = dict(self.named_parameters())
        chosen: Params = {}
        for glob in globs:
            hits = {name: value for name, value in named.items() if fnmatchcase(name, glob)}
            if not hits:
                known = [*(name for name in named if not name.startswith("clip.")), "clip.visual.transformer.*"]
                raise InputError(f"trainable: '{glob}' matches no parameter; names look like {', '.join(known)}")
            chosen |= hits
        return {name: named[name] for name in named if name in chosen}

    def train_only(self, globs: Iterable[str]) -> Params:
        """Freeze everything but `trainable(globs)`, and return that."""
        chosen = self.trainable(globs)
        for name, value in self.named_parameters():
            value.requires_grad_(name in chosen)
        self.tuned |= {name for name in chosen if name.startswith("clip.")}
        return chosen


def _head(spec: ModelSpec, clip: Backbone) -> nn.Module | None:
    if spec.fusion:
        return FusionHead(clip.vision_width, clip.visual.output_dim, spec.fusion.layers, spec.fusion.heads)
    kinds = {"linear": LinearHead, "gp": GaussianProcessHead}
    return kinds[spec.head](clip.summary_width) if spec.head in kinds else None


def _unit(images: Tensor) -> Tensor:
    return images / 255 if images.dtype == torch.uint8 else images


def scene_anchor(spec: ModelSpec, branch: str, clip: Backbone) -> QualityModel:
    """Plain CLIP with the phrases of `branch` alone: the teacher of quality-aware gradient regularisation."""
    plain = spec.branches[branch].model_copy(update={"context": 0, "visual": None})
    anchor = QualityModel(ModelSpec(branches={branch: plain}, quality=branch, normalize=spec.normalize), clip)
    return anchor.eval().requires_grad_(False)
