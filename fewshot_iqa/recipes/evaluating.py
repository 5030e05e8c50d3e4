"""The recipe that tests a model on a table of ratings."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..config import SyntheticTask
from ..errors import InputError, InputWarning
from ..evaluation import NINETY, over_trials
from ..metrics import report
from ..model import checkpoint
from ..score import Scorer
from ..types import Scale
from .loading import load
from .sources import TableOptions, read_source, source_name

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class Evaluated:
    """`metrics` over the `pictures` that could be read: their number, srcc, plcc, plcc_logistic, krcc, rmse, and the
    `coverage` of the predicted 90 % intervals, where the model has such. `pictures` has their ratings and predictions.
    """

    metrics: dict[str, Any]
    pictures: pd.DataFrame = field(repr=False)


def evaluate(
    model: Scorer | str | Path,
    *,
    task: str | None = None,
    cache: str | Path | None = None,
    overrides: Iterable[str] = (),
    **table: Unpack[TableOptions],
) -> Evaluated:
    """Compare a model's predictions with ratings that it did not learn from.

    `model` is a `Scorer`, or the folder of a checkpoint; `table` as for `TableOptions`. Predictions are on the scale of
    the ratings: the `range` of the table where it is given, else the model's own; without either, `rmse` is None.

    Examples:
        >>> evaluate("runs/adapt", labels="others.csv").metrics["srcc"]  # doctest: +SKIP
    """
    scorer = model if isinstance(model, Scorer) else load(model, cache=cache)
    rated = read_source(source_name(task, **table), overrides, **table)
    if len(rated.splits) > 1:
        raise InputError(f"--splits: there are {len(rated.splits)} splits; name one file")
    source = rated.source
    records = rated.splits[0][1] if rated.splits else rated.test or rated.records
    if isinstance(source, SyntheticTask):
        raise InputError("evaluate: give a table of ratings, labels=")
    learned = None if isinstance(model, Scorer) else checkpoint.provenance(Path(model)).get("task")
    if learned in source.shares:
        message = f"the model learned from {learned}, which has {source.shares[learned]} in common with these pictures"
        warnings.warn(message, InputWarning, stacklevel=2)
    scale = scorer.scale
    if source.range is not None:
        scale = Scale(*(source.range[::-1] if source.lower_is_better else source.range))
    elif scale is not None and source.lower_is_better != (scale.best < scale.worst):
        raise InputError("evaluate: the model's ratings run the other way; state the scale of these with range=")
    prompts = {str(record.path): record.prompt for record in records if record.prompt}
    reads = prompts and scorer.predictor.reads_prompts
    scored = scorer.predict([record.path for record in records], prompts=prompts if reads else None)
    pictures = pd.DataFrame({"image": scored["image"], "rating": [record.rating for record in records]})
    if scale is not None:
        pictures["predicted_rating"] = scored["quality"].map(scale.rating)
        pictures["predicted_rating_std"] = scored["quality_std"] * abs(scale.best - scale.worst)
    pictures["predicted_quality"], pictures["predicted_quality_std"] = scored["quality"], scored["quality_std"]
    pictures["note"] = scored["note"]
    known = pictures[scored["quality"].notna()]
    if len(known) < len(pictures):
        warnings.warn(f"{len(pictures) - len(known)} of {len(pictures)} pictures cannot be read", InputWarning, 2)
    if known.empty:
        raise InputError(f"{pictures['image'][0]}: {pictures['note'][0]} (and no other picture can be read)")
    parts = [known]
    if not source.pooled:
        parts = [part for _, part in known.groupby([records[i].subset or "" for i in known.index])]
    agreed, _ = over_trials([_agreement(part, scale, source.lower_is_better) for part in parts])
    return Evaluated({"pictures": len(known)} | agreed, pictures)


def _agreement(known: pd.DataFrame, scale: Scale | None, lower_is_better: bool) -> dict[str, Any]:
    if scale is None:
        ratings = known["rating"] * (-1 if lower_is_better else 1)
        return report(known["predicted_quality"], ratings) | {"rmse": None}
    found: dict[str, Any] = report(known["predicted_rating"], known["rating"])
    std = known["predicted_rating_std"]
    if std.notna().all():
        found["coverage"] = float(((known["predicted_rating"] - known["rating"]).abs() <= NINETY * std).mean())
    return found
