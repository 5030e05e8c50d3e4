"""What `fsiqa bench` times: each job in turn with its yardstick."""

import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from PIL import Image

from .. import meta
from ..config import Config
from ..data.loading import Loader
from ..images import fixed_views, prepared_size, read_image, write_png
from ..losses import WeightedSum
from ..model import checkpoint
from ..model.quality import QualityModel
from ..precision import choose_bf16
from ..predicting import Opened
from ..recipes.exporting import export
from ..recipes.fitting import prepare, shot_batches
from ..recipes.trunk import Crops
from ..runtime import load_exported
from ..score import Scorer
from ..types import Batch, Episode, Record, Scale

YARDSTICKS = Path(__file__).parents[2] / "tests" / "benchmarks" / "yardsticks.py"
SCORED = 16
Step = Callable[[], Any]


@dataclass(frozen=True)
class Pair:
    """A step of ours, and what makes its yardstick once our memory is measured; how many pictures it takes, and whether
    it computes in bfloat16 or without torch."""

    ours: Step
    yardstick: Callable[[], Step]
    name: str
    pictures: int
    bf16: bool = False
    without_torch: bool = False


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
        return Pair(ours, lambda: stepper(case.plain)[0], "plain", case.batch, bf16)

    def yardstick() -> Step:
        theirs, quality = case.yardstick("Adaptation"), torch.rand(case.batch, device=case.device)
        return partial(theirs.step, [record.path for record in records], quality)

    return Pair(ours, yardstick, "as released", case.batch, bf16)


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
        return Pair(ours, lambda: stepper(case.plain)[0], "plain", 2 * case.batch, bf16)

    def yardstick() -> Step:
        support, query = ((images[i], quality[i]) for i in range(2))
        return partial(case.yardstick("MetaTraining").task, support, query)

    return Pair(ours, yardstick, "as released", 2 * case.batch, bf16)


def _scoring(case: Case) -> Pair:
    """Single views to qualities, through all prompts, against the bare image tower."""
    size = case.settings.views.crop
    images = torch.rand(SCORED, 3, size, size, device=case.device)

    def stepper(settings: Config) -> Step:
        return scoring(checkpoint.build(settings, case.device), images)

    ours = stepper(case.settings)
    if case.architecture is None:
        return Pair(ours, lambda: stepper(case.plain), "plain", SCORED)
    return Pair(ours, lambda: case.yardstick("bare", images), "bare", SCORED)


def scoring(model: QualityModel, images: torch.Tensor) -> Step:
    """Images to qualities, the prompts encoded before."""
    with torch.no_grad():
        state = model.encode_prompts()
    return torch.no_grad()(lambda: model(images, state))


def write_jpeg(path: Path, height: int, width: int, seed: int = 0) -> None:
    """A picture of coarse noise."""
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (300, 400, 3), dtype=np.uint8))
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)


def _fast_scoring(case: Case) -> Pair:
    """The same by ONNX Runtime, with linear layers in 8 bit, against the bare tower in float32."""
    size = case.settings.views.crop
    images = torch.randint(256, (SCORED, 1, 3, size, size), dtype=torch.uint8)
    scorer = _exported(case, int8=True)
    opened = [Opened("", "", views) for views in images.numpy()]
    plain = _scoring(case)
    return Pair(lambda: scorer.predictor.predict(opened), plain.yardstick, plain.name, SCORED, without_torch=True)


def _folder(case: Case) -> Pair:
    """Photographs of 12 megapixels in JPEG files, by ONNX Runtime, against each in turn: decoded whole, reduced by
    torch, and scored by the plain path."""
    paths = [case.folder / f"large{i}.jpg" for i in range(SCORED // 2)]
    for i, path in enumerate(paths):
        write_jpeg(path, 3000, 4000, seed=i)
    scorer, views = _exported(case), case.settings.views
    model = checkpoint.build(case.plain, case.device)
    with torch.no_grad():
        state = model.encode_prompts()

    @torch.no_grad()
    def plainly() -> None:
        for path in paths:
            whole = torch.from_numpy(read_image(path))[None]
            size = prepared_size(views, *whole.shape[-2:])
            reduced = functional.interpolate(whole, size, mode="bilinear", antialias=True)[0].numpy()
            model(torch.from_numpy(fixed_views(reduced, views))[None].to(case.device), state)

    return Pair(lambda: scorer.score(paths), lambda: plainly, "plain", len(paths), without_torch=True)


def _cold_start(case: Case) -> Pair:
    """The command `fsiqa score photo.png`, against an interpreter that only imports torch."""
    photo = case.folder / "photo.png"
    write_png(photo, torch.randint(256, (3, 384, 512), dtype=torch.uint8).numpy(), {})

    def run(*code: str) -> Step:
        return lambda: subprocess.run([sys.executable, "-c", *code], check=True, stdout=subprocess.DEVNULL)

    ours = run("from fewshot_iqa.cli import main; main()", "score", str(photo))
    return Pair(ours, lambda: run("import torch"), "import torch", 1, without_torch=True)


def _exported(case: Case, *, int8: bool = False) -> Scorer:
    folder = case.folder / "exported"
    checkpoint.save(folder, checkpoint.build(case.settings), case.settings, {})
    return load_exported(export(folder, int8=int8).path)


JOBS: dict[str, Callable[[Case], Pair]] = {
    "adapt": lambda case: _adaptation(case, 1),
    "adapt-new-crops": lambda case: _adaptation(case, None),
    "meta": _meta_step,
    "score": _scoring,
    "score-fast": _fast_scoring,
    "folder": _folder,
    "cold": _cold_start,
}
ON_EMBEDDED = {"folder", "cold"}  # what does not depend on the size of the tower
