"""Criteria: simulated raters who mind different faults, like different content and use the scale in their own way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from ..distortions import FAMILIES, family
from ..rng import generator
from ..types import Record
from .synthetic import KADID_SCALE, composed_quality

CLEAN = composed_quality([])
IGNORED, LIKING = 0.4, 0.15  # share of the families that a rater does not mind; standard deviation of likings
GRADES = 5


@dataclass(frozen=True)
class Criterion:
    """With q the quality that KADID-10k's raters gave a distortion, its quality to this rater is

        clean − Σ over its steps of w_f · (clean − q) + l_g

    where w_f, in `weights`, is how much the family of a step is minded, and l_g, in `likings`, how much a group of
    content is liked. It is put on the rater's part `low` to `high` of the scale, cut off at the ends of the scale, and
    rounded to one of `GRADES` where the rater is `graded`.
    """

    weights: Mapping[str, float]
    likings: Sequence[float]
    low: float
    high: float
    graded: bool

    def rate(self, record: Record, group: int) -> Record:
        """The record with the rating of this rater; its content is of this group."""
        lost = sum(self.weights[family(name)] * (CLEAN - composed_quality([(name, at)])) for name, at in record.apply)
        quality = self.low + (self.high - self.low) * (CLEAN - lost + self.likings[group])
        quality = min(max(quality, 0.0), 1.0)
        if self.graded:
            quality = round(quality * (GRADES - 1)) / (GRADES - 1)
        return replace(record, rating=KADID_SCALE.rating(quality))


def draw_criterion(number: int, groups: int, *, seed: int) -> Criterion:
    """The criterion of a number, for photographs of so many groups of content. It minds one family at least."""
    noise = generator(seed, "criterion", number)
    minded = torch.rand(len(FAMILIES), generator=noise) > IGNORED
    minded[int(torch.randint(len(FAMILIES), (), generator=noise))] = True
    weights = minded * (0.5 + torch.rand(len(FAMILIES), generator=noise))
    likings = LIKING * torch.randn(groups, generator=noise)
    low, high = 0.3 * float(torch.rand((), generator=noise)), 1.2 - 0.4 * float(torch.rand((), generator=noise))
    graded = bool(torch.rand((), generator=noise) < 0.5)
    return Criterion(dict(zip(FAMILIES, weights.tolist(), strict=True)), likings.tolist(), low, high, graded)
