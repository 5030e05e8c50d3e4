"""The recipe that tests a model on a table of ratings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..config import SyntheticTask
from ..errors import InputError
from ..metrics import report
from ..score import Scorer
from ..types import Scale
from .adaptation import load
from .sources import TableOptions, read_source, source_name

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class Evaluated:
    """`metrics` over all pictures (srcc, plcc, plcc_logistic, krcc, rmse), and `pictures`, the table of predictions
    beside ratings."""

    metrics: dict[str, float | None]
    pictures: pd.DataFrame


def evaluate(
    model: Scorer | str | Path,
    *,
    task: str | None = None,
    overrides: Iterable[str] = (),
    **table: Unpack[TableOptions],
) -> Evaluated:
    """Compare a model's predictions with ratings that it did not learn from.

    `model` is a `Scorer`, or the folder of a checkpoint; `table` as for `TableOptions`. Errors are on the scale of the
    ratings: the model's own, or the `range` of the table; without either, `rmse` is None.

    Examples:
        >>> evaluate("runs/adapt", labels="others.csv").metrics["srcc"]  # doctest: +SKIP
    """
    scorer = model if isinstance(model, Scorer) else load(model)
    rated = read_source(source_name(task, **table), overrides, **table)
    source = rated.source
    if isinstance(source, SyntheticTask):
        raise InputError(f"task {task}: give a table of ratings")
    records = rated.test or rated.records
    pictures = scorer.predict([record.path for record in records])
    pictures.insert(1, "rated", [record.rating for record in records])
    predicted = pictures["quality"]
    scale = scorer.scale
    if scale is None and source.range is not None:
        scale = Scale(*(source.range[::-1] if source.lower_is_better else source.range))
    if scale is not None:
        predicted = pictures["rating"] = pictures["quality"].map(scale.rating)
    known = np.isfinite(predicted)
    rates = pictures["rated"] * (-1 if scale is None and source.lower_is_better else 1)
    metrics: dict[str, Any] = report(predicted[known], rates[known])
    return Evaluated(metrics | ({} if scale is not None else {"rmse": None}), pictures)
