"""What frozen layers compute of a picture or a crop, kept: a step of adaptation then costs the trained layers alone."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ..data.loading import Loader
from ..features import FeatureCache, encode_cached
from ..model.quality import QualityModel
from ..types import Batch, Features, Record


class Trunk:
    """The first `layers` layers of a model's image tower, as an encoder."""

    def __init__(self, model: QualityModel, layers: int) -> None:
        self.model, self.layers = model, layers

    def encode_prompts(self) -> None:
        """It needs none of the text's."""

    @torch.inference_mode(False)  # what is kept is trained on
    @torch.no_grad()
    def encode(self, views: Tensor | Features, _: None = None) -> Features:
        return self.model.encode_trunk(views, self.layers, self.model.sets)

    def fingerprint(self) -> str:
        return f"{self.model.fingerprint(self.layers)} {self.model.sets}"

    @property
    def device(self) -> torch.device:
        return self.model.device

    def bytes_of(self, views: int) -> int:
        """The size of what it computes of so many views."""
        clip = self.model.clip
        patches = (clip.image_size // clip.patch_size) ** 2
        return views * len(self.model.sets) * (1 + patches) * clip.vision_width * clip.logit_scale.element_size()


class TrunkLoader(Loader):
    """Gives, in the place of a picture's fixed views, what the trunk makes of them; its random views are images."""

    def __init__(self, loader: Loader, trunk: Trunk, cache: FeatureCache) -> None:
        super().__init__(
            loader.views,
            loader.scale,
            source_side=loader.source_side,
            seed=loader.seed,
            sources=loader.sources,
            pictures=loader.pictures,
        )
        self.trunk, self.cache = trunk, cache

    def _fixed_views(self, records: Sequence[Record]) -> Features:
        def views(missing: Sequence[Record]) -> Iterator[Tensor]:
            for start in range(0, len(missing), self.views.at_once):
                images = super(TrunkLoader, self)._fixed_views(missing[start : start + self.views.at_once])
                assert not isinstance(images, Features)
                yield images

        return Features.cat(encode_cached(self.trunk, records, self.key, views, self.cache))


class Crops:
    """Random views of the shots, each passed through `encode`. The first `limit` of a shot come again in turn, so that
    each is encoded once."""

    def __init__(self, loader: Loader, limit: int | None, encode: Callable[[Batch], Batch]) -> None:
        self.loader, self.limit, self.encode = loader, limit, encode
        self._kept: dict[Record, list[Batch]] = {}
        self._drawn: Counter[Record] = Counter()

    def batch(self, shots: Sequence[Record], noise: torch.Generator) -> Batch:
        """Random views of the shots, as `Loader.random_batch` draws them, or earlier ones."""
        drawn = self.loader.random_batch(shots, noise)
        if self.limit is None:
            return self.encode(drawn)
        rows = [shot for shot in shots for _ in range(self.loader.views.random)]
        turns = []
        for shot in rows:
            turns.append(self._drawn[shot])
            self._drawn[shot] += 1
        fresh = [i for i, turn in enumerate(turns) if turn < self.limit]
        if fresh:
            encoded = self.encode(drawn[fresh])
            for i, row in enumerate(fresh):
                self._kept.setdefault(rows[row], []).append(encoded[[i]])
        return Batch.cat([self._kept[shot][turn % self.limit] for shot, turn in zip(rows, turns, strict=True)])
