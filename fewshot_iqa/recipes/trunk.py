"""What frozen layers compute of a picture or a crop, kept: a step of adaptation then costs the trained layers alone."""

from collections import Counter, OrderedDict
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
        self.model, self.layers, self.sets = model, layers, model.sets(model.spec.branches)

    def encode_prompts(self) -> None:
        """It needs none of the text's."""

    @torch.inference_mode(False)  # what is kept is trained on
    @torch.no_grad()
    def encode(self, views: Tensor | Features, _: None = None) -> Features:
        return self.model.encode_trunk(views, self.layers, self.sets)

    def fingerprint(self) -> str:
        return f"{self.model.fingerprint(self.layers)} {self.sets}"

    @property
    def device(self) -> torch.device:
        return self.model.device

    def bytes_of(self, views: int) -> int:
        """The size of what it computes of so many views."""
        clip = self.model.clip
        patches = (clip.image_size // clip.patch_size) ** 2
        return views * len(self.sets) * (1 + patches) * clip.vision_width * clip.logit_scale.element_size()


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
        def views(missing: Sequence[Record]) -> Iterator[Tensor | Features]:
            yield super(TrunkLoader, self)._fixed_views(missing)

        return Features.cat(encode_cached(self.trunk, records, self.key, views, self.cache))


def with_trunk(loader: Loader, model: QualityModel, layers: int | None, pictures: int, cache: FeatureCache) -> Loader:
    """A loader that keeps what the first `layers` layers make of so many pictures, where memory holds it."""
    if layers is None or loader.views.stride:
        return loader
    trunk = Trunk(model, layers)
    fits = trunk.bytes_of(loader.views.count * pictures) <= cache.memory
    return TrunkLoader(loader, trunk, cache) if fits else loader


class Crops:
    """Random views of the shots, each passed through `encode`.

    The first `limit` of a shot come again in turn, so that each is encoded once; what that gives is kept in `room`
    bytes, and what was not used for longest goes first. Without `limit` every view is a new one.
    """

    def __init__(
        self, loader: Loader, limit: int | None, encode: Callable[[Batch], Batch], *, room: int = 1 << 30
    ) -> None:
        self.loader, self.limit, self.encode, self.room = loader, limit, encode, room
        self._drawn: Counter[Record] = Counter()
        self._views: dict[tuple[Record, int], Batch] = {}
        self._encoded: OrderedDict[tuple[Record, int], Batch] = OrderedDict()

    def batch(self, shots: Sequence[Record], noise: torch.Generator) -> Batch:
        """Random views of the shots, as `Loader.random_batch` draws them, or earlier ones."""
        drawn = self.loader.random_batch(shots, noise)
        if self.limit is None:
            return self.encode(drawn)
        keys = []
        for i, shot in enumerate(shot for shot in shots for _ in range(self.loader.views.random)):
            key = shot, self._drawn[shot] % self.limit
            if self._drawn[shot] < self.limit:
                self._views[key] = drawn[[i]]
            self._drawn[shot] += 1
            keys.append(key)
        missing = [key for key in dict.fromkeys(keys) if key not in self._encoded]
        if missing:
            encoded = self.encode(Batch.cat([self._views[key] for key in missing]))
            for i, key in enumerate(missing):
                self._encoded[key] = encoded[[i]]
                self.room -= _bytes(self._encoded[key])
        found = Batch.cat([self._encoded[key] for key in keys])
        for key in keys:
            self._encoded.move_to_end(key)
        while self.room < 0:
            self.room += _bytes(self._encoded.popitem(last=False)[1])
        return found


def _bytes(batch: Batch) -> int:
    return batch.inputs.nbytes
