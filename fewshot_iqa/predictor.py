"""From views to predictions, by a model of torch; what its encoder computed is kept."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from .errors import InputError
from .features import FeatureCache, picture_key
from .predicting import Opened
from .types import Features, Prediction

if TYPE_CHECKING:
    from .model.encoder import PromptState
    from .model.quality import QualityModel

SCORED = 64 << 20  # bytes of features that are kept in memory: pictures are rarely scored twice


@dataclass(frozen=True)
class ModelPredictor:
    """Predicts by `model`; `explained` are the branches whose likeliest phrase it can tell.

    `prepared` fills in the rest: the encoded prompts, the encoder's fingerprint, and what is asked for.
    """

    model: "QualityModel" = field(repr=False)
    explained: Sequence[str] = ()
    cache: FeatureCache = field(default_factory=lambda: FeatureCache(memory=SCORED), repr=False)
    state: "PromptState | None" = field(default=None, repr=False)
    encoder: str = ""
    branches: Sequence[str] = ()
    prompts: Mapping[str, str] | None = field(default=None, repr=False)
    keeps: bool = False

    @property
    def phrases(self) -> Mapping[str, Sequence[str]]:
        return {name: self.model.spec.branches[name].phrases for name in self.explained}

    @property
    def reads_prompts(self) -> bool:
        """Whether it compares images with prompts of their own."""
        spec = self.model.spec
        return self.model.head.reads_prompts or any(spec.branches[name].own_prompt for name in spec.alignment)

    @property
    def learned_from_prompts(self) -> bool:
        return self.model.head.learned_from_prompts

    @property
    def predicts_alignment(self) -> bool:
        return bool(self.model.spec.alignment)

    @torch.no_grad()
    def prepared(self, branches: Sequence[str], prompts: Mapping[str, str] | None) -> "ModelPredictor":
        if prompts is not None and not (self.predicts_alignment or self.reads_prompts):
            raise InputError("--prompts: this method neither reads prompts nor predicts how well an image matches one")
        wanted = [*branches, *(self.model.spec.alignment if prompts is not None else [])]
        return replace(
            self,
            state=self.model.encode_prompts(),
            encoder=self.model.fingerprint(),
            branches=wanted,
            prompts=prompts,
            keeps=self.model.features_suffice(wanted),
        )

    def recall(self, key: str) -> Features | None:
        return self.cache.get(picture_key(key, self.encoder)) if self.keeps else None

    @torch.no_grad()  # not inference_mode: what is kept is trained on
    def predict(self, pictures: Sequence[Opened]) -> Prediction:
        own = [self._prompt(each.name) for each in pictures] if self.prompts is not None else ()
        inputs = self._encode(pictures) if self.keeps else self._stack(pictures)
        return self.model(inputs, self.state, self.branches, own).clamped()

    def _prompt(self, name: str) -> str | None:
        """That of a picture by its path, or by its file's name."""
        assert self.prompts is not None
        return self.prompts.get(name, self.prompts.get(os.path.basename(name)))

    @torch.no_grad()
    def features(self, pictures: Sequence[Opened]) -> NDArray[np.float32]:
        """The pooled features that regression heads read, (B, S), the mean over views."""
        found = self._encode(pictures) if self.keeps else self._encode_anew(pictures)
        return found.matrix().cpu().numpy()

    def _encode(self, pictures: Sequence[Opened]) -> Features:
        missing = [each for each in pictures if not isinstance(each.views, Features)]
        found = {id(each): each.views for each in pictures if isinstance(each.views, Features)}
        if missing:
            encoded = self._encode_anew(missing).to("cpu")
            for i, each in enumerate(missing):
                found[id(each)] = encoded[i : i + 1].map(torch.clone)
                self.cache.put(picture_key(each.key, self.encoder), found[id(each)])
        return Features.cat([found[id(each)] for each in pictures]).to(self.model.device)

    def _encode_anew(self, pictures: Iterable[Opened]) -> Features:
        assert self.state is not None
        return self.model.encode(self._stack(pictures), self.state)

    def _stack(self, pictures: Iterable[Opened]) -> torch.Tensor:
        return torch.from_numpy(np.stack([each.views for each in pictures])).to(self.model.device)

    @torch.no_grad()
    def attention(self, tiles: NDArray[np.uint8]) -> tuple[str, int, NDArray[np.float32]]:
        """The first branch with windows, its likeliest phrase, and the weights of its windows (V, n, n) in `tiles`
        (V, 3, crop, crop), by MP-IQE's equation 10 over all of them. InputError where no branch has windows."""
        spec = self.model.spec
        branch = next((name for name in self.explained if spec.branches[name].windows), None)
        if branch is None:
            raise InputError("--map: this method has learned no phrases that it compares with windows of a picture")
        count, visual = spec.branches[branch].windows or 0, spec.branches[branch].visual or ""
        state = self.model.encode_prompts()
        features = self.model.encode(torch.from_numpy(tiles)[None].to(self.model.device), state, [visual], [visual])
        phrase = int(self.model.compare(features, state, [branch]).logits[branch].mean(dim=1).argmax())
        similarity = self.model.windows(features, branch, state)[0, :, :, phrase]
        weights = (similarity.flatten() / spec.branches[branch].attention).softmax(dim=0)
        return branch, phrase, weights.view(-1, count, count).cpu().numpy()

    def nearest_words(self, branch: str | None, count: int) -> list[list[str]]:
        return self.model.nearest_words(branch, count)
