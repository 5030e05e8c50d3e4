"""Is a suggested choice of pictures to rate better than a random one?"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .. import metrics
from ..errors import InputError
from ..features import FeatureCache
from ..model import checkpoint
from ..progress import quiet, track
from ..recipes.common import choose_device, evaluate_on
from ..recipes.draws import draw_trials
from ..recipes.fitting import fit
from ..recipes.sources import TableOptions, read_source, source_name
from ..recipes.starts import read_settings
from ..recipes.suggesting import order_to_rate
from ..recipes.trial import Memory, Method, encoded, loader_of
from ..types import Features, Shots

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Unpack

ARMS = ("random", "suggested")


def suggestion(
    *,
    config: str = "gp_prompts",
    task: str | None = None,
    shots: Sequence[int] = (10, 20, 50, 100, 200),
    seeds: int = 40,
    device: str | None = None,
    cache: "str | Path | None" = None,
    overrides: Iterable[str] = (),
    **table: "Unpack[TableOptions]",
) -> dict[str, Any]:
    """SRCC on the test pictures after learning from so many random or suggested ratings, by a closed form.

    For each of `seeds`, both arms choose from the same half of the training pool: as `fsiqa suggest` does, which sees
    no rating, or at random. In the result, `table` is {arm: {shots: mean SRCC}}, and `over_random` {shots: the paired
    difference} of the suggested ones.
    """
    settings, for_task = read_settings(config, None, None, overrides)
    rated, task = read_source(source_name(task, **table), for_task, **table), source_name(task, **table)
    method = Method(settings, checkpoint.default_start(settings), choose_device(device))
    model, memory = method.build(0), Memory(FeatureCache(cache))
    if settings.adapt is not None or not method.has_frozen_features(model):
        raise InputError(f"--config {config}: this experiment needs a closed form on frozen features")
    drawn = draw_trials(rated, Shots.parse("100%"), range(seeds))
    if max(shots) > len(drawn[0].shots) // 2:
        raise InputError(f"--shots {max(shots)}: half of the training pool holds {len(drawn[0].shots) // 2} pictures")
    every = list(dict.fromkeys(record for draw in drawn for record in draw.pictures))
    pictures = encoded(model, loader_of(method, drawn[0], memory), every, memory.features)
    found: dict[str, dict[int, list[float]]] = {arm: {count: [] for count in shots} for arm in ARMS}
    with track("draws", len(drawn)) as log:
        for draw in drawn:
            candidates = draw.shots[: len(draw.shots) // 2]
            features = Features.cat([pictures.features[record] for record in candidates]).matrix()
            orders = {"random": list(range(max(shots))), "suggested": order_to_rate(features, max(shots))[0]}
            for arm, order in orders.items():
                for count in shots:
                    with quiet():
                        fit(model, pictures, [candidates[i] for i in order[:count]], settings, seed=draw.seed)
                        report = evaluate_on(model, pictures, draw.test)
                    found[arm][count].append(report.metrics["srcc"] or 0.0)
            log({})
    return {
        "task": task,
        "seeds": seeds,
        "table": {arm: {count: sum(each) / len(each) for count, each in of.items()} for arm, of in found.items()},
        "over_random": {
            count: metrics.paired_difference(found["suggested"][count], found["random"][count]) for count in shots
        },
    }
