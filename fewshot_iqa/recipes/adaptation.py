"""The recipes of adapt, and of loading what training makes."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch

from .. import resources, rng
from ..config import AdaptSpec, Config, SyntheticTask, TableTask, load_task, revised
from ..data.loading import Loader
from ..data.readers import read_table
from ..data.splits import draw_shots, split_by_group
from ..data.synthetic import OPINION, synthetic_records
from ..errors import InputError
from ..finetune import fit, ridge
from ..losses import WeightedSum
from ..model import checkpoint
from ..model.backbone import load_clip
from ..model.quality import QualityModel, scene_anchor
from ..progress import track
from ..score import Scorer
from ..types import Batch, Record, Scale, Shots
from .common import METATRAINED, Result, build_model, choose_device, evaluate_on, read_all, read_settings

SHIPPED = resources.asset("grmp")  # where adapt looks for prompts next: meta-trained on synthetic pictures


def adapt(
    config: str | None = None,
    *,
    task: str = "demo",
    shots: str | int = "20%",
    start: str | Path | None = None,
    root: str | Path | None = None,
    labels: str | Path | None = None,
    image_column: str | None = None,
    score_column: str | None = None,
    lower_is_better: bool = False,
    test: float | None = None,
    clip: str | None = None,
    out: str | Path = "runs/adapt",
    seed: int | None = None,
    device: str | None = None,
    overrides: Iterable[str] = (),
) -> Result:
    """Adapt to a few rated pictures and test once on pictures of other groups.

    `start` is the checkpoint to begin from, or "none" for fresh prompts of `config`. By default it is the first of
    `runs/metatrain` and the shipped prompts that has the CLIP and the prompts of `config`, if any has. Nothing is
    chosen on the test pictures.
    """
    wanted = Shots.parse(shots)
    parent = None if start is None or start == "none" else Path(start)
    if config is None:
        own = METATRAINED if start is None and is_checkpoint(METATRAINED) else parent
        config = str(checkpoint.config_file(own)) if own else "grmp"
    settings, task_overrides = read_settings(config, clip, seed, overrides)
    table = {"columns.image": image_column, "columns.score": score_column, "lower_is_better": lower_is_better or None}
    task_overrides += [f"{key}={json.dumps(value)}" for key, value in table.items() if value is not None]
    source = load_task(task, task_overrides)
    if labels is not None and isinstance(source, SyntheticTask):
        raise InputError(f"--labels: the task '{task}' makes its own labels; use --task csv for a table")
    tables = {"labels": labels} if isinstance(source, TableTask) else {}
    source = revised(source, root=root, test=test, **tables)
    if test is not None and getattr(source, "test_labels", None):
        raise InputError(f"--test {test:g}: the task '{task}' has test rows of its own")
    place, out, spec, seed = choose_device(device), Path(out).resolve(), settings.adapt, settings.seed
    checkpoint.require_room(out)

    pool, unseen = read_split(source, seed)
    chosen = draw_shots(pool, wanted, seed=seed)
    scale = _scale(source, chosen)
    loader = Loader(settings.views, scale, source_side=getattr(source, "short_side", None), seed=seed)
    model = build_model(settings)
    if start is None:
        parent = next((folder for folder in (METATRAINED, SHIPPED) if fits(folder, model)), None)
    if parent is not None:
        checkpoint.overlay(model, parent)
    model.to(place)

    read_all(loader, chosen)
    # an untrained linear head has nothing to say before
    before = None if settings.ridge else evaluate_on(model, loader, unseen, place, "testing before adaptation")
    started = time.monotonic()
    if settings.ridge:
        ridge(model, (batch.to(place) for batch in loader.fixed_batches(chosen)), settings.ridge)
    if spec:
        anchor = anchor_of(settings, spec, place)
        params = model.train_only(spec.trainable)
        with track("adapting", spec.steps) as log, rng.scoped(seed, "dropout"):
            batches = (batch.to(place) for batch in shot_batches(loader, chosen, spec.steps, spec.batch, seed))
            fit(model, params, batches, WeightedSum(settings.loss), spec, anchor=anchor, log=log)
    seconds = time.monotonic() - started
    report = before
    if report is None or spec:
        report = evaluate_on(model, loader, unseen, place, "testing after adaptation")
    facts = {
        "stage": "adapt",
        "task": task,
        "source": source.model_dump(mode="json"),
        "seed": seed,
        "start": "fresh prompts" if parent is None else str(parent.resolve()),
        "shots": len(chosen),
        "pool": len(pool),
        "test": len(unseen),
        "scale": [scale.worst, scale.best],
        "seconds": round(seconds, 1),
        "zero_step": before.metrics if before else None,
        "metrics": report.metrics,
    }
    checkpoint.save(out, model, settings, facts)
    return Result(out, checkpoint.facts(out), report)


def load(folder: str | Path = SHIPPED, *, device: str | None = None) -> Scorer:
    """A checkpoint ready to score images; by default the shipped one, which is adapted to no ratings."""
    place = choose_device(device)
    model, settings, facts = checkpoint.load(Path(folder))
    scale = Scale(*facts["scale"]) if "scale" in facts else None
    return Scorer(model.to(place), settings.views, scale, place)


def is_checkpoint(folder: Path) -> bool:
    """Whether `folder` was written by metatrain or adapt."""
    return (folder / checkpoint.PROVENANCE).is_file()


def fits(folder: Path, model: QualityModel) -> bool:
    """Whether `folder` is a checkpoint of this model's prompts on this model's CLIP."""
    if not is_checkpoint(folder):
        return False
    return checkpoint.config(folder).model == model.spec and checkpoint.facts(folder)["base"] == model.clip.fingerprint


def read_split(source: TableTask | SyntheticTask, seed: int) -> tuple[list[Record], list[Record]]:
    """(pool, test): the release's own rows where there are such, else a split by group."""
    if isinstance(source, TableTask) and source.labels and source.test_labels:
        pool = read_table(source)
        test = read_table(revised(source, labels=source.test_labels, root=source.root or source.labels.parent))
        for group in {record.group for record in pool} & {record.group for record in test}:
            raise InputError(f"{source.test_labels}: '{group}' is among the training rows of {source.labels} as well")
        return pool, test
    records = read_table(source) if isinstance(source, TableTask) else synthetic_records(source)
    return split_by_group(records, source.test, seed=seed)


def _scale(source: TableTask | SyntheticTask, shots: Sequence[Record]) -> Scale:
    """The task's own scale, or the span of the shots' ratings: never that of the test pictures."""
    if isinstance(source, SyntheticTask):
        return OPINION
    low, high = source.range or (min(r.rating for r in shots), max(r.rating for r in shots))
    return Scale(high, low) if source.lower_is_better else Scale(low, high)


def anchor_of(settings: Config, spec: AdaptSpec, device: str) -> QualityModel | None:
    if spec.regularizer is None or spec.regularizer.strength == 0:
        return None
    return scene_anchor(settings.model, spec.regularizer.branch, load_clip(settings.clip)).to(device)


def shot_batches(loader: Loader, shots: Sequence[Record], steps: int, size: int, seed: int) -> Iterator[Batch]:
    """`steps` batches of up to `size` shots, each drawn anew."""
    for step in range(steps):
        noise = rng.generator(seed, "adapt", step)
        order = torch.randperm(len(shots), generator=noise)[:size].tolist()
        yield loader.random_batch([shots[i] for i in order], noise)
