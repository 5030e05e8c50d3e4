"""What more ratings would bring: the learning curve inside the ratings that there are."""

import math
import statistics
from collections.abc import Mapping
from typing import Any

from .. import metrics
from ..data.splits import draw_shots, folds_by_group
from ..progress import quiet, track
from ..types import Shots
from .common import evaluate_on
from .draws import FOLDS, Draw
from .fitting import fit
from .trial import Memory, Method, encoded, loader_of

MORE = 20  # ratings that are added
PARTS = (0.25, 0.5, 1.0)  # of the ratings outside of a fold
FEWEST, MOST = 20, 500  # ratings: fewer tell nothing, and twenty are few beside more
REPETITIONS = 4  # of five folds; two from 200 ratings on


def learning_curve(method: Method, draw: Draw, memory: Memory) -> dict[str, Any] | None:
    """{"shots", "srcc"}: SRCC of out-of-fold predictions after learning from a part of the shots of a draw; and what
    `more` ratings beside the n `ratings` that there are would bring, the `gain`, by the law

        SRCC(m) = s − c / m,   c ≥ 0

    through the last two parts. None for a method that is not fitted in closed form on frozen features, and where there
    are too few or too many shots, or groups.
    """
    model, shots = method.build(draw.seed), draw.shots
    quick = method.settings.adapt is None and method.settings.learns and method.has_frozen_features(model)
    if not quick or not FEWEST <= len(shots) <= MOST or len({record.group for record in shots}) < FOLDS:
        return None
    pictures = encoded(model, loader_of(method, draw, memory), shots, memory.features)
    repetitions = REPETITIONS if len(shots) < 200 else REPETITIONS // 2
    found: dict[float, list[float]] = {part: [] for part in PARTS}
    with track("learning from parts", repetitions * len(PARTS)) as log:
        for repetition in range(repetitions):
            seed = draw.seed + repetition
            folds = folds_by_group(shots, FOLDS, seed=seed)
            for part in PARTS:
                predicted, rated = [], []
                for pool, fold in folds:
                    with quiet():
                        some = draw_shots(pool, Shots.parse(_of(part, len(pool))), seed=seed)
                        fit(model, pictures, some, method.settings, seed=draw.seed)
                        report = evaluate_on(model, pictures, fold)
                    predicted += report.predicted
                    rated += report.rated
                found[part].append(metrics.srcc(predicted, rated))
                log({})
    outside = round(len(shots) * (1 - 1 / FOLDS))
    counts, srcc = [_of(part, outside) for part in PARTS], [statistics.fmean(each) for each in found.values()]
    if not all(map(math.isfinite, srcc)):
        return None
    fall = (srcc[-1] - srcc[-2]) / (1 / counts[-2] - 1 / counts[-1])  # c
    gain = max(0.0, fall * (1 / len(shots) - 1 / (len(shots) + MORE)))
    return {"ratings": len(shots), "shots": counts, "srcc": srcc, "more": MORE, "gain": gain}


def expected(found: Mapping[str, Any]) -> tuple[list[int], list[float]]:
    """(ratings, SRCC) by the law of `learning_curve`: of the largest part, all ratings, and more of them."""
    largest, ratings, more = found["shots"][-1], found["ratings"], found["more"]
    fall = found["gain"] / (1 / ratings - 1 / (ratings + more))
    counts = [largest, ratings, ratings + more]
    return counts, [found["srcc"][-1] + fall * (1 / largest - 1 / count) for count in counts]


def _of(part: float, count: int) -> int:
    return max(2, round(part * count))
