"""Straight-line recipes of metatrain and adapt, and of loading what they make."""

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .. import meta, resources, rng
from ..config import AdaptSpec, Config, SyntheticTask, TableTask, load_config, load_task, revised
from ..data.episodes import sample_episodes
from ..data.loading import Loader
from ..data.readers import read_table
from ..data.splits import draw_shots, split_by_group
from ..data.synthetic import OPINION, synthetic_records
from ..errors import InputError
from ..evaluate import Report, evaluate
from ..finetune import fit, ridge
from ..losses import WeightedSum
from ..model import checkpoint
from ..model.backbone import load_clip, portable
from ..model.quality import QualityModel, scene_anchor
from ..progress import track
from ..score import Scorer
from ..types import Batch, Episode, Record, Scale, Shots

METATRAINED = Path("runs/metatrain")  # where adapt looks for meta-trained prompts if told nothing
SHIPPED = resources.asset("grmp")  # where it looks next: prompts meta-trained on synthetic pictures
VALIDATION_LIMIT = 200  # synthetic pictures looked at per validation


@dataclass(frozen=True)
class Result:
    """What a training command found: the checkpoint's folder, its provenance with all figures, and the test."""

    out: Path
    facts: dict[str, Any]
    report: Report | None = None


def metatrain(
    config: str = "grmp",
    *,
    task: str = "synthetic",
    images: str | Path | None = None,
    clip: str | None = None,
    out: str | Path = METATRAINED,
    seed: int | None = None,
    device: str | None = None,
    overrides: Iterable[str] = (),
    resume: bool = False,
) -> Result:
    """Meta-train prompts across distortions of clean photographs.

    The prompts with the best SRCC + PLCC on held-out distortions of held-out photographs, without adaptation to them,
    are kept in `out`; `out`-last holds the latest ones, from which `resume` goes on.
    """
    settings, task_overrides = _settings(config, clip, seed, overrides)
    source = load_task(task, task_overrides)
    if not isinstance(source, SyntheticTask):
        raise InputError(f"--task {task}: meta-training needs clean photographs, not a table")
    if settings.meta is None:
        raise InputError(f"--config {config}: this method has no meta stage")
    if images is not None:
        source = revised(source, root=Path(images))
    place, out, spec, seed = choose_device(device), Path(out).resolve(), settings.meta, settings.seed
    last, best = (out.with_name(f"{out.name}-{end}") for end in ("last", "best"))
    checkpoint.require_room(out, last, best)

    pool, held = split_by_group(synthetic_records(source), source.test, seed=seed)
    training = [record for record in pool if record.distortion not in source.hold_out]
    unseen = [record for record in held if not source.hold_out or record.distortion in source.hold_out]
    if len({record.rating for record in unseen}) < 2 or not training:
        raise InputError(f"--task {task}: hold_out must name some of its distortions, and not all of them")
    validation = draw_shots(unseen, Shots.parse(min(len(unseen), VALIDATION_LIMIT)), seed=seed)
    loader = Loader(settings.views, OPINION, source_side=source.short_side, seed=seed)
    _read_all(loader, [*pool, *held])
    model = build_model(settings)
    facts: dict[str, Any] = {"stage": "metatrain", "task": task, "source": source.model_dump(mode="json")}
    facts |= {"seed": seed, "step": 0, "history": []}
    if resume:
        facts = _same_run(checkpoint.overlay(model, last), facts, checkpoint.config(last), settings)
    model.to(place)
    params = model.train_only(spec.trainable)
    loss = WeightedSum(settings.loss)

    def validate() -> None:
        report = _evaluate(model, loader, validation, place)
        earlier = [_merit(entry) for entry in facts["history"]]
        facts["history"].append({"step": facts["step"], **report.metrics})
        for folder in (best, last) if _merit(report.metrics) > max(earlier, default=-math.inf) else (last,):
            checkpoint.save(folder, model, settings, facts)

    if not facts["history"]:
        validate()
    with track("meta-training", spec.steps, facts["step"]) as log:
        for step in range(facts["step"], spec.steps):
            noise = rng.generator(seed, "episodes", step)
            episodes = sample_episodes(
                training, loader, count=spec.episodes, support=spec.support, query=spec.query, noise=noise
            )
            model.train()
            with rng.scoped(seed, "dropout", step):
                gradient, query_loss = meta.meta_gradient(
                    model, params, _moved(episodes, place), loss, lr=spec.inner_lr
                )
            model.eval()
            if not math.isfinite(query_loss):
                raise InputError(f"the loss became {query_loss}: lower meta.inner_lr (now {spec.inner_lr:g})")
            meta.outer_step(params, gradient, spec.outer_lr)
            facts["step"] = step + 1
            log({"loss": query_loss})
            if (step + 1) % spec.validate_every == 0 or step + 1 == spec.steps:
                validate()
    checkpoint.copy(best, out)
    return Result(out, {**checkpoint.facts(out), "history": facts["history"]})


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
    settings, task_overrides = _settings(config, clip, seed, overrides)
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

    _read_all(loader, chosen)
    # an untrained linear head has nothing to say before
    before = None if settings.ridge else _evaluate(model, loader, unseen, place, "testing before adaptation")
    started = time.monotonic()
    if settings.ridge:
        ridge(model, (batch.to(place) for batch in loader.fixed_batches(chosen)), settings.ridge)
    if spec:
        anchor = _anchor(settings, spec, place)
        params = model.train_only(spec.trainable)
        with track("adapting", spec.steps) as log, rng.scoped(seed, "dropout"):
            batches = (batch.to(place) for batch in _shot_batches(loader, chosen, spec.steps, spec.batch, seed))
            fit(model, params, batches, WeightedSum(settings.loss), spec, anchor=anchor, log=log)
    seconds = time.monotonic() - started
    report = before
    if report is None or spec:
        report = _evaluate(model, loader, unseen, place, "testing after adaptation")
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


