"""The one model of every variant: an encoder, text branches that compare its features with phrases, and a head."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import AntonymSpec, HeadSpec, ModelSpec
from ..errors import InputError
from ..types import Features, Params, Prediction
from .backbone import Backbone
from .encoder import PLAIN, Encoder, PromptState, depth_of
from .heads import antonym_quality, make_head
from .prompts import TextPrompts


class QualityModel(Encoder):
    """CLIP with prompts. Parameters: `clip.*`, `text.BRANCH.*`, `visual.SET.*`, `head.*`.

    `encode` turns views into features, `compare` adds the logits of text branches, and the head predicts quality.
    """

    def __init__(self, spec: ModelSpec, head: HeadSpec, clip: Backbone, given: Any = None) -> None:
        super().__init__(spec, clip)
        text = nn.ModuleDict({name: TextPrompts(branch, clip) for name, branch in spec.branches.items()})
        self.text = cast("Mapping[str, TextPrompts]", text)
        self.quality_branches = head.branches_read(spec.quality)
        self.head_spec, self.head = head, make_head(head, spec, clip, given)
        dense = [name for name, branch in spec.branches.items() if branch.windows]
        dense += self.quality_branches if head.kind == "fusion" else []
        self.dense = {self._set(name) for name in dense}  # the visual sets whose tokens are read
        self.to(self.device)

    def encode_prompts(self, branches: Iterable[str] | None = None) -> PromptState:
        """The text features of `branches` (default: all) and the visual prompts that they look through."""
        names = list(self.spec.branches if branches is None else branches)
        text = {name: self._text(name, tokens) for name in names if (tokens := self.text[name].tokens) is not None}
        sets = {self._set(name) for name in names} | {self.main}
        return PromptState(text, {name: self.visual_prompts(name) for name in self.visual if name in sets})

    def forward(
        self,
        inputs: Tensor | Features,
        state: PromptState | None = None,
        branches: Sequence[str] | None = None,
        prompts: Sequence[str | None] = (),
    ) -> Prediction:
        """The prediction for images, as `encode` takes them, or for their features.

        `branches` names those to compute beside the ones that quality is predicted from (default: none). Without
        `state` prompts are encoded anew, as training needs. Each of V views is judged for itself, and the mean
        returned. `prompts` are those of B pictures, as in a `Batch`; logits of a branch with `own_prompt` are nan
        without one. `mean` is nan where a head is not fitted yet and cannot do without.
        """
        names = list(dict.fromkeys([*self.quality_branches, *(branches or ())]))
        state = state or self.encode_prompts(names)
        encoded = self.encode(inputs, state, self.sets(names), self.dense, embedding_only=not self.head.reads_pooled)
        features = self.compare(encoded, state, names, prompts)
        if self.head_spec.closed_form and self.lacks_zero_shot_score:
            predicted = Prediction(features.matrix()[:, 0] * math.nan)
        else:
            predicted = self.head.predict(features)
        found = [antonym_quality(features.logits[name]).mean(dim=1) for name in self.spec.alignment if name in names]
        return replace(
            predicted,
            logits={name: value.mean(dim=1) for name, value in features.logits.items()},
            embeddings={name: features.embedding(name).mean(dim=1) for name in features.pooled},
            alignment=torch.stack(found).nanmean(dim=0) if found else None,
        )

    def compare(
        self, features: Features, state: PromptState, branches: Sequence[str], prompts: Sequence[str | None] = ()
    ) -> Features:
        """The features with the text of `state` and the logits of `branches`, and the match with the pictures' own
        `prompts` where these are given and the head reads it."""
        scale, logits = self.clip.logit_scale.exp(), {}
        with torch.autocast(scale.device.type, enabled=False):  # bfloat16 would round logits of 30 to eighths
            for name in branches:
                spec, image = self.spec.branches[name], features.embedding(self._set(name)).to(scale)
                if spec.own_prompt:
                    logits[name] = self._match(image, name, prompts, scale)
                elif spec.windows:
                    logits[name] = scale * attend(self.windows(features, name, state), spec.attention)
                else:
                    logits[name] = scale * image @ state.text[name].to(scale).T
            match = None
            if prompts and self.head.reads_prompts:
                match = self._own_cosine(features.embedding(self.main), prompts, self._plain_text)
        return replace(features, text=state.text, logits=logits, match=match)

    def windows(self, features: Features, branch: str, state: PromptState) -> Tensor:
        """The cosine of each window of each view and each phrase of a branch with windows: (B, V, windows², P)."""
        count, tokens = self.spec.branches[branch].windows, features.tokens[self._set(branch)]
        assert count is not None
        patches = pool_windows(tokens[:, :, 1:].flatten(0, 1) @ self.clip.visual.proj, count)
        return (F.normalize(patches, dim=-1) @ state.text[branch].to(patches).T).unflatten(0, tokens.shape[:2])

    def _text(self, name: str, tokens: Tensor) -> Tensor:
        prompts = self.text[name]
        return F.normalize(self.clip.encode_text(tokens, prompts.context, prompts.deeper), dim=-1)

    def _match(self, seen: Tensor, branch: str, prompts: Sequence[str | None], scale: Tensor) -> Tensor:
        """The cosine of each view of a picture (B, V, D) and its own prompt, and the threshold, scaled: (B, V, 2)."""
        threshold = self.text[branch].threshold
        assert threshold is not None

        def encode(texts: Sequence[str]) -> Tensor:
            tokens = self.clip.tokenize(texts, self.spec.branches[branch].context, truncate=True)
            return self._text(branch, tokens.to(seen.device))

        having = torch.tensor([i for i, prompt in enumerate(prompts) if prompt], dtype=torch.long)
        cosine = self._own_cosine(seen, prompts, encode)[having]
        known = scale * torch.stack([cosine, threshold.expand_as(cosine)], dim=-1)
        return seen.new_full((*seen.shape[:2], 2), math.nan).index_put((having,), known)

    def _own_cosine(
        self, seen: Tensor, prompts: Sequence[str | None], encode: Callable[[Sequence[str]], Tensor]
    ) -> Tensor:
        """The cosine of each view of a picture (B, V, D) and its own prompt, as `encode` has it; nan without one."""
        cosine = seen.new_full(seen.shape[:2], math.nan)
        having = [i for i, prompt in enumerate(prompts) if prompt]
        if not having:
            return cosine
        own = [prompts[i] or "" for i in having]
        texts = list(dict.fromkeys(own))
        each = encode(texts)[[texts.index(text) for text in own]]
        return cosine.index_put((torch.tensor(having),), (seen[having] * each[:, None].to(seen)).sum(dim=-1))

    def _plain_text(self, texts: Sequence[str]) -> Tensor:
        tokens = self.clip.tokenize(texts, 0, truncate=True).to(self.device)
        return F.normalize(self.clip.encode_text(tokens, None, None), dim=-1)

    def nearest_words(self, branch: str | None = None, count: int = 5) -> list[list[str]]:
        """For each of the L learned context vectors of a branch, by default the first that has such, the `count` tokens
        whose embeddings are nearest by cosine, the nearest first. InputError where a branch has none."""
        learned = {name: prompts.context for name, prompts in self.text.items() if prompts.context is not None}
        name = next(iter(learned), None) if branch is None else branch
        if name is None or name not in learned:
            has = f"those with one: {', '.join(learned)}" if learned else "no branch of this method has one"
            raise InputError(f"nearest_words: {name or 'a branch'} has no learned context; {has}")
        if count < 1:
            raise InputError(f"nearest_words: count {count}: at least one")
        return self.clip.nearest_tokens(learned[name], count)

    def _set(self, branch: str) -> str:
        return self.spec.branches[branch].visual or PLAIN

    def sets(self, branches: Iterable[str]) -> list[str]:
        """The visual sets that its head and these branches look through."""
        read = [self.main] if self.head.reads_pooled else []
        return list(dict.fromkeys([*read, *map(self._set, branches)]))

    @property
    def lacks_zero_shot_score(self) -> bool:
        """Whether it predicts nothing before it has learned from shots."""
        return not (self.head.is_fitted or self.head.zero_shot)

    def features_suffice(self, branches: Iterable[str]) -> bool:
        """Whether quality and `branches` are predicted from what `encode` returns by default, so that it may be cached:
        pooled features through the visual set `main`."""
        return not self.dense and all(self._set(name) == self.main for name in branches)

    def has_frozen_features(self, globs: Iterable[str]) -> bool:
        """Whether a picture's features stay the same while `trainable(globs)` learn, so that it is encoded once. Not
        those with tokens, which are large."""
        return not self.dense and not any(
            name.startswith(("clip.visual.", "visual.")) for name in self.trainable(globs)
        )

    def frozen_layers(self, globs: Iterable[str]) -> int | None:
        """How many layers of the image tower, from the first on, stay the same while `trainable(globs)` learn, with
        what stands before them; None where that saves nothing."""
        names, count = self.trainable(globs), self.clip.vision_layers
        depths: list[float] = [count, *(depth_of(name) for name in names if name.startswith("clip.visual."))]
        depths += [0 for name in names if name.startswith("visual.")]
        # prompts that enter at the first layers alone stay among the tokens behind these
        depths += [len(prompts.tokens) - 1 for prompts in self.visual.values() if len(prompts.tokens) < count]
        lowest = min(depths)
        return int(lowest) if lowest > 0 or (lowest == 0 and self.clip.stem) else None

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
        self.own_parameters(chosen)
        named = dict(self.named_parameters())
        for name, value in named.items():
            value.requires_grad_(name in chosen)
        return {name: named[name] for name in chosen}


def pool_windows(patches: Tensor, count: int) -> Tensor:
    """The maximum of each feature in `count` x `count` windows of the grid, row by row: (B, G, D) to (B, count², D).

    As `adaptive_max_pool2d`, which cannot be exported for every grid.
    """
    side = math.isqrt(patches.shape[1])
    spans = [slice(i * side // count, -(-(i + 1) * side // count)) for i in range(count)]
    grid = patches.unflatten(1, (side, side))
    rows = torch.stack([grid[:, span].amax(dim=1) for span in spans], dim=1)
    return torch.stack([rows[:, :, span].amax(dim=2) for span in spans], dim=2).flatten(1, 2)


def attend(similarity: Tensor, temperature: float) -> Tensor:
    """MP-IQE's equation 10: of the similarities s (..., J, P) of P phrases to J windows, for each phrase (..., P)

    Σ_j w_j s_j,  w = softmax over the windows of s / temperature
    """
    return ((similarity / temperature).softmax(dim=-2) * similarity).sum(dim=-2)


def zero_shot_teacher(spec: ModelSpec, branch: str, clip: Backbone) -> QualityModel:
    """Plain CLIP with the phrases of `branch` alone: the teacher of quality-aware gradient regularisation."""
    plain = spec.branches[branch].model_copy(update={"context": 0, "visual": None})
    alone = ModelSpec(branches={branch: plain}, quality=branch, normalize=spec.normalize)
    return QualityModel(alone, AntonymSpec(), clip).eval().requires_grad_(False)
