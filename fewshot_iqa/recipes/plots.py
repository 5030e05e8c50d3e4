"""Figures of what a model predicted of rated pictures; of tables as `results.by_picture` makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from ..errors import InputError, nearest
from ..metrics import fit_logistic
from .figures import new_figure, save_figure
from .outlook import expected
from .results import tested

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = np.linspace(0.05, 0.95, 19)  # of the predicted intervals
MOST_GROUPS = 24  # that residuals are drawn of
GREY, BLUE, ORANGE = "#808080", "#1f77b4", "#e07b00"  # seen on light and dark grounds


def plot_scatter(pictures: pd.DataFrame, path: str | Path | None = None) -> Figure:
    """Rating over predicted rating, with one predicted standard deviation, that of the mean rating where it is known,
    and VQEG's four-parameter logistic."""
    rows = tested(pictures)
    figure = new_figure((5.2, 4.6))
    axes = figure.subplots()
    x, y = rows["predicted_rating"].to_numpy(float), rows["rating"].to_numpy(float)
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    axes.plot([low, high], [low, high], color=GREY, linestyle="--", linewidth=1, label="equal")
    axes.errorbar(
        x, y, xerr=rows.get("predicted_rating_std"), yerr=_mean_std(rows), fmt="o", markersize=3.5, color=BLUE,
        ecolor=BLUE, elinewidth=0.6, alpha=0.6, label="a picture, ± one standard deviation",
    )  # fmt: skip
    curve = fit_logistic(x, y)
    if curve is not None:
        along = np.linspace(x.min(), x.max(), 100)
        axes.plot(along, curve(along), color=ORANGE, linewidth=1.6, label="logistic fit")
    axes.set(xlabel="predicted rating", ylabel="rating")
    axes.legend(frameon=False, fontsize="small")
    axes.grid(alpha=0.25)
    return save_figure(figure, path)


def plot_calibration(pictures: pd.DataFrame, path: str | Path | None = None) -> Figure:
    """The share of ratings within the predicted interval of each level. Where the line is below the diagonal, predicted
    deviations are too small."""
    rows = tested(pictures)
    if "predicted_rating_std" not in rows:
        raise InputError("plot_calibration: this method predicts no standard deviation")
    off = abs(rows["predicted_rating"] - rows["rating"]) / rows["predicted_rating_std"]
    figure = new_figure((4.6, 4.6))
    axes = figure.subplots()
    inside = [float((off <= stats.norm.ppf((1 + level) / 2)).mean()) for level in LEVELS]
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    axes.plot(LEVELS, inside, marker="o", markersize=3.5, color=BLUE)
    axes.set(xlabel="level of the predicted interval", ylabel="share of the ratings inside", xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.25)
    return save_figure(figure, path)


def plot_residuals(pictures: pd.DataFrame, path: str | Path | None = None, *, by: str | None = None) -> Figure:
    """Rating minus predicted rating in each group of the column `by`: by default the first of distortion, subset and
    group that has a few of several pictures, else thirds of the predicted rating."""
    rows = tested(pictures)
    names, title = residual_groups(rows, by)
    residual = rows["rating"] - rows["predicted_rating"]
    groups = {name: residual[names == name].to_numpy() for name in dict.fromkeys(names)}
    figure = new_figure((5.6, max(2.2, 0.32 * len(groups) + 1)))
    axes = figure.subplots()
    axes.axvline(0, color=GREY, linestyle="--", linewidth=1)
    labels = [f"{_short(name)} ({len(some)})" for name, some in groups.items()]
    axes.boxplot(
        list(groups.values()), orientation="horizontal", widths=0.6, tick_labels=labels,
        flierprops={"markersize": 3}, medianprops={"color": ORANGE},
    )  # fmt: skip
    axes.set(xlabel="rating − predicted rating", ylabel=title)
    axes.grid(alpha=0.25, axis="x")
    return save_figure(figure, path)


def residual_groups(rows: pd.DataFrame, by: str | None = None) -> tuple[pd.Series[str], str]:
    """The group of each row, in the order of their names or sizes, and what groups are."""
    if by and by not in rows:
        raise InputError(f"plot_residuals: no column {by}.{nearest(by, map(str, rows))}".removesuffix("."))
    for column in [by] if by else ["distortion", "subset", "group"]:
        names = rows[column].dropna().astype(str) if column in rows else pd.Series(dtype=str)
        if by or (len(names) == len(rows) and 1 < names.nunique() <= min(MOST_GROUPS, len(rows) / 2)):
            return names.sort_values(), column
    ranked = rows["predicted_rating"].rank(method="first").sort_values()
    thirds = pd.cut(ranked, 3, labels=["lowest third", "middle third", "highest third"])
    return thirds.astype(str), "predicted rating"


def plot_learning_curve(
    found: Mapping[str, Any] | None, ceiling: Mapping[str, float] | None = None, path: str | Path | None = None
) -> Figure:
    """SRCC of out-of-fold predictions over the number of ratings learned from, `found` by `outlook.learning_curve`; how
    it would go on; and the ceiling of the ratings."""
    if found is None:
        raise InputError(
            "plot_learning_curve: computed for closed forms that learn from 20 to 500 ratings in all; use fsiqa.curve"
        )
    figure = new_figure((5.2, 3.6))
    axes = figure.subplots()
    axes.plot(found["shots"], found["srcc"], marker="o", markersize=4, color=BLUE, label="part of the ratings")
    axes.plot(*expected(found), "o--", markersize=4, color=ORANGE, label="all of them, and more: expected")
    if ceiling:
        axes.axhline(ceiling["srcc"], color=GREY, linestyle=":", label="ceiling of the ratings")
    axes.set(xlabel="ratings", ylabel="SRCC out of fold")
    axes.legend(frameon=False, fontsize="small")
    axes.grid(alpha=0.25)
    return save_figure(figure, path)


def plot_training(history: Sequence[Mapping[str, float]], path: str | Path | None = None) -> Figure:
    """What each step of a gradient stage, or each validation of meta-training, logged."""
    table = pd.DataFrame(list(history))
    steps = table.pop("step") if "step" in table else pd.Series(range(1, len(table) + 1))
    names = [name for name in ("loss", "cosine", "srcc", "rmse") if name in table and table[name].notna().any()]
    figure = new_figure((5.2, 1.9 * len(names) + 0.3))
    for axes, name in zip(np.atleast_1d(figure.subplots(len(names), sharex=True)), names, strict=True):
        axes.plot(steps, table[name], color=BLUE, linewidth=1.4)
        axes.set(ylabel=name)
        axes.grid(alpha=0.25)
    axes.set(xlabel="step")
    return save_figure(figure, path)


def _short(name: str) -> str:
    """A name as matplotlib draws it, which reads formulas between dollars."""
    return (name if len(name) < 40 else f"{name[:38]}…").replace("$", r"\$")


def _mean_std(rows: pd.DataFrame) -> pd.Series[float] | None:
    """The standard deviation of mean ratings."""
    if not {"rating_std", "votes"} <= set(rows):
        return None
    return (rows["rating_std"] / np.sqrt(rows["votes"])).fillna(0)
