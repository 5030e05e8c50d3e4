"""The recipe of ratings summarize: votes of single raters -> mean opinion scores."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .. import votes as recovery
from ..data.votes import read_votes
from ..errors import InputError, InputWarning
from ..files import require_writable, write_csv
from ..votes import Opinions, Pairs, Votes

MODELS = ("mean", "bt500", "p913")


@dataclass(frozen=True)
class Summary:
    """Mean opinion scores, and what they are worth.

    `mos`: a row for each image, with the columns image, mos, std, count, low, high; low and high are the ends of the
    95 % confidence interval. `raters`: a row for each rater, with rater, votes, bias, inconsistency, outlying,
    srcc_others, srcc_self, std_self; None for comparisons. `ceiling`: {"srcc", "plcc"} that the true quality would have
    with these means; None where no image has two votes.
    """

    mos: pd.DataFrame
    raters: pd.DataFrame | None
    ceiling: dict[str, float] | None
    votes: int


def summarize_votes(
    votes: str | Path,
    *,
    model: str = "mean",
    out: str | Path | None = None,
    image_column: str | None = None,
    score_column: str | None = None,
    rater_column: str | None = None,
) -> Summary:
    """The mean opinion scores of a table of votes, also written to `out`, which `adapt(labels=)` reads.

    `model` is `mean`; `bt500`, the mean without the raters whom ITU-R BT.500 rejects; or `p913`, the model of ITU-T
    P.913 that takes off each rater's bias and weighs the consistent ones more. Comparisons of pairs are summarized by
    Bradley and Terry's model: `mos` is then the logarithm of an image's odds.

    InputError where the table cannot be read, or `model` is none of these.

    Examples:
        >>> summarize_votes("ratings.csv", out="mos.csv").ceiling  # doctest: +SKIP
        {'srcc': 0.93, 'plcc': 0.94}
    """
    if model not in MODELS:
        raise InputError(f"--model {model}: expected one of {', '.join(MODELS)}")
    if out is not None:
        require_writable(Path(out))
        if Path(out).resolve() == Path(votes).resolve():
            raise InputError(f"--out {out}: is the table of votes; name another file")
    columns = {"image_column": image_column, "score_column": score_column, "rater_column": rater_column}
    found = read_votes(Path(votes), **columns)
    summary = _of_pairs(found) if isinstance(found, Pairs) else _of_votes(found, model)
    write_csv(None if out is None else Path(out), summary.mos)
    return summary


def _of_votes(votes: Votes, model: str) -> Summary:
    outlying, opinions = recovery.outlying_raters(votes), recovery.mean_opinions(votes)
    bias, inconsistency = recovery.rater_deviations(votes, opinions.mos)
    used = votes.of_raters(~outlying) if model == "bt500" else votes
    if model == "bt500":
        opinions = recovery.mean_opinions(used)
    elif model == "p913":
        opinions, bias, inconsistency = recovery.subject_model(votes)
        _warn_collapse(votes, inconsistency)
    correlation, deviation = recovery.agreement_with_self(votes)
    raters = pd.DataFrame(
        {
            "rater": votes.raters,
            "votes": np.bincount(votes.rater, minlength=len(votes.raters)),
            "bias": bias,
            "inconsistency": inconsistency,
            "outlying": outlying,
            "srcc_others": recovery.agreement_with_others(votes),
            "srcc_self": correlation,
            "std_self": deviation,
        }
    )
    reached = recovery.ceiling(used, has_bias=model != "p913")
    return Summary(_table(used.images, opinions), raters, reached, len(votes))


def _warn_collapse(votes: Votes, inconsistency: recovery.Floats) -> None:
    """Warn where the model of P.913 follows one rater alone."""
    if len(votes.raters) > 1 and inconsistency.min() <= 0.05 * np.median(inconsistency):
        rater = votes.raters[int(inconsistency.argmin())]
        warnings.warn(
            f"--model p913: too few votes, its means follow {rater} alone; take --model mean",
            InputWarning,
            stacklevel=3,
        )


def _of_pairs(pairs: Pairs) -> Summary:
    strength, covariance = recovery.bradley_terry(pairs)
    count = np.bincount(pairs.first, minlength=len(strength)) + np.bincount(pairs.second, minlength=len(strength))
    unknown = np.full(len(strength), np.nan)
    deviation = np.sqrt(np.diag(covariance))
    opinions = Opinions(strength, unknown, count, deviation, recovery.Z95 * deviation)
    return Summary(_table(pairs.images, opinions), None, None, len(pairs.won))


def _table(images: Sequence[str], opinions: Opinions) -> pd.DataFrame:
    low, high = opinions.mos - opinions.margin, opinions.mos + opinions.margin
    columns = {"image": images, "mos": opinions.mos, "std": opinions.std, "count": opinions.count}
    return pd.DataFrame({**columns, "low": low, "high": high})
