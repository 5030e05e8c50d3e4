"""Synthetic records -> meta-training tasks of one distortion or one criterion each -> episodes."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F

from ..config import EpisodeSpec, SyntheticTask
from ..errors import InputError
from ..images import read_image, to_float
from ..rng import generator
from ..types import Episode, Record
from .criteria import draw_criterion
from .loading import Loader
from .synthetic import KADID_SCALE

THUMBNAIL = 8  # pixels a side


@dataclass(frozen=True)
class MetaTask:
    """A task of meta-training, of one distortion (or compound) or one criterion: its records, grouped by photograph."""

    name: str
    photographs: list[list[Record]]


def meta_tasks(records: Sequence[Record], task: SyntheticTask, *, seed: int) -> list[MetaTask]:
    """The meta-training tasks of a source's records: one a criterion, or one a distortion, as they first appear.

    `seed` draws the criteria and the noise of `task.label_noise`. InputError where a task has fewer than two
    photographs.
    """
    noise = generator(seed, "label noise")
    found: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for name, record in _by_task(records, task, seed):
        if task.label_noise:
            rating = record.rating + task.label_noise * float(torch.randn((), generator=noise))
            record = replace(record, rating=min(max(rating, KADID_SCALE.worst), KADID_SCALE.best))
        found[name][record.group].append(record)
    for name, groups in found.items():
        if len(groups) < 2:
            fewer = "lower task.contents, or " if task.contents > 1 else ""
            raise InputError(f"task '{name}' has one photograph only; an episode needs two or more: {fewer}add some")
    return [MetaTask(name, list(groups.values())) for name, groups in found.items()]


def _by_task(records: Sequence[Record], task: SyntheticTask, seed: int) -> Iterator[tuple[str, Record]]:
    """Each record of each task, with the task's name."""
    group_of = group_by_content([record.path for record in records], task.contents)
    for number in range(task.criteria):
        criterion = draw_criterion(number, task.contents, seed=seed)
        for record in records:
            yield f"criterion {number + 1}", criterion.rate(record, group_of[record.path])
    for record in records if not task.criteria else ():
        content = f" {group_of[record.path] + 1}" if task.contents > 1 else ""
        yield f"{record.distortion}{content}", record


def group_by_content(paths: Sequence[Path], count: int) -> dict[Path, int]:
    """The index of each photograph's group, of `count` groups of equal size and similar content.

    Photographs are sorted by the first principal component of their thumbnails, which separates light from dark ones,
    and cut into groups.
    """
    each = list(dict.fromkeys(paths))
    if count == 1:
        return dict.fromkeys(each, 0)
    images = (to_float(read_image(path))[None] for path in each)
    thumbnails = torch.cat([F.interpolate(image, (THUMBNAIL, THUMBNAIL), mode="area").flatten(1) for image in images])
    axis = torch.linalg.svd(thumbnails - thumbnails.mean(dim=0), full_matrices=False).Vh[0]
    order = (thumbnails @ axis).argsort(stable=True).tolist()
    return {each[i]: rank * count // len(each) for rank, i in enumerate(order)}


def sample_episodes(
    tasks: Sequence[MetaTask], loader: Loader, spec: EpisodeSpec, *, noise: torch.Generator
) -> Iterator[Episode]:
    """Episodes of `spec.tasks_per_step` distinct tasks (all tasks where there are fewer), drawn with `noise`.

    Support and query share no photograph: the query comes from a fifth of the photographs, at least one.
    """
    for i in torch.randperm(len(tasks), generator=noise)[: spec.tasks_per_step].tolist():
        photographs = _with_levels(tasks[i].photographs, spec.levels, noise)
        order = [photographs[j] for j in torch.randperm(len(photographs), generator=noise).tolist()]
        cut = max(1, len(order) // 5)
        yield Episode(
            tasks[i].name,
            support=loader.random_batch(_draw(order[cut:], spec.support, noise), noise),
            query=loader.random_batch(_draw(order[:cut], spec.query, noise), noise),
        )


def _with_levels(photographs: list[list[Record]], count: int | None, noise: torch.Generator) -> list[list[Record]]:
    """The records at `count` randomly chosen levels; all where `count` is None."""
    if count is None:
        return photographs
    levels = sorted({record.level or 0.0 for records in photographs for record in records})
    chosen = {levels[i] for i in torch.randperm(len(levels), generator=noise)[:count].tolist()}
    return [[record for record in records if (record.level or 0.0) in chosen] for records in photographs]


def _draw(photographs: Sequence[Sequence[Record]], size: int, noise: torch.Generator) -> list[Record]:
    """`size` records in random order; they repeat only where there are fewer."""
    candidates = [record for photograph in photographs for record in photograph]
    order = torch.randperm(len(candidates), generator=noise).tolist()
    return [candidates[order[i % len(order)]] for i in range(size)]
