"""Agreement between predicted and rated quality, thin over scipy. Inputs are 1-D and of equal length."""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats


def auc(predicted: ArrayLike, positive: ArrayLike) -> float:
    """Area under the ROC curve: how often a positive (1) has the higher prediction than a negative (0); ties count
    half.

    Examples:
        >>> auc([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0])
        0.75
    """
    from sklearn.metrics import roc_auc_score  # takes a second to import

    return float(roc_auc_score(positive, predicted))


def srcc(predicted: ArrayLike, rated: ArrayLike) -> float:
    """Spearman's rank correlation; nan where either side is constant.

    Examples:
        >>> srcc([0.2, 0.5, 0.9], [1.0, 4.0, 4.5])
        1.0
        >>> srcc([0.5, 0.5, 0.5], [1.0, 4.0, 4.5])
        nan
    """
    return _quiet(stats.spearmanr, predicted, rated)


def plcc(predicted: ArrayLike, rated: ArrayLike) -> float:
    """Pearson's linear correlation, without a logistic fit; nan where either side is constant.

    Examples:
        >>> round(plcc([0.2, 0.5, 0.9], [1.0, 4.0, 4.5]), 3)
        0.89
    """
    return _quiet(stats.pearsonr, predicted, rated)


def plcc_logistic(predicted: ArrayLike, rated: ArrayLike) -> float:
    """Pearson's linear correlation after the four-parameter logistic of VQEG, fitted to the ratings by least squares:

        f(x) = β₂ + (β₁ − β₂) / (1 + exp(−(x − β₃) / |β₄|))

    It also straightens predictions that run the wrong way. nan where either side is constant, where there are fewer
    than five pairs, or where the fit does not converge.

    Examples:
        A prediction that saturates agrees better after the fit:

        >>> predicted, rated = [0.1, 0.3, 0.4, 0.5, 0.6, 0.9], [1.0, 1.1, 2.0, 4.0, 4.8, 5.0]
        >>> round(plcc(predicted, rated), 3), round(plcc_logistic(predicted, rated), 3)
        (0.9, 1.0)
    """
    x, y = np.asarray(predicted, float), np.asarray(rated, float)
    if len(x) < 5 or not np.ptp(x) > 0 or not np.ptp(y) > 0 or not np.isfinite(x).all():
        return float("nan")
    start = (y.max(), y.min(), x.mean(), x.std() / 4)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optimize.OptimizeWarning)
            best, _ = optimize.curve_fit(_logistic, x, y, start, maxfev=20_000)
    except RuntimeError:
        return float("nan")
    return plcc(_logistic(x, *best), y)


def krcc(predicted: ArrayLike, rated: ArrayLike) -> float:
    """Kendall's rank correlation (tau-b); nan where either side is constant.

    Examples:
        >>> round(krcc([0.2, 0.9, 0.5], [1.0, 4.0, 4.5]), 3)
        0.333
    """
    return _quiet(stats.kendalltau, predicted, rated)


def rmse(predicted: ArrayLike, rated: ArrayLike) -> float:
    """Root mean squared error.

    Examples:
        >>> round(rmse([0.2, 0.5, 0.9], [0.3, 0.4, 0.9]), 4)
        0.0816
    """
    return float(np.sqrt(np.mean((np.asarray(predicted, float) - np.asarray(rated, float)) ** 2)))


def merit(figures: Mapping[str, float | None]) -> float:
    """SRCC + PLCC − RMSE of a `report`, by which to choose: agreement in order, along a line, and in value. A constant
    agrees least."""
    order, line, value = (figures[name] for name in ("srcc", "plcc", "rmse"))
    return (-1.0 if order is None else order) + (-1.0 if line is None else line) - (value or 0.0)


def report(predicted: ArrayLike, rated: ArrayLike) -> dict[str, float | None]:
    """All five, by name; None where one is not defined, as JSON has no nan."""
    values = {metric.__name__: metric(predicted, rated) for metric in (srcc, plcc, plcc_logistic, krcc, rmse)}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _logistic(x: Any, high: float, low: float, middle: float, width: float) -> Any:
    return low + (high - low) * special.expit((x - middle) / max(abs(width), 1e-12))


def _quiet(correlation: Callable[..., Any], predicted: ArrayLike, rated: ArrayLike) -> float:
    if len(np.asarray(predicted)) < 2:
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        return float(correlation(predicted, rated).statistic)
