"""Synthetic records -> episodes, one distortion each."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch

from ..errors import InputError
from ..types import Episode, Record
from .loading import Loader


def sample_episodes(
    records: Sequence[Record], loader: Loader, *, count: int, support: int, query: int, noise: torch.Generator
) -> Iterator[Episode]:
    """`count` episodes of distinct distortions (all of them where there are fewer), drawn with `noise`.

    Support and query share no photograph: a fifth of the photographs, at least one, gives the query. InputError
    where a distortion has fewer than two photographs.
    """
    tasks: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        tasks[record.distortion or ""][record.group].append(record)
    for name, groups in tasks.items():
        if len(groups) < 2:
            raise InputError(f"distortion '{name}' has one photograph only; an episode needs two or more")
    names = list(tasks)
    for i in torch.randperm(len(names), generator=noise)[:count].tolist():
        photographs = list(tasks[names[i]].values())
        order = [photographs[j] for j in torch.randperm(len(photographs), generator=noise).tolist()]
        cut = max(1, len(order) // 5)
        yield Episode(
            names[i],
            support=loader.random_batch(_draw(order[cut:], support, noise), noise),
            query=loader.random_batch(_draw(order[:cut], query, noise), noise),
        )


def _draw(photographs: Sequence[Sequence[Record]], size: int, noise: torch.Generator) -> list[Record]:
    """`size` records without repetition as far as they go, then again from the start."""
    candidates = [record for photograph in photographs for record in photograph]
    order = torch.randperm(len(candidates), generator=noise).tolist()
    return [candidates[order[i % len(order)]] for i in range(size)]
