"""One honest pass over rated pictures."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch

from . import metrics
from .types import Batch, Output


@dataclass(frozen=True)
class Report:
    """Qualities of each picture, `predicted` and `rated`, and their agreement (`metrics`: srcc, plcc, krcc, rmse)."""

    predicted: list[float]
    rated: list[float]
    metrics: dict[str, float | None]


@torch.inference_mode()
def evaluate(
    model: Callable[..., Output],
    batches: Iterable[Batch],
    *,
    log: Callable[[Mapping[str, float]], None] = lambda _: None,
) -> Report:
    """Score every picture and compare with the ratings. `log` is called once a batch."""
    predicted: list[float] = []
    rated: list[float] = []
    state = model.encode_prompts()  # type: ignore[attr-defined]
    for batch in batches:
        predicted += model(batch.images, state).quality.tolist()
        rated += batch.targets["quality"].tolist()
        log({})
    return Report(predicted, rated, metrics.report(predicted, rated))
