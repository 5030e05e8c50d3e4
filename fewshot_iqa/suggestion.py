"""Which pictures to rate next: those whose ratings would tell most about all the others."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def next_to_rate(covariance: Floats, noise: float, count: int, rated: Iterable[int] = ()) -> tuple[list[int], Floats]:
    """(the `count` pictures to rate next, best first; the deviation (N,) of each when they were chosen from).

    `covariance` (N, N) is the prior one of the quality of N pictures, `noise` the variance of a rating. In turn each
    choice is the picture whose rating, whatever it will be, most reduces the mean variance of all (Cohn, 1996; Seo et
    al., 2000): with C the covariance given the ratings of those rated and chosen so far,

        argmax_j  Σ_i C_ij² / (C_jj + noise)

    so that odd pictures, which tell little about others, come late. All of the pictures where there are fewer.

    Examples:
        Two groups of alike pictures and an odd one; one of each group, the larger first:

        >>> import numpy as np
        >>> group = np.array([0, 0, 0, 1, 1, 2])
        >>> next_to_rate((group[:, None] == group).astype(float), 0.1, 3)[0]
        [0, 3, 5]
    """
    left = np.array(covariance, float)
    waiting = np.ones(len(left), bool)
    for row in rated:
        _condition(left, row, noise)
        waiting[row] = False
    deviation = np.sqrt(left.diagonal().clip(min=0))
    chosen: list[int] = []
    for _ in range(min(count, int(waiting.sum()))):
        gain = np.einsum("ij,ij->j", left, left) / (left.diagonal() + noise)
        row = int(np.where(waiting, gain, -np.inf).argmax())
        _condition(left, row, noise)
        waiting[row] = False
        chosen.append(row)
    return chosen, deviation


def _condition(covariance: Floats, row: int, noise: float) -> None:
    """The covariance after a rating of picture `row`, in place."""
    shared = covariance[row] / np.sqrt(covariance[row, row] + noise)
    covariance -= np.outer(shared, shared)
