"""The last step of metatrain: the prior mean of a Gaussian process, from photographs and distorted copies of them."""

from collections.abc import Iterator, Sequence

import torch

from .. import rng
from ..config import SyntheticTask, ViewSpec
from ..data.loading import Loader, PictureCache
from ..data.synthetic import KADID_SCALE, composed_quality
from ..features import FeatureCache, encode_cached
from ..model.heads import GaussianProcessHead
from ..model.quality import QualityModel
from ..progress import track
from ..types import Features, Record

COPIES = 2000  # distorted copies in all
FEWEST, MOST = 2, 50  # copies of a photograph
CLEAN = composed_quality([])


def fit_prior(
    model: QualityModel, records: Sequence[Record], source: SyntheticTask, views: ViewSpec, *, seed: int
) -> None:
    """Fit the prior mean of the model's head to the photographs of synthetic `records` and to new copies of them, each
    with one of the records' distortions, or with two, as faults of cameras come together."""
    head = model.head
    assert isinstance(head, GaussianProcessHead)
    photographs = list({record.group: record for record in records}.values())
    kinds = sorted({step[0] for record in records for step in record.apply})
    each = min(max(COPIES // len(photographs), FEWEST), MOST)
    noise = rng.generator(seed, "prior")
    clean, copies = [], []
    for photograph in photographs:
        for number in range(each):
            apply = tuple(
                (kinds[int(torch.randint(len(kinds), (), generator=noise))],
                 float(source.levels[int(torch.randint(len(source.levels), (), generator=noise))]))
                for _ in range(1 + number % 2)
            )  # fmt: skip
            rating = KADID_SCALE.rating(composed_quality(apply))
            copies.append(Record(photograph.path, rating, photograph.group, apply=apply))
            clean.append(Record(photograph.path, KADID_SCALE.rating(CLEAN), photograph.group))
    views = views.model_copy(update={"random": 1})
    loader = Loader(views, KADID_SCALE, source_side=source.short_side, seed=seed, pictures=PictureCache(0))
    every = list(dict.fromkeys([*clean, *copies]))

    def views_of(missing: Sequence[Record]) -> Iterator[torch.Tensor | Features]:
        for start in range(0, len(missing), loader.at_once):
            yield loader.random_batch(missing[start : start + loader.at_once], noise).inputs

    with track("prior mean", len(every)) as log:
        found = encode_cached(model, every, loader.key, views_of, FeatureCache(), log=log)
    features = dict(zip(every, found, strict=True))
    (x, y), (x_clean, y_clean) = (
        (
            Features.cat([features[record] for record in some]),
            torch.tensor([KADID_SCALE.quality(record.rating) for record in some]),
        )
        for some in (copies, clean)
    )
    head.fit_prior(x_clean, x, y, y_clean)
