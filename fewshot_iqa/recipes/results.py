"""What is reported of trials."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .. import metrics
from ..config import Config
from ..errors import InputWarning
from ..evaluation import NINETY, Report, over_trials
from ..files import from_cell
from .draws import Draw

NUMBERS = (
    *("fold", "level", "rating_std", "votes"),
    *("predicted_rating", "predicted_quality", "predicted_rating_std", "predicted_quality_std"),
)
CONSTANT = 1e-3  # of quality in [0, 1]: predictions that differ less are the same
PICTURES = "pictures.csv"  # inside a checkpoint: the rows of `by_picture`
METRICS = (
    *("srcc", "plcc", "plcc_logistic", "krcc", "rmse", "coverage", "scene_accuracy", "distortion_accuracy"),
    *("alignment_srcc", "alignment_auc", "within", "zero_shot", "cosine", "seconds", "peak_mb"),
)


def srcc_of(found: Mapping[str, Any]) -> float:
    """The SRCC among metrics; 0 of a constant prediction, which has none."""
    return found["srcc"] or 0.0


def warn_constant(settings: Config, predicted: Sequence[float]) -> None:
    """Warn where a model that learned predicts nearly the same of all pictures."""
    if len(predicted) < 2 or max(predicted) - min(predicted) > CONSTANT or not settings.learns:
        return
    tried = f"a lower adapt.lr (now {settings.adapt.lr:g}), or" if settings.adapt else "more ratings, or"
    message = f"the model predicts nearly the same quality of all pictures ({predicted[0]:.3f}): try {tried} another"
    warnings.warn(f"{message} method by --config", InputWarning, stacklevel=3)


def summarize(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Median and interquartile range of the metrics over trials."""
    median, iqr = over_trials([{name: trial[name] for name in METRICS if name in trial} for trial in trials])
    return {"median": median, "iqr": iqr}


def by_picture(draw: Draw, report: Report | None, *, shots: bool = True) -> list[dict[str, Any]]:
    """A row for each picture of a trial: its `part` (shot or test), its `rating` and the same as `quality` in [0, 1],
    and for test pictures what the model predicted of both, with its standard deviation where the head has one."""
    span = abs(draw.scale.best - draw.scale.worst)
    rows = []
    for part, records in (("shot", draw.shots if shots else []), ("test", draw.test)):
        for i, record in enumerate(records):
            row: dict[str, Any] = {"seed": draw.seed, "fold": draw.fold, "part": part}
            row |= {"image": str(record.path.resolve()), "group": record.group}
            row |= {"distortion": record.distortion, "level": record.level, "subset": record.subset}
            row |= {"rating": record.rating, "quality": draw.scale.quality(record.rating)}
            row |= {"rating_std": record.rating_std, "votes": record.votes}
            if report is not None and part == "test":
                quality, std = report.predicted[i], report.predicted_std[i] if report.predicted_std else None
                row |= {"predicted_rating": draw.scale.rating(quality), "predicted_quality": quality}
                row |= {"predicted_rating_std": std and span * std, "predicted_quality_std": std}
            rows.append(row)
    return rows


def read_pictures_table(path: Path) -> pd.DataFrame:
    """The rows of `by_picture` in a file; names stay texts."""
    kinds = dict.fromkeys(("image", "group", "distortion", "subset", "part"), str)
    table = pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values={name: [""] for name in NUMBERS})
    for name in kinds.keys() & set(table):
        table[name] = table[name].map(from_cell)
    for name in ("distortion", "subset"):
        if name in table:
            table[name] = table[name].mask(table[name] == "")
    return table


def tested(pictures: pd.DataFrame) -> pd.DataFrame:
    """The rows with a prediction of a model that did not learn from them."""
    return pictures[pictures["part"] == "test"] if "part" in pictures else pictures


def agreement(pictures: pd.DataFrame, *, seed: int = 0, per_subset: bool = False) -> dict[str, Any]:
    """How well the predictions of `by_picture`, pooled over folds, agree with the ratings, in the ratings' units.

    `srcc`, `plcc`, `krcc` and `rmse`, with `srcc_interval`, the 95 % bootstrap interval over groups; the number of
    `pictures` and of `groups`; `coverage` of the predicted 90 % intervals, where there are such. With `per_subset`,
    where each subset has a scale of its own, they are medians over the subsets, without an interval.
    """
    rows = tested(pictures)
    parts = [part for _, part in rows.groupby("subset")] if per_subset else [rows]
    each = [metrics.report(part["predicted_rating"], part["rating"]) for part in parts]
    found: dict[str, Any] = {"pictures": len(rows), "groups": rows["group"].nunique(), **over_trials(each)[0]}
    predicted, rated, groups = (rows[name].to_numpy() for name in ("predicted_rating", "rating", "group"))
    if "predicted_rating_std" in rows:
        inside = abs(predicted - rated) <= NINETY * rows["predicted_rating_std"].to_numpy()
        found["coverage"] = float(inside.mean())
    interval = None if per_subset else metrics.bootstrap_interval(metrics.srcc, predicted, rated, groups, seed=seed)
    return found | {"srcc_interval": interval}
