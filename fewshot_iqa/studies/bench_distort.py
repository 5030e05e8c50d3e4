"""`fsiqa bench distort`: the speed of the distortions on this machine."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import load_config
from ..data.synthetic import wheel_photograph
from ..distortions import DISTORTIONS, LEVELS, TID2013, distort, distort_batch
from ..errors import InputError
from ..images import read_image, to_float
from ..losses import WeightedSum, gradients_by_name
from ..model import checkpoint
from ..progress import track
from ..recipes.common import choose_device
from ..types import Batch

KADID_SIZE = (384, 512)
CROP = 224
CELLS = [(row, level) for row in DISTORTIONS for level in LEVELS]
GPU_BATCH = 256
SUPPORT = 12  # pictures of the measured training step


def bench_distort(*, repeats: int = 5, device: str | None = None) -> dict[str, Any]:
    """Time every distortion, the 120 variants of one picture, and distortion against training. The result has:

    - `types`: {name: milliseconds} for one 512 x 384 picture on the CPU, the median over levels and repeats.
    - `variants`, `variants_seconds`: the number of variants of one picture, without `denoise`, and the time for all.
    - `feeding`: 224 x 224 crops distorted per second (all 125 pairs of type and level), crops per second of a training
      step of the embedded model, and the ratio; both use all threads, and are measured alternately.
    - `gpu`, if `device` is one: crops per second of the types with a torch form, in batches of 256.
    - `threads`: the number of CPU threads.

    InputError for a device that is neither a CPU nor a CUDA GPU.
    """
    device = choose_device(device)
    if not device.startswith(("cpu", "cuda")):
        raise InputError(f"--device {device}: cpu and cuda can be measured")
    photograph = to_float(read_image(wheel_photograph("astronaut")))
    picture, crop = _resized(photograph, KADID_SIZE), _resized(photograph, (CROP, CROP))
    types = {}
    rows = (*DISTORTIONS, *TID2013)
    with track("timing", len(rows)) as log:
        for row in rows:
            times = [_seconds(_one(picture, row.name, level)) for _ in range(repeats) for level in LEVELS]
            types[row.name] = round(1000 * statistics.median(times), 2)
            log({})
    # `denoise` takes as long as ten others.
    variants = [(row.name, level) for row, level in CELLS if row.name != "denoise"]
    result: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "types": types,
        "variants": len(variants),
        "variants_seconds": round(statistics.median(_seconds(_batch(picture, variants)) for _ in range(repeats)), 3),
        "feeding": _feeding(crop, repeats),
    }
    if device != "cpu":
        cells = [(row.name, level) for row, level in CELLS if row.torch_form]
        cells = (cells * (GPU_BATCH // len(cells) + 1))[:GPU_BATCH]
        on_device = _batch(crop.to(device), cells)

        def synchronized() -> None:
            on_device()
            torch.cuda.synchronize(device)

        synchronized()
        seconds = statistics.median(_seconds(synchronized) for _ in range(repeats))
        result["gpu"] = {"device": torch.cuda.get_device_name(device), "images_per_second": round(GPU_BATCH / seconds)}
    return result


def _feeding(crop: Tensor, repeats: int) -> dict[str, float]:
    settings = load_config("grmp")
    assert settings.meta is not None
    model = checkpoint.build(settings)
    params, loss = model.train_only(settings.meta.trainable), WeightedSum(settings.loss)
    size = SUPPORT
    batch = Batch(crop.expand(size, -1, -1, -1), {"quality": torch.linspace(0, 1, size)})
    cells = [(row.name, level) for row, level in CELLS]

    def train() -> None:
        gradients_by_name(loss(model(batch.inputs, branches=loss.branches), batch.targets), params)

    distorted, trained = [], []
    train()
    for _ in range(repeats):
        distorted.append(len(cells) / _seconds(_batch(crop, cells)))
        trained.append(size / _seconds(train))
    rates = statistics.median(distorted), statistics.median(trained)
    ratio = statistics.median(d / t for d, t in zip(distorted, trained, strict=True))
    return {"distorted_per_second": round(rates[0]), "trained_per_second": round(rates[1], 1), "ratio": round(ratio, 1)}


def _one(image: Tensor, name: str, level: float) -> Callable[[], Tensor]:
    return lambda: distort(image, name, level, generator=torch.Generator().manual_seed(0))


def _batch(image: Tensor, cells: list[tuple[str, int]]) -> Callable[[], Tensor]:
    images = image.expand(len(cells), -1, -1, -1)
    names, levels = zip(*cells, strict=True)
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(cells))]
    return lambda: distort_batch(images, names, levels, generators=generators)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)
