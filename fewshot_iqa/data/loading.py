"""Records -> batches: decode, distort, reduce, cut."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config import ViewSpec
from ..distortions import distort
from ..features import picture_key
from ..images import (
    Picture,
    Source,
    content_hash,
    fixed_views,
    prepare,
    prepared_size,
    random_view,
    shrunk_size,
    to_float,
    to_picture,
    to_uint8,
)
from ..rng import generator
from ..types import Batch, Features, Pixels, Record, Scale
from .synthetic import distortable
from .targets import label_targets

FEATURES_AT_ONCE = 512  # pictures, which are a few kilobytes each


class PictureCache:
    """Prepared pictures in memory up to `limit` bytes; the least recently used go first. Another
    process begins with none."""

    def __init__(self, limit: int = 2 << 30) -> None:
        self._limit = self._room = limit
        self._kept: OrderedDict[Any, Picture] = OrderedDict()

    def __reduce__(self) -> tuple[type[PictureCache], tuple[int]]:
        return PictureCache, (self._limit,)

    def get(self, key: Any) -> Picture | None:
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, key: Any, picture: Picture) -> None:
        if key not in self._kept and picture.nbytes <= self._limit:
            self._kept[key] = picture
            self._room -= picture.nbytes
            while self._room < 0:
                self._room += self._kept.popitem(last=False)[1].nbytes


class Loader:
    """Cuts batches out of records; prepared pictures are kept in `pictures`, which loaders may share.

    `scale` maps ratings to quality; `source_side` reduces a photograph before it is distorted, so that a distortion
    meets the picture size that its human label is from. A synthetic picture is the same each time for one `seed`. A
    record whose path is in `sources` is read from there: an array, a tensor or another file.
    """

    def __init__(
        self,
        views: ViewSpec,
        scale: Scale,
        *,
        source_side: int | None = None,
        seed: int = 0,
        sources: Mapping[Path, Source] = {},
        pictures: PictureCache | None = None,
    ) -> None:
        self.views, self.scale, self.source_side, self.seed = views, scale, source_side, seed
        self.sources = sources
        self.pictures = PictureCache() if pictures is None else pictures
        self.at_once = views.at_once  # pictures of a batch of fixed views
        self._views = views.model_dump()

    def picture(self, record: Record) -> Picture:
        """The prepared picture; InputError where it cannot be used."""
        size = self.source_side, self.views.short_side, self.views.square, self.views.crop
        key = (record.path, record.apply, self.seed if record.apply else None, size)
        kept = self.pictures.get(key)
        if kept is not None:
            return kept
        image = self.source(record)
        for name, level in record.apply:
            noise = generator(self.seed, "distort", record.path.name, name, level)
            image = to_uint8(distort(to_float(image), name, level, generator=noise))
        image = prepare(image, self.views)
        self.pictures.put(key, image)
        return image

    def source(self, record: Record) -> Picture:
        """The decoded picture, reduced, before distortion; InputError where it cannot be used."""
        size = None if record.apply else partial(prepared_size, self.views)
        size = partial(shrunk_size, self.source_side) if self.source_side else size
        image = to_picture(self.sources.get(record.path, record.path), str(record.path), size=size)
        return distortable(image, record.path) if record.apply else image

    def key(self, record: Record) -> str:
        """A key of what the views of a record depend on: content, distortions and their draws, size and crops."""
        drawn = (record.apply, self.seed, record.path.name) if record.apply else ()
        return picture_key(
            content_hash(self.sources.get(record.path, record.path)), drawn, self.source_side, self._views
        )

    def random_batch(self, records: Sequence[Record], noise: torch.Generator) -> Batch:
        """`views.random` random views of each record, one after the other, each for itself."""
        records = [record for record in records for _ in range(self.views.random)]
        return self.label(self._random_views(records, noise), records)

    def fixed_batches(self, records: Sequence[Record]) -> Iterator[Batch]:
        """The fixed test views of a few records at a time: inputs (R, V, 3, crop, crop), targets (R,)."""
        for start in range(0, len(records), self.at_once):
            chunk = records[start : start + self.at_once]
            yield self.label(self._fixed_views(chunk), chunk)

    def label(self, inputs: Tensor | Features, records: Sequence[Record]) -> Batch:
        """A batch with the targets and prompts of its records."""
        quality = torch.tensor([self.scale.quality(record.rating) for record in records]).float()
        targets = {"quality": quality, **label_targets(records)}
        return Batch(inputs, targets, [record.prompt for record in records])

    def _random_views(self, records: Sequence[Record], noise: torch.Generator) -> Tensor | Features:
        views = [random_view(self.picture(record), self.views.crop, noise) for record in records]
        return torch.from_numpy(np.stack(views))

    def _fixed_views(self, records: Sequence[Record]) -> Tensor | Features:
        return torch.from_numpy(np.stack([fixed_views(self.picture(record), self.views) for record in records]))


class FeatureLoader(Loader):
    """Gives, in the place of pictures, the features of their fixed views: `features` {pixels of a record: B = 1}."""

    def __init__(self, views: ViewSpec, scale: Scale, features: Mapping[Pixels, Features]) -> None:
        super().__init__(views, scale)
        self.features = features
        self.at_once = self.at_once if views.stride else FEATURES_AT_ONCE  # pictures with equally many views

    def _random_views(self, records: Sequence[Record], noise: torch.Generator) -> Features:
        chosen = []
        for record in records:
            one = self.features[record.pixels]
            view = int(torch.randint(next(iter(one.pooled.values())).shape[1], (1,), generator=noise))
            chosen.append(one.view(view))
        return Features.cat(chosen)

    def _fixed_views(self, records: Sequence[Record]) -> Features:
        return self.of(records)

    def of(self, records: Iterable[Record]) -> Features:
        return Features.cat([self.features[record.pixels] for record in records])
