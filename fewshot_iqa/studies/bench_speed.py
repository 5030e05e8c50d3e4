"""`fsiqa bench`: the speed of adaptation, meta-training and scoring, against the machine's limit and two yardsticks."""

import runpy
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from .. import meta
from ..config import Config, load_config
from ..data.loading import Loader
from ..errors import InputError
from ..images.png import write_png
from ..losses import WeightedSum
from ..memory import peak_memory_mb
from ..model import checkpoint
from ..model.clip import create_clip
from ..precision import choose_bf16, has_bf16
from ..progress import track
from ..recipes.common import choose_device
from ..recipes.fitting import prepare, shot_batches
from ..recipes.trunk import Crops
from ..types import Batch, Episode, Record, Scale

YARDSTICKS = Path(__file__).parents[2] / "tests" / "benchmarks" / "yardsticks.py"
MODELS = {"embedded": ("grmp", "tiny", 16), "ViT-B/16": ("grmp_vitb16", "ViT-B-16-quickgelu", 8)}
SCORED = 16
Step = Callable[[], Any]


@dataclass(frozen=True)
class Pair:
    """A step of ours, its yardstick, how many pictures it takes, and whether it computes in bfloat16."""

    ours: Step
    yardstick: Step
    name: str
    pictures: int
    bf16: bool = False


@dataclass(frozen=True)
class Case:
    """A method to time: on the embedded CLIP, or (`architecture`) on random weights, in batches of `batch`."""

    settings: Config
    architecture: str | None
    batch: int
    device: str
    folder: Path

    @property
    def plain(self) -> Config:
        return self.settings.model_copy(update={"plain": True})

    def yardstick(self, name: str, *inputs: Any) -> Any:
        """The yardstick `name`, with a CLIP of open_clip's own."""
        assert self.architecture is not None
        return runpy.run_path(str(YARDSTICKS))[name](self.architecture, self.device, *inputs)


def bench_speed(
    models: Sequence[str] = tuple(MODELS),
    jobs: Sequence[str] = ("adapt", "adapt-new-crops", "meta", "score"),
    *,
    repeats: int = 5,
    device: str | None = None,
) -> dict[str, Any]:
    """Time each of `jobs` of each model in turn with its yardstick, in a process of its own.

    Returns `device`, `threads`, `peak` {type: GFLOP/s of a matrix product} and `rows` {model, job, seconds,
    pictures_per_second, share of the peak, peak_mb, yardstick, yardstick_seconds, ratio}: medians of `repeats`
    pairs. The yardstick of the embedded model is its plain path. InputError outside of a clone, which has the others.
    """
    if not YARDSTICKS.is_file():
        raise InputError(f"{YARDSTICKS}: no such file; the yardsticks of fsiqa bench are in a clone of the project")
    for kind, names, known in (("--models", models, MODELS), ("--jobs", jobs, JOBS)):
        for name in names:
            if name not in known:
                raise InputError(f"{kind} {name}: choose of {', '.join(known)}")
    device, rows = choose_device(device), []
    types = [torch.float32, *([torch.bfloat16] if has_bf16(torch.device(device)) else [])]
    peak = {str(dtype).removeprefix("torch."): round(_peak(dtype, device), 1) for dtype in types}
    cells = [(model, job) for model in models for job in jobs]
    with tempfile.TemporaryDirectory() as folder, track("measuring", len(cells)) as log:
        for model, job in cells:
            clip = _random_weights(MODELS[model][1], Path(folder))
            # a new process each, so that no other measurement's memory is counted
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
                rows.append(fresh.submit(_measure, model, job, clip, Path(folder), repeats, device, peak).result())
            log({})
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"
    return {"device": name, "threads": torch.get_num_threads(), "peak": peak, "rows": rows}


def _peak(dtype: torch.dtype, device: str, size: int = 2048) -> float:
    """GFLOP/s of a matrix product, the best of five."""
    one = torch.rand(size, size, device=device).to(dtype)
    return max(2 * size**3 / _seconds(lambda: one @ one, device) for _ in range(5)) / 1e9


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
    pair.yardstick()
    pairs = [(_seconds(pair.ours, device), _seconds(pair.yardstick, device)) for _ in range(repeats)]
    seconds, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    return {
        "model": model,
        "job": job,
        "seconds": round(seconds, 4),
        "pictures_per_second": round(pair.pictures / seconds, 2),
        "share": round(counted.total / seconds / 1e9 / peak["bfloat16" if pair.bf16 else "float32"], 3),
        "peak_mb": memory,
        "yardstick": pair.name,
        "yardstick_seconds": round(theirs, 4),
        "ratio": round(statistics.median(other / own for own, other in pairs), 2),
    }


