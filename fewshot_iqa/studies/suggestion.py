"""Is a suggested choice of pictures to rate better than a random one?"""

from collections.abc import Sequence
from typing import Any

from .. import metrics
from ..errors import InputError
from ..progress import track
from ..recipes.suggesting import order_to_rate
from .closed_forms import closed_form


def suggestion(
    config: str = "gp_prompts",
    *,
    task: str | None = None,
    shots: Sequence[int] = (10, 20, 50, 100, 200),
    seeds: int = 40,
    **options: Any,
) -> dict[str, Any]:
    """SRCC on the test pictures after learning from so many random or suggested ratings.

    For each of `seeds`, both arms choose from the same half of the training pool: as `fsiqa suggest` does, which sees
    no rating, or at random. `options` are those of `closed_form`. In the result, `table` is {arm: {shots: mean SRCC}},
    and `over_random` {shots: the paired difference} of the suggested ones.
    """
    method = closed_form(config, task, seeds, **options)
    half = len(method.draws[0].shots) // 2
    if max(shots) > half:
        raise InputError(f"--shots {max(shots)}: half of the training pool holds {half} pictures")
    found: dict[str, dict[int, list[float]]] = {arm: {n: [] for n in shots} for arm in ("random", "suggested")}
    with track("draws", seeds) as log:
        for draw in method.draws:
            candidates = draw.shots[:half]
            features = method.pictures.of(candidates).matrix()
            orders = {"random": list(range(half)), "suggested": order_to_rate(features, max(shots))[0]}
            for arm, order in orders.items():
                for count in shots:
                    found[arm][count].append(method.srcc(draw, [candidates[i] for i in order[:count]]))
            log({})
    return {
        "task": method.task,
        "seeds": seeds,
        "table": {arm: {count: sum(each) / len(each) for count, each in of.items()} for arm, of in found.items()},
        "over_random": {
            count: metrics.paired_difference(found["suggested"][count], found["random"][count]) for count in shots
        },
    }
