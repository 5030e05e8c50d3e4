"""`fsiqa bench`: the speed of adaptation, meta-training and scoring, against the machine's limit and two yardsticks."""

import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ..config import load_config
from ..errors import InputError
from ..memory import peak_memory_mb
from ..model.clip import create_clip
from ..precision import has_bf16
from ..progress import track
from ..recipes.common import choose_device
from .bench_jobs import JOBS, ON_EMBEDDED, YARDSTICKS, Case, Step

MODELS = {"embedded": ("grmp", "tiny", 16), "ViT-B/16": ("grmp_vitb16", "ViT-B-16-quickgelu", 8)}


def bench_speed(
    models: Sequence[str] = tuple(MODELS),
    jobs: Sequence[str] = (),
    *,
    repeats: int = 5,
    device: str | None = None,
) -> dict[str, Any]:
    """Time each of `jobs` (default: all) of each model in turn with its yardstick, in a process of its own.

    Returns `device`, `threads`, `peak` {type: GFLOP/s of a matrix product} and `rows` {model, job, seconds,
    pictures_per_second, share of the peak, peak_mb, yardstick, yardstick_seconds, ratio}: medians of `repeats`
    pairs; share and memory are None where torch does not compute. The yardstick of the embedded model is its plain
    path. InputError outside of a clone, which has the others.
    """
    if not YARDSTICKS.is_file():
        raise InputError(f"{YARDSTICKS}: no such file; the yardsticks of fsiqa bench are in a clone of the project")
    for kind, names, known in (("--models", models, MODELS), ("--jobs", jobs, JOBS)):
        for name in names:
            if name not in known:
                raise InputError(f"{kind} {name}: choose of {', '.join(known)}")
    device, rows = choose_device(device), []
    types = [torch.float32, *([torch.bfloat16] if has_bf16(torch.device(device)) else [])]
    peak = {str(dtype).removeprefix("torch."): round(peak_rate(dtype, device), 1) for dtype in types}
    cells = [(model, job) for model in models for job in jobs or JOBS if model == "embedded" or job not in ON_EMBEDDED]
    with tempfile.TemporaryDirectory() as folder, track("measuring", len(cells)) as log:
        for model, job in cells:
            clip = _random_weights(MODELS[model][1], Path(folder))
            # a new process each, so that no other measurement's memory is counted
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
                rows.append(fresh.submit(_measure, model, job, clip, Path(folder), repeats, device, peak).result())
            log({})
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"
    return {"device": name, "threads": torch.get_num_threads(), "peak": peak, "rows": rows}


def peak_rate(dtype: torch.dtype, device: str, size: int = 2048) -> float:
    """GFLOP/s of a matrix product, the best of five."""
    one = torch.rand(size, size, device=device).to(dtype)
    return max(2 * size**3 / seconds_of(lambda: one @ one, device) for _ in range(5)) / 1e9


def _random_weights(architecture: str, folder: Path) -> str:
    """`ARCHITECTURE:FILE` with weights at random; the embedded CLIP stays itself."""
    if architecture == "tiny":
        return architecture
    path = folder / f"{architecture}.safetensors"
    if not path.exists():
        save_file({name: value.contiguous() for name, value in create_clip(architecture).state_dict().items()}, path)
    return f"{architecture}:{path}"


def _measure(
    model: str, job: str, clip: str, folder: Path, repeats: int, device: str, peak: dict[str, float]
) -> dict[str, Any]:
    config, architecture, batch = MODELS[model]
    torch.manual_seed(0)
    case = Case(load_config(config, [f"clip={clip}"]), None if clip == "tiny" else architecture, batch, device, folder)
    pair = JOBS[job](case)
    pair.ours()
    memory = peak_memory_mb(device)
    with Operations() as counted:
        pair.ours()
    yardstick = pair.yardstick()
    yardstick()
    pairs = [(seconds_of(pair.ours, device), seconds_of(yardstick, device)) for _ in range(repeats)]
    rate = peak["bfloat16" if pair.bf16 else "float32"]
    seconds, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    return {
        "model": model,
        "job": job,
        "seconds": round(seconds, 4),
        "pictures_per_second": round(pair.pictures / seconds, 2),
        "share": None if pair.without_torch else round(counted.total / seconds / 1e9 / rate, 3),
        "peak_mb": None if pair.without_torch else memory,
        "yardstick": pair.name,
        "yardstick_seconds": round(theirs, 4),
        "ratio": round(statistics.median(other / own for own, other in pairs), 2),
    }


class Operations(TorchDispatchMode):
    """Counts floating-point operations, `total`, of matrix products, convolutions and attention."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's has no types
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result, formula = func(*args, **(kwargs or {})), flop_registry.get(func._overloadpacket)
        self.total += formula(*args, **(kwargs or {}), out_val=result) if formula else 0
        return result


def seconds_of(step: Step, device: str) -> float:
    started = time.perf_counter()
    step()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
