"""Votes of single raters -> mean opinion scores (MOS), with how far raters agree: the most that a model can reach.

Letters: J images, I raters, N votes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from .metrics import plcc, srcc

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

Z95 = 1.95996  # standard deviations on either side of the mean that hold 95 % of a normal distribution
DRAWS = 200  # of ratings, by which `ceiling` is estimated
ROUNDING = 1e-9  # one of five votes that differs lies at two deviations exactly, whatever the order of the sum
LEAST = 5  # images that a correlation is computed of


@dataclass(frozen=True)
class Votes:
    """N votes: `score` (N,) of the image `images[image[n]]` by the rater `raters[rater[n]]`, in the order in which they
    were given. A rater may rate an image several times, and need not rate all."""

    images: Sequence[str]
    raters: Sequence[str]
    image: Indices
    rater: Indices
    score: Floats

    @classmethod
    def of(cls, images: Sequence[str], raters: Sequence[str], scores: ArrayLike) -> Votes:
        """Of three columns of equal length; names are numbered in the order of their first votes."""
        (shown, image), (people, rater) = _numbered(images), _numbered(raters)
        return cls(shown, people, image, rater, np.asarray(scores, float))

    def __len__(self) -> int:
        return len(self.score)

    def of_raters(self, chosen: NDArray[np.bool_]) -> Votes:
        """Those of some raters, a mask (I,); images without a vote go."""
        kept = np.flatnonzero(chosen[self.rater])
        names = [self.images[i] for i in self.image[kept]], [self.raters[i] for i in self.rater[kept]]
        return Votes.of(*names, self.score[kept])


@dataclass(frozen=True)
class Opinions:
    """What is known of each image: `mos` (J,), the deviation `std` (J,) of its votes, nan of one vote, their `count`
    (J,), the standard deviation `mos_std` (J,) of the mean, nan where it is not known, and half the width `margin` (J,)
    of its 95 % confidence interval."""

    mos: Floats
    std: Floats
    count: NDArray[np.int64]
    mos_std: Floats
    margin: Floats


class Subjects(NamedTuple):
    """The model of `subject_model`: `opinions`, and of each rater the `bias` (I,) and the `inconsistency` (I,)."""

    opinions: Opinions
    bias: Floats
    inconsistency: Floats


def mean_opinions(votes: Votes) -> Opinions:
    """The plain mean of each image's votes, with their sample deviation, and intervals by Student's t.

    Examples:
        >>> found = mean_opinions(Votes.of(["a", "a", "b"], ["ann", "bob", "ann"], [4, 5, 2]))
        >>> found.mos.tolist(), found.count.tolist()
        ([4.5, 2.0], [2, 1])
    """
    count = np.bincount(votes.image, minlength=len(votes.images))
    mos = _mean(votes.score, votes.image, len(votes.images))
    squares = np.bincount(votes.image, (votes.score - mos[votes.image]) ** 2, len(votes.images))
    with np.errstate(invalid="ignore", divide="ignore"):
        std = np.sqrt(squares / (count - 1))
    std[count < 2] = np.nan
    mos_std = std / np.sqrt(count)
    return Opinions(mos, std, count, mos_std, stats.t.ppf(0.975, np.maximum(count - 1, 1)) * mos_std)


def outlying_raters(votes: Votes) -> NDArray[np.bool_]:
    """(I,): the raters whom the screening of ITU-R BT.500-15 (annex 1, 2.3.1) rejects.

    A vote is far off where it lies two standard deviations from the mean of its image, or √20 where the kurtosis of the
    image's votes is not that of a normal distribution (2 to 4). A rater goes where more than 5 % of the votes are far
    off, and about as many above as below: |above − below| / (above + below) < 0.3. Nobody goes where all would.
    """
    above, below = np.zeros(len(votes.raters)), np.zeros(len(votes.raters))
    for rows in _rows_by(votes.image, len(votes.images)):
        scores = votes.score[rows]
        mean, std = scores.mean(), scores.std()
        if std > 0:
            is_normal = 2 - ROUNDING <= stats.kurtosis(scores, fisher=False) <= 4 + ROUNDING
            far, deviation = (2 if is_normal else np.sqrt(20)) - ROUNDING, (scores - mean) / std
            np.add.at(above, votes.rater[rows], deviation >= far)
            np.add.at(below, votes.rater[rows], deviation <= -far)
    given = np.bincount(votes.rater, minlength=len(votes.raters))
    off = above + below
    rejected = (off > 0.05 * given) & (np.abs(above - below) < 0.3 * off)
    return np.zeros_like(rejected) if rejected.all() else rejected


def rater_deviations(votes: Votes, mos: Floats) -> tuple[Floats, Floats]:
    """Of each rater the bias, the mean of score − mos_j, and the inconsistency, the deviation around it: (I,), (I,)."""
    residual = votes.score - mos[votes.image]
    bias = _mean(residual, votes.rater, len(votes.raters))
    return bias, np.sqrt(_mean((residual - bias[votes.rater]) ** 2, votes.rater, len(votes.raters)))


def subject_model(votes: Votes) -> Subjects:
    """MOS with regard to the bias b_i and the inconsistency v_i of each rater (ITU-T P.913, 12.6; Li et al., 2020):

        score = mos_j + b_i + v_i ε,   ε ~ N(0, 1)

    by alternating projections; the biases have the mean 0. The likelihood has no bound: with few raters or few images
    the model may follow one rater alone, whose inconsistency goes to 0.
    """
    images = len(votes.images)
    plain = mean_opinions(votes)
    mos = plain.mos
    bias, inconsistency = rater_deviations(votes, mos)
    for _ in range(1000):
        before = mos
        weight = (1 / (inconsistency**2 + 1e-8))[votes.rater]
        total = np.bincount(votes.image, weight, images)
        mos = np.bincount(votes.image, weight * (votes.score - bias[votes.rater]), images) / total
        bias, inconsistency = rater_deviations(votes, mos)
        if np.linalg.norm(before - mos) < 1e-8:
            break
    mos_std = 1 / np.sqrt(total)
    opinions = Opinions(mos + bias.mean(), plain.std, plain.count, mos_std, Z95 * mos_std)
    return Subjects(opinions, bias - bias.mean(), inconsistency)


def agreement_with_others(votes: Votes) -> Floats:
    """(I,): SRCC of each rater's mean scores with the mean of all others, on the images that both rated; nan where
    these are fewer than five."""
    found = np.full(len(votes.raters), np.nan)
    for i in range(len(votes.raters)):
        own = votes.rater == i
        (mine, at), (theirs, others) = (_means_of(votes, rows) for rows in (own, ~own))
        shared, first, second = np.intersect1d(at, others, return_indices=True)
        if len(shared) >= LEAST:
            found[i] = srcc(mine[first], theirs[second])
    return found


def agreement_with_self(votes: Votes) -> tuple[Floats, Floats]:
    """(I,) and (I,): SRCC of each rater's first scores with the second ones of the same images, nan of fewer than five;
    and the standard deviation of one such score, nan where nothing was rated twice."""
    correlation, std = np.full(len(votes.raters), np.nan), np.full(len(votes.raters), np.nan)
    for i in range(len(votes.raters)):
        (own,) = np.nonzero(votes.rater == i)
        rows = [own[votes.image[own] == j] for j in np.unique(votes.image[own])]
        twice = np.array([each[:2] for each in rows if len(each) > 1], int).reshape(-1, 2)
        if len(twice):
            first, second = votes.score[twice].T
            std[i] = np.sqrt(np.mean((first - second) ** 2) / 2)
            correlation[i] = srcc(first, second) if len(twice) >= LEAST else np.nan
    return correlation, std


def ceiling(votes: Votes, *, has_bias: bool = True, seed: int = 0) -> dict[str, float] | None:
    """{"srcc", "plcc"} that the true quality itself would have with the means of these votes, as these have noise.

    Scores are taken as mos_j + b_i + noise, by least squares. The variance of the noise is that of what remains; what
    mos_j vary beyond it is the variance of the true quality. The means have the biases of those raters who rated an
    image (`has_bias`), which matter where not all rated all. None where fewer than five votes can tell the noise.
    """
    images, raters = len(votes.images), len(votes.raters)
    freedom = len(votes) - images - raters + 1
    if freedom < LEAST or images < LEAST:
        return None
    mos, bias = _mean(votes.score, votes.image, images), np.zeros(raters)
    for _ in range(100):
        bias = _mean(votes.score - mos[votes.image], votes.rater, raters)
        mos = _mean(votes.score - bias[votes.rater], votes.image, images)
    residual = votes.score - mos[votes.image] - bias[votes.rater]
    if not np.ptp(residual) > 1e-9:
        return None  # votes that never differ are copies
    noise = np.sqrt((residual**2).sum() / freedom / np.bincount(votes.image, minlength=images))
    shift = _mean(bias[votes.rater], votes.image, images) if has_bias else np.zeros(images)
    return _agreement_of_truth(mos, noise, shift, seed)


def ceiling_of_means(mos: Floats, std: Floats, count: Floats, *, seed: int = 0) -> dict[str, float] | None:
    """The same of a table of MOS (J,), of which the deviation (J,) and the number of the votes (J,) are known: all
    votes are taken to have the noise variance Σ (count − 1) std² / Σ (count − 1)."""
    freedom = (count - 1).sum()
    if freedom < LEAST or len(mos) < LEAST or not std.any():
        return None
    noise = np.sqrt(((count - 1) * std**2).sum() / freedom / count)
    return _agreement_of_truth(mos, noise, np.zeros(len(mos)), seed)


def _agreement_of_truth(mos: Floats, noise: Floats, shift: Floats, seed: int) -> dict[str, float]:
    """How far the true quality agrees with means that have this noise (J,) and these biases (J,)."""
    measured = mos.var(ddof=1)
    true = max(measured - (noise**2).mean(), 0.0)
    if not true > 0:
        return {"srcc": 0.0, "plcc": 0.0}
    quality = np.sqrt(true / measured) * (mos - mos.mean())
    draws = np.random.default_rng(seed).normal(quality + shift, noise, (DRAWS, len(mos)))
    found = {name: np.mean([of(quality, draw) for draw in draws]) for name, of in (("srcc", srcc), ("plcc", plcc))}
    return {name: float(value) for name, value in found.items()}


@dataclass(frozen=True)
class Pairs:
    """N comparisons: in the n-th the image `images[first[n]]` was preferred to `images[second[n]]` (`won[n]` 1), the
    other to it (0), or neither (0.5)."""

    images: Sequence[str]
    first: Indices
    second: Indices
    won: Floats

    @classmethod
    def of(cls, first: Sequence[str], second: Sequence[str], won: ArrayLike) -> Pairs:
        """Of three columns of equal length."""
        images, number = _numbered([*first, *second])
        return cls(images, number[: len(first)], number[len(first) :], np.asarray(won, float))


def bradley_terry(pairs: Pairs, alpha: float = 0.1) -> tuple[Floats, Floats]:
    """(θ (J,), covariance (J, J)) of the model of Bradley and Terry, P(j beats k) = 1 / (1 + exp(θ_k − θ_j)).

    θ maximises the posterior density with the prior N(0, 1/`alpha`) on each, without which an image that never lost
    would be infinitely good; a draw counts half for either side. The covariance is the inverse Hessian there (Laplace).

    Examples:
        >>> theta, _ = bradley_terry(Pairs.of(["a", "b", "a"], ["b", "c", "c"], [1, 1, 0.5]))
        >>> bool(theta[0] > theta[1] > theta[2])
        True
    """
    count, first, second, won = len(pairs.images), pairs.first, pairs.second, pairs.won

    def objective(theta: Floats) -> tuple[float, Floats]:
        lead = theta[first] - theta[second]
        loss = -(won * special.log_expit(lead) + (1 - won) * special.log_expit(-lead)).sum()
        slope = special.expit(lead) - won
        gradient = np.bincount(first, slope, count) - np.bincount(second, slope, count)
        return loss + alpha / 2 * theta @ theta, gradient + alpha * theta

    def hessian(theta: Floats) -> Floats:
        chance = special.expit(theta[first] - theta[second])
        curvature = chance * (1 - chance)
        matrix = alpha * np.eye(count)
        np.add.at(matrix, (first, second), -curvature)
        np.add.at(matrix, (second, first), -curvature)
        np.add.at(matrix, (first, first), curvature)
        np.add.at(matrix, (second, second), curvature)
        return matrix

    start = np.zeros(count)
    best = optimize.minimize(objective, start, jac=True, hess=hessian, method="trust-exact", options={"gtol": 1e-10}).x
    return best, np.linalg.inv(hessian(best)).astype(float)


def _numbered(names: Sequence[str]) -> tuple[list[str], Indices]:
    """The names in the order in which they first appear, and the number of each in it."""
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return list(number), np.array([number[name] for name in names], dtype=np.intp)


def _mean(values: Floats, by: Indices, count: int) -> Floats:
    return np.bincount(by, values, count) / np.bincount(by, minlength=count)


def _rows_by(by: Indices, count: int) -> list[Indices]:
    order = np.argsort(by, kind="stable")
    return np.split(order, np.cumsum(np.bincount(by, minlength=count))[:-1])


def _means_of(votes: Votes, rows: NDArray[np.bool_]) -> tuple[Floats, Indices]:
    """The mean score by some of the votes, and the images that they are of."""
    at, image = np.unique(votes.image[rows], return_inverse=True)
    return _mean(votes.score[rows], image, len(at)), at
