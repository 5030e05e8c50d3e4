"""`fsiqa bench meta`: the time and memory of a step of meta-training."""

import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

import torch

from .. import meta, rng
from ..config import Config, load_config, with_overrides
from ..errors import InputError
from ..losses import WeightedSum
from ..memory import peak_memory_mb
from ..model import checkpoint
from ..model.clip import create_clip
from ..model.quality import QualityModel
from ..progress import track
from ..recipes.common import choose_device
from ..types import Batch, Episode

VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("bilevel", {"algorithm": "bilevel", "recompute": False}),
    ("fomaml", {"algorithm": "fomaml", "recompute": False}),
    ("maml", {"algorithm": "maml", "recompute": False}),
    ("maml, recompute", {"algorithm": "maml", "recompute": True}),
)


def bench_meta(
    config: str = "grmp",
    *,
    clip: str | None = None,
    inner_steps: Sequence[float] = (1, 3, 5),
    support: int = 4,
    query: int = 4,
    repeats: int = 3,
    device: str | None = None,
) -> list[dict[str, Any]]:
    """Time and memory of one task of meta-training, for each algorithm and number of inner steps.

    Returns rows {algorithm, inner_steps, seconds, gigabytes}; `gigabytes` is the peak memory beyond the model's own.
    `seconds` and `gigabytes` are None where memory did not suffice. Each row is measured in a process of its own, on
    `support` + `query` random pictures. `clip` may be the name of an architecture without weights: random ones cost the
    same.
    """
    settings = load_config(config)
    if settings.meta is None:
        raise InputError(f"--config {config}: this method has no meta stage")
    device = choose_device(device)
    cells = [
        (name, with_overrides(settings.meta, **keys, inner_steps=n)) for n in inner_steps for name, keys in VARIANTS
    ]
    rows = []
    with track("measuring", len(cells)) as log:
        for name, spec in cells:
            steps, changed = spec.inner_steps, settings.model_copy(update={"meta": spec})
            # a new process each, so that no other measurement's memory is counted
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
                cost: tuple[float | None, float | None]
                try:
                    cost = fresh.submit(_cost, changed, clip, support, query, repeats, device).result()
                except (BrokenProcessPool, torch.OutOfMemoryError):
                    cost = None, None
            rows.append({"algorithm": name, "inner_steps": steps, "seconds": cost[0], "gigabytes": cost[1]})
            log({})
    return rows


def _cost(
    settings: Config, clip: str | None, support: int, query: int, repeats: int, device: str
) -> tuple[float, float | None]:
    model = _model(settings, clip).to(device)
    assert settings.meta is not None
    params, loss = model.train_only(settings.meta.trainable), WeightedSum(settings.loss)
    episode = Episode("random", *(_batch(n, settings.views.crop).to(device) for n in (support, query)))
    on_gpu = device.startswith("cuda")
    with torch.no_grad():
        model(episode.support.inputs[:1])  # libraries load once, which is no cost of the task
    before = torch.cuda.memory_allocated(device) / 2**20 if on_gpu else peak_memory_mb(device)
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        meta.meta_gradient(model, params, [episode], loss, settings.meta)
        if on_gpu:
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    peak = peak_memory_mb(device)
    return statistics.median(times), None if peak is None or before is None else (peak - before) / 1024


def _model(settings: Config, clip: str | None) -> QualityModel:
    if clip is None or ":" in clip or clip == "tiny":
        return checkpoint.build(settings.model_copy(update={"clip": clip or settings.clip}))
    with rng.scoped(0, "stand-in"):
        return QualityModel(settings.model, settings.head, create_clip(clip).requires_grad_(False)).eval()


def _batch(count: int, crop: int) -> Batch:
    noise = rng.generator(0, "bench", count)
    return Batch(torch.rand(count, 3, crop, crop, generator=noise), {"quality": torch.rand(count, generator=noise)})
