"""Agreement between predicted and rated quality, computed by scipy. Inputs are 1-D and of equal length."""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats


def auc(predicted: ArrayLike, positive: ArrayLike) -> float:
    """Area under the ROC curve, in [0, 1], of predictions of a binary label `positive` (0 or 1).

    It is the probability that a positive has a higher prediction than a negative, ties counting half.

    Examples:
        >>> auc([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0])
        0.75
    """
    from sklearn.metrics import roc_auc_score  # takes a second to import

    return float(roc_auc_score(positive, predicted))


def srcc(predicted: ArrayLike, rated: ArrayLike) -> float:
    """Spearman's rank correlation (SRCC, SROCC), in [-1, 1]; nan where either side is constant.

    Examples:
        >>> srcc([0.2, 0.5, 0.9], [1.0, 4.0, 4.5])
        1.0
        >>> srcc([0.5, 0.5, 0.5], [1.0, 4.0, 4.5])
        nan
    """
    return _quiet(stats.spearmanr, predicted, rated)


def plcc(predicted: ArrayLike, rated: ArrayLike) -> float:
    """Pearson's linear correlation (PLCC), in [-1, 1], without a logistic fit; nan where either side is constant.

    Examples:
        >>> round(plcc([0.2, 0.5, 0.9], [1.0, 4.0, 4.5]), 3)
        0.89
    """
    return _quiet(stats.pearsonr, predicted, rated)


def plcc_logistic(predicted: ArrayLike, rated: ArrayLike) -> float:
    """Pearson's linear correlation after VQEG's four-parameter logistic, fitted to the ratings by least squares:

        f(x) = β₂ + (β₁ − β₂) / (1 + exp(−(x − β₃) / |β₄|))

    The fit also inverts predictions with a negative correlation. nan where either side is constant, where there are
    fewer than five pairs, or where the fit does not converge.

    Examples:
        A prediction that saturates agrees better after the fit:

        >>> predicted, rated = [0.1, 0.3, 0.4, 0.5, 0.6, 0.9], [1.0, 1.1, 2.0, 4.0, 4.8, 5.0]
        >>> round(plcc(predicted, rated), 3), round(plcc_logistic(predicted, rated), 3)
        (0.9, 1.0)
    """
    curve = fit_logistic(predicted, rated)
    return float("nan") if curve is None else plcc(curve(np.asarray(predicted, float)), rated)


def fit_logistic(predicted: ArrayLike, rated: ArrayLike) -> Callable[[Any], Any] | None:
    """The logistic of `plcc_logistic` as a function of predictions; None where that is nan."""
    x, y = np.asarray(predicted, float), np.asarray(rated, float)
    if len(x) < 5 or not np.ptp(x) > 0 or not np.ptp(y) > 0 or not np.isfinite(x).all():
        return None
    start = (y.max(), y.min(), x.mean(), x.std() / 4)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optimize.OptimizeWarning)
            warnings.simplefilter("ignore", RuntimeWarning)  # overflow on the way to a fit
            best, _ = optimize.curve_fit(_logistic, x, y, start, maxfev=20_000)
    except RuntimeError:
        return None
    return lambda new: _logistic(new, *best)


def krcc(predicted: ArrayLike, rated: ArrayLike) -> float:
    """Kendall's rank correlation (KRCC, tau-b), in [-1, 1]; nan where either side is constant.

    Examples:
        >>> round(krcc([0.2, 0.9, 0.5], [1.0, 4.0, 4.5]), 3)
        0.333
    """
    return _quiet(stats.kendalltau, predicted, rated)


def rmse(predicted: ArrayLike, rated: ArrayLike) -> float:
    """Root mean squared error, in the unit of the inputs.

    Examples:
        >>> round(rmse([0.2, 0.5, 0.9], [0.3, 0.4, 0.9]), 4)
        0.0816
    """
    return float(np.sqrt(np.mean((np.asarray(predicted, float) - np.asarray(rated, float)) ** 2)))


def selection_score(metrics: Mapping[str, float | None]) -> float:
    """SRCC + PLCC − RMSE of a `report`: the criterion by which checkpoints and settings are selected.

    An undefined correlation, that of a constant prediction, counts as -1.
    """
    rank, linear, error = (metrics[name] for name in ("srcc", "plcc", "rmse"))
    return (-1.0 if rank is None else rank) + (-1.0 if linear is None else linear) - (error or 0.0)


def report(predicted: ArrayLike, rated: ArrayLike) -> dict[str, float | None]:
    """SRCC, PLCC, PLCC after a logistic fit, KRCC and RMSE by name; None where one is undefined: JSON has no nan."""
    values = {metric.__name__: metric(predicted, rated) for metric in (srcc, plcc, plcc_logistic, krcc, rmse)}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def bootstrap_interval(
    metric: Callable[[Any, Any], float], predicted: ArrayLike, rated: ArrayLike, groups: Any, *, seed: int = 0
) -> tuple[float, float] | None:
    """The 95 % interval of a metric, by the percentiles of 1,000 resamples of whole groups (N,).

    None where the metric is not defined for 19 of 20 resamples, as with very few pictures, and of one group.
    """
    x, y, names = np.asarray(predicted, float), np.asarray(rated, float), np.asarray(groups)
    rows = [np.flatnonzero(names == name) for name in dict.fromkeys(names.tolist())]
    if len(rows) < 2:
        return None
    noise = np.random.default_rng(seed)
    found = []
    for _ in range(1000):
        chosen = np.concatenate([rows[i] for i in noise.integers(len(rows), size=len(rows))])
        found.append(metric(x[chosen], y[chosen]))
    defined = np.array(found)[np.isfinite(found)]
    if len(defined) < 950:
        return None
    low, high = np.quantile(defined, (0.025, 0.975))
    return float(low), float(high)


def paired_difference(values: ArrayLike, reference: ArrayLike) -> dict[str, Any]:
    """How a metric of one method differs from that of a reference over the same draws of shots, (N,) each.

    `draws` is N, `difference` the mean of values − reference, `interval` its 95 % interval by the percentiles of
    10,000 resamples of the draws (None for one draw), and `wins` the number of draws in which the method is ahead. The
    interval covers other draws on the same test pictures, not other test pictures.

    Examples:
        >>> found = paired_difference([0.62, 0.66, 0.71], [0.60, 0.61, 0.70])
        >>> round(found["difference"], 4), found["wins"], found["draws"]
        (0.0267, 3, 3)
    """
    ahead = np.asarray(values, float) - np.asarray(reference, float)
    interval = None
    if len(ahead) > 1:
        resamples = stats.bootstrap((ahead,), np.mean, method="percentile", n_resamples=10_000, rng=0)
        interval = tuple(map(float, resamples.confidence_interval))
    return {
        "draws": len(ahead),
        "difference": float(ahead.mean()),
        "interval": interval,
        "wins": int((ahead > 0).sum()),
    }


def _logistic(x: Any, high: float, low: float, middle: float, width: float) -> Any:
    return low + (high - low) * special.expit((x - middle) / max(abs(width), 1e-12))


def _quiet(correlation: Callable[..., Any], predicted: ArrayLike, rated: ArrayLike) -> float:
    if len(np.asarray(predicted)) < 2:
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        return float(correlation(predicted, rated).statistic)
