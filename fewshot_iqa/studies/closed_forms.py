"""Many trials of a method in closed form, on pictures that are encoded once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..config import Config
from ..data.loading import FeatureLoader
from ..errors import InputError
from ..features import FeatureCache
from ..model import checkpoint
from ..model.quality import QualityModel
from ..progress import quiet
from ..recipes.common import choose_device, evaluate_on
from ..recipes.draws import Draw, draw_trials
from ..recipes.fitting import fit
from ..recipes.results import srcc_of
from ..recipes.sources import read_source, source_name
from ..recipes.starts import read_settings
from ..recipes.trial import Memory, Method, encoded, loader_of
from ..types import Record, Shots

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class ClosedForm:
    """A method, and draws whose shots are the whole training pool of `task`, each in an order of its own."""

    settings: Config
    model: QualityModel
    task: str
    draws: Sequence[Draw]
    pictures: FeatureLoader

    def srcc(self, draw: Draw, shots: Sequence[Record], ratings: Sequence[float] | None = None) -> float:
        """SRCC on the test of a draw after learning from `shots`, with `ratings` in the place of their own; 0 of a
        constant prediction."""
        if ratings is not None:
            shots = [replace(shot, rating=rating) for shot, rating in zip(shots, ratings, strict=True)]
        with quiet():
            fit(self.model, self.pictures, shots, self.settings, seed=draw.seed)
            report = evaluate_on(self.model, self.pictures, draw.test)
        return srcc_of(report.metrics)


def closed_form(
    config: str,
    task: str | None,
    seeds: int,
    *,
    device: str | None = None,
    cache: "str | Path | None" = None,
    overrides: Iterable[str] = (),
    **table: Any,
) -> ClosedForm:
    """`table` is as for `TableOptions`. InputError unless the method is fitted in closed form on frozen features."""
    settings, for_task = read_settings(config, None, None, overrides)
    task = source_name(task, **table)
    rated = read_source(task, for_task, **table)
    method = Method(settings, checkpoint.default_start(settings), choose_device(device))
    model, memory = method.build(0), Memory(FeatureCache(cache))
    if settings.adapt is not None or not settings.learns or not method.has_frozen_features(model):
        raise InputError(f"--config {config}: this experiment needs a closed form on frozen features")
    draws = draw_trials(rated, Shots.parse("100%"), range(seeds))
    every = list(dict.fromkeys(record for draw in draws for record in draw.pictures))
    pictures = encoded(model, loader_of(method, draws[0], memory), every, memory.features)
    return ClosedForm(settings, model, task, draws, pictures)
