"""`fsiqa bench growth`: how the time of the embedded model grows with shots, steps, image size, batch and cores."""

import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from ..config import Config, ViewSpec, load_config
from ..data.loading import Loader
from ..images import write_png
from ..model import checkpoint
from ..model.quality import QualityModel
from ..precision import has_bf16
from ..predictor import ModelPredictor
from ..progress import quiet, track
from ..recipes.figures import new_figure, save_figure
from ..recipes.fitting import fit
from ..score import Scorer
from ..types import Features, Record, Scale
from .bench_jobs import scoring, write_jpeg
from .bench_speed import Operations, peak_rate, seconds_of

SHOTS = (10, 50, 100, 200, 400, 1000)
STEPS = (5, 10, 20, 40)
MEGAPIXELS = (0.2, 2, 12, 48)
BATCHES = (1, 2, 4, 8, 16, 32)
MOST_SHOTS = 20  # pictures that adaptation by gradients learns from here
Point = tuple[float, Callable[[], Any], float]  # where, what is timed, and the seconds that no program can undercut


def bench_growth(*, repeats: int = 3, figure: str | Path | None = None) -> dict[str, Any]:
    """Time each job of the embedded model at several sizes, on the CPU; the median of `repeats`.

    Returns `threads`, `peak` (GFLOP/s of a float32 matrix product) and `panels` {title: rows {at, seconds, floor}}:
    `floor` are the seconds of its matrix products, convolutions and attention at the peak of the type that it computes
    in; 0 where they are not counted. Draws `figure`.
    """
    peak, cores = peak_rate(torch.float32, "cpu"), os.cpu_count() or 1
    trained = torch.bfloat16 if has_bf16(torch.device("cpu")) else torch.float32
    settings = load_config("grmp")
    model = checkpoint.build(settings)
    panels: dict[str, list[dict[str, float]]] = {}
    with TemporaryDirectory() as folder, track("measuring", 5) as log:
        for title, points in (
            ("a Gaussian process learns: s over shots", _by_shots()),
            ("adaptation with QGR: s over steps", _by_steps(Path(folder), peak_rate(trained, "cpu"))),
            ("a JPEG file is scored: s over megapixels", _by_size(model, Path(folder), peak)),
            ("views are scored: s over the batch", _by_batch(model, peak)),
            ("16 views are scored: s over threads", _by_threads(model, cores)),
        ):
            panels[title] = []
            for at, step, floor in points:
                seconds = statistics.median(seconds_of(step, "cpu") for _ in range(repeats))
                panels[title].append({"at": at, "seconds": round(seconds, 4), "floor": round(floor, 4)})
            log({})
    result = {"threads": torch.get_num_threads(), "peak": round(peak, 1), "panels": panels}
    if figure is not None:
        _draw(result, figure)
    return result


def _by_shots() -> Iterator[Point]:
    """Closed forms on features that are known; no floor is drawn: their decompositions are not counted."""
    model = checkpoint.build(load_config("gp"))
    noise = torch.Generator().manual_seed(0)
    for count in SHOTS:
        pooled = torch.randn(count, 5, model.clip.pooled_width, generator=noise)
        features, quality = Features(model.clip.visual.output_dim, {"": pooled}), torch.rand(count, generator=noise)
        yield count, partial(model.head.fit, features, quality), 0.0


def _by_steps(folder: Path, peak: float) -> Iterator[Point]:
    settings = load_config("grmp")
    assert settings.adapt is not None
    records = [Record(folder / f"{i}.png", i / MOST_SHOTS, group=str(i)) for i in range(MOST_SHOTS)]
    for i, record in enumerate(records):
        write_png(record.path, np.random.default_rng(i).integers(0, 256, (3, 384, 512), dtype=np.uint8), {})
    for steps in STEPS:
        some = settings.model_copy(update={"adapt": settings.adapt.of_steps(steps)})
        learn = partial(_learn, some, records)
        yield steps, learn, _floor(learn, peak)


def _by_size(model: QualityModel, folder: Path, peak: float) -> Iterator[Point]:
    views = load_config("grmp").views
    for megapixels in MEGAPIXELS:
        path = folder / f"{megapixels}.jpg"
        height = round((megapixels * 0.75e6) ** 0.5)
        write_jpeg(path, height, round(height / 0.75))
        score = partial(_score, model, views, path)
        yield megapixels, score, _floor(score, peak)


def _by_batch(model: QualityModel, peak: float) -> Iterator[Point]:
    for count in BATCHES:
        step = _scoring(model, count)
        yield count, step, _floor(step, peak)


def _by_threads(model: QualityModel, cores: int) -> Iterator[Point]:
    step = _scoring(model, 16)
    for threads in range(1, cores + 1):
        with _threads(threads):
            yield threads, step, _floor(step, peak_rate(torch.float32, "cpu"))


def _learn(settings: Config, records: Sequence[Record]) -> None:
    with quiet():
        fit(checkpoint.build(settings), Loader(settings.views, Scale(0, 1)), records, settings, seed=0)


def _score(model: QualityModel, views: ViewSpec, path: Path) -> None:
    Scorer(ModelPredictor(model), views).score(path)  # with a cache of its own, which is empty


def _scoring(model: QualityModel, count: int) -> Callable[[], Any]:
    return scoring(model, torch.randint(256, (count, 3, 224, 224), dtype=torch.uint8))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _floor(step: Callable[[], Any], peak: float) -> float:
    """The seconds that its operations take at the peak."""
    with Operations() as counted:
        step()
    return counted.total / peak / 1e9


def _draw(result: dict[str, Any], path: str | Path) -> None:
    figure = new_figure((11, 6.5))
    *axes, empty = figure.subplots(2, 3).flat
    empty.set_axis_off()
    for (title, rows), axis in zip(result["panels"].items(), axes, strict=True):
        at, seconds, floor = ([row[name] for row in rows] for name in ("at", "seconds", "floor"))
        axis.plot(at, seconds, "o-", label="measured")
        if any(floor):
            axis.plot(at, floor, "--", color="gray", label="at the machine's peak")
        axis.set(title=title, ylim=(0, None), xlim=(0, None))
        axis.title.set_fontsize(10)
        axis.legend()
    figure.suptitle(f"{result['threads']} threads; a float32 matrix product runs at {result['peak']:.0f} GFLOP/s")
    save_figure(figure, path)
