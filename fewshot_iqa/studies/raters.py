"""More pictures rated once, or fewer pictures rated often? And what weighing them by their votes brings."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .. import metrics, rng
from ..errors import InputError
from ..progress import track
from ..types import Record
from .closed_forms import closed_form


def raters(
    config: str = "gp_prompts",
    *,
    task: str | None = None,
    votes: Sequence[int] = (50, 100, 200, 500, 1000),
    per_picture: Sequence[int] = (1, 3, 10),
    noise: float = 0.2,
    seeds: int = 40,
    **options: Any,
) -> dict[str, Any]:
    """SRCC on the test pictures after learning from so many votes, of one rater or several a picture.

    A vote is the rating of a picture plus normal noise of standard deviation `noise`, as a share of the rating scale.
    The ratings of the test pictures are those of the table. `options` are those of `closed_form`. In the result,
    `table` is {raters a picture: {votes: mean SRCC, None where the pool is too small}}, and `over_one` the paired
    differences from one rater a picture. `weights` is of pictures with the fewest and with the most raters by turns:
    {pictures: {"equal": mean SRCC where all ratings weigh the same, "by_votes", "difference"}}.
    """
    if noise < 0:
        raise InputError(f"--noise {noise:g}: a standard deviation is 0 or more")
    method = closed_form(config, task, seeds, **options)
    pool = len(method.draws[0].shots)
    cells = [(n, count) for n in per_picture for count in votes if 2 <= count // n <= pool]
    found: dict[tuple[int, int], list[float]] = {cell: [] for cell in cells}
    weighed: dict[int, dict[str, list[float]]] = {
        count: {"equal": [], "by_votes": []} for count in votes if 2 <= count <= pool and len(set(per_picture)) > 1
    }
    with track("trials", seeds * (len(cells) + 2 * len(weighed))) as log:
        for draw in method.draws:
            span = abs(draw.scale.best - draw.scale.worst)
            random = rng.generator(draw.seed, "votes")
            errors = noise * span * torch.randn(pool, max(per_picture), generator=random, dtype=torch.float64)
            for n, count in cells:
                shots, means = draw.shots[: count // n], errors[: count // n, :n].mean(dim=1).tolist()
                ratings = [shot.rating + error for shot, error in zip(shots, means, strict=True)]
                found[n, count].append(method.srcc(draw, shots, ratings))
                log({})
            for count, by in weighed.items():
                with_votes = _by_turns(draw.shots[:count], errors, (min(per_picture), max(per_picture)))
                means_only = [replace(shot, votes=None, rating_std=None) for shot in with_votes]
                for name, shots in (("equal", means_only), ("by_votes", with_votes)):
                    by[name].append(method.srcc(draw, shots))
                    log({})
    one = min(per_picture)
    return {
        "task": method.task,
        "seeds": seeds,
        "table": {
            n: {count: sum(found[n, count]) / seeds if (n, count) in found else None for count in votes}
            for n in per_picture
        },
        "over_one": {
            n: {
                count: metrics.paired_difference(found[n, count], found[one, count])
                for count in votes
                if (n, count) in found and (one, count) in found
            }
            for n in per_picture
            if n != one
        },
        "weights": {
            count: {name: sum(srcc) / seeds for name, srcc in by.items()}
            | {"difference": metrics.paired_difference(by["by_votes"], by["equal"])}
            for count, by in weighed.items()
        },
    }


def _by_turns(shots: Sequence[Record], errors: Tensor, counts: tuple[int, int]) -> list[Record]:
    """The shots with the means of as many votes as each of `counts` by turns, off by `errors` (R, votes), and what a
    table of votes tells of them."""
    found = []
    for i, shot in enumerate(shots):
        votes = shot.rating + errors[i, : counts[i % 2]]
        std = votes.std().item() if len(votes) > 1 else None
        found.append(replace(shot, rating=votes.mean().item(), rating_std=std, votes=len(votes)))
    return found