class Operations(TorchDispatchMode):
    """Counts floating-point operations, `total`, of matrix products, convolutions and attention."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result, formula = func(*args, **(kwargs or {})), flop_registry.get(func._overloadpacket)
        self.total += formula(*args, **(kwargs or {}), out_val=result) if formula else 0
        return result


def _seconds(step: Step, device: str) -> float:
    started = time.perf_counter()
    step()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _adaptation(case: Case, crops: int | None) -> Pair:
    """A step of adaptation with QGR; with `crops`, on crops that came before."""
    records = [Record(case.folder / f"{i}.png", i / case.batch, group=str(i)) for i in range(case.batch)]
    for record in records:
        write_png(record.path, torch.randint(256, (3, 384, 512), dtype=torch.uint8).numpy(), {})

    def stepper(settings: Config) -> tuple[Step, bool]:
        assert settings.adapt is not None
        spec = settings.adapt.model_copy(update={"batch": case.batch}).of_steps(10_000)
        model, loader = checkpoint.build(settings, case.device), Loader(settings.views, Scale(0, 1))
        stage, loss = prepare(model, loader, spec, settings), WeightedSum(settings.loss)
        stage = stage.with_bf16(choose_bf16(stage.spec.bf16, model.clip.vision_width, model.device))
        batches = shot_batches(Crops(loader, crops, stage.encode), records, spec, 0)
        optimizer = torch.optim.SGD(stage.params.values(), lr=1e-6)
        model.train()

        def step() -> None:
            gradients = stage.gradients(next(batches), loss)
            for name, parameter in stage.params.items():
                parameter.grad = gradients.get(name)
            optimizer.step()

        return step, bool(stage.spec.bf16)

    ours, bf16 = stepper(case.settings)
    if case.architecture is None:
        return Pair(ours, stepper(case.plain)[0], "plain", case.batch, bf16)
    theirs, quality = case.yardstick("Adaptation"), torch.rand(case.batch, device=case.device)
    paths = [record.path for record in records]
    return Pair(ours, lambda: theirs.step(paths, quality), "as released", case.batch, bf16)


def _meta_step(case: Case) -> Pair:
    """A task of meta-training: a step on the support, one on the query."""
    size = case.settings.views.crop
    images = torch.rand(2, case.batch, 3, size, size, device=case.device)
    quality = torch.rand(2, case.batch, device=case.device)
    episode = Episode("random", *(Batch(images[i], {"quality": quality[i]}) for i in range(2)))

    def stepper(settings: Config) -> tuple[Step, bool]:
        model, spec = checkpoint.build(settings, case.device).train(), settings.meta
        assert spec is not None
        wanted = False if settings.plain else spec.bf16
        bf16 = choose_bf16(wanted, model.clip.vision_width, model.device)
        spec = spec.model_copy(update={"bf16": bf16})
        params, loss = model.train_only(spec.trainable), WeightedSum(settings.loss)
        return lambda: meta.meta_gradient(model, params, [episode], loss, spec), bf16

    ours, bf16 = stepper(case.settings)
    if case.architecture is None:
        return Pair(ours, stepper(case.plain)[0], "plain", 2 * case.batch, bf16)
    theirs = case.yardstick("MetaTraining")
    support, query = ((images[i], quality[i]) for i in range(2))
    return Pair(ours, lambda: theirs.task(support, query), "as released", 2 * case.batch, bf16)


def _scoring(case: Case) -> Pair:
    """Single views to qualities, through all prompts, against the bare image tower."""
    size = case.settings.views.crop
    images = torch.rand(SCORED, 3, size, size, device=case.device)

    def stepper(settings: Config) -> Step:
        model = checkpoint.build(settings, case.device)
        with torch.no_grad():
            state = model.encode_prompts()
        return torch.no_grad()(lambda: model(images, state))

    ours = stepper(case.settings)
    if case.architecture is None:
        return Pair(ours, stepper(case.plain), "plain", SCORED)
    return Pair(ours, case.yardstick("bare", images), "bare", SCORED)


JOBS: dict[str, Callable[[Case], Pair]] = {
    "adapt": lambda case: _adaptation(case, 1),
    "adapt-new-crops": lambda case: _adaptation(case, None),
    "meta": _meta_step,
    "score": _scoring,
}