def _merit(metrics: Mapping[str, float | None]) -> float:
    """SRCC + PLCC, by which the field chooses among checkpoints; that of a constant is the least."""
    return sum(-1.0 if value is None else value for value in (metrics["srcc"], metrics["plcc"]))


def is_checkpoint(folder: Path) -> bool:
    """Whether `folder` was written by metatrain or adapt."""
    return (folder / checkpoint.PROVENANCE).is_file()


def fits(folder: Path, model: QualityModel) -> bool:
    """Whether `folder` is a checkpoint of this model's prompts on this model's CLIP."""
    if not is_checkpoint(folder):
        return False
    return checkpoint.config(folder).model == model.spec and checkpoint.facts(folder)["base"] == model.clip.fingerprint


def _settings(config: str, clip: str | None, seed: int | None, overrides: Iterable[str]) -> tuple[Config, list[str]]:
    """The method's configuration, and the overrides that were for the task (`task.*`)."""
    overrides = list(overrides)
    mine = [text for text in overrides if not text.startswith("task.")]
    mine += [f"clip={json.dumps(clip)}"] if clip else []
    mine += [f"seed={seed}"] if seed is not None else []
    settings = load_config(config, mine)
    for_task = [text.removeprefix("task.") for text in overrides if text.startswith("task.")]
    return settings.model_copy(update={"clip": portable(settings.clip)}), for_task


def _same_run(past: dict[str, Any], now: dict[str, Any], earlier: Config, settings: Config) -> dict[str, Any]:
    """The facts of an interrupted run; InputError where this one differs in more than its length."""
    before, after = (c.model_dump(mode="json") | {"source": f["source"]} for c, f in ((earlier, past), (settings, now)))
    for either in (before, after):
        either["meta"] |= {"steps": None, "validate_every": None}
    for key in before:
        if before[key] != after[key]:
            raise InputError(f"--resume: the interrupted run had another '{key}': repeat its options, or start anew")
    return past


def _read_all(loader: Loader, records: Sequence[Record]) -> None:
    """Read every picture once, so that a broken file is found before anything is trained."""
    each = list({record.path: record for record in records}.values())
    with track("reading", len(each)) as log:
        for record in each:
            loader.source(record)
            log({})


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


def build_model(settings: Config) -> QualityModel:
    """A fresh model of a method, its prompts drawn from the method's seed."""
    with rng.scoped(settings.seed, "init"):
        return checkpoint.build(settings)


def _anchor(settings: Config, spec: AdaptSpec, device: str) -> QualityModel | None:
    if spec.regularizer is None or spec.regularizer.strength == 0:
        return None
    return scene_anchor(settings.model, spec.regularizer.branch, load_clip(settings.clip)).to(device)


def choose_device(name: str | None) -> str:
    """The named device, or a GPU where there is one; InputError where it is not available."""
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: not available here ({str(error).splitlines()[0]})") from None
    return name


def _moved(episodes: Iterable[Episode], device: str) -> Iterator[Episode]:
    for episode in episodes:
        yield Episode(episode.name, episode.support.to(device), episode.query.to(device))


def _shot_batches(loader: Loader, shots: Sequence[Record], steps: int, size: int, seed: int) -> Iterator[Batch]:
    for step in range(steps):
        noise = rng.generator(seed, "adapt", step)
        order = torch.randperm(len(shots), generator=noise)[:size].tolist()
        yield loader.random_batch([shots[i] for i in order], noise)


def _evaluate(
    model: QualityModel, loader: Loader, records: Sequence[Record], device: str, title: str = "validating"
) -> Report:
    size = 8
    with track(title, -(-len(records) // size)) as log:
        batches = (batch.to(device) for batch in loader.fixed_batches(records, size))
        return evaluate(model, batches, log=log)
