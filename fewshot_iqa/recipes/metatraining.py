"""The recipe of metatrain."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .. import meta, rng
from ..config import AntonymSpec, Config, EpisodeSpec, SyntheticTask, load_task, with_overrides
from ..config.heads import GaussianProcessSpec
from ..data.episodes import MetaTask, meta_tasks, sample_episodes
from ..data.loading import Loader
from ..data.splits import draw_shots, split_by_group
from ..data.synthetic import KADID_SCALE, synthetic_records
from ..distortions import find
from ..errors import InputError
from ..features import FeatureCache
from ..files import require_room
from ..inner import Objective, import_learn2learn
from ..lock import one_writer
from ..losses import WeightedSum, gradients_by_name
from ..metrics import selection_score
from ..model import checkpoint
from ..model.formats import read_checkpoint_config, require_keys
from ..model.quality import QualityModel
from ..model.storage import finish
from ..moments import moments, restore_moments
from ..precision import choose_bf16
from ..progress import say, track
from ..resources import METATRAINED, is_checkpoint
from ..types import Episode, Params, Shots
from .common import Result, choose_device, count_labels, evaluate_on, read_all, run_of
from .prior import fit_prior
from .starts import read_settings
from .trunk import with_trunk

BEST = "best."  # before the names of the weights that are kept, among those of the state
LAST = "-last"  # behind the name of `out`
VALIDATION_LIMIT = 200  # synthetic pictures looked at per validation


@one_writer(LAST)
def metatrain(
    config: str = "gp_prompts",
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

    The prompts with the best SRCC + PLCC - RMSE on held-out distortions of held-out photographs, without adaptation to
    them, are kept in `out`; `out`-last holds the latest ones and, in one file with the optimiser's moments, the best so
    far, from which `resume` goes on. A method that ends in a
    Gaussian process with a `synthetic_mean_weight` gets its prior mean, on the features behind these prompts.
    """
    overrides = list(overrides)
    run = run_of("metatrain", config=config, task=task, images=images, clip=clip, seed=seed, overrides=overrides)
    whole, task_overrides = read_settings(config, clip, seed, overrides)
    settings = whole.model_copy(update={"head": AntonymSpec()}) if whole.head.closed_form else whole
    source = load_task(task, task_overrides)
    if not isinstance(source, SyntheticTask):
        raise InputError(f"--task {task}: meta-training needs clean photographs, not a table")
    if settings.meta is None:
        raise InputError(f"--config {config}: this method has no meta stage")
    if images is not None:
        source = with_overrides(source, root=Path(images))
    device, out, spec, seed = choose_device(device), Path(out).resolve(), settings.meta, settings.seed
    if spec.engine == "learn2learn":
        import_learn2learn()
    last = Path(f"{out}{LAST}")
    best: Params = {}
    for folder in (out, last):
        require_room(folder)

    pool, held = split_by_group(synthetic_records(source), source.test, seed=seed)
    kept = {find(name).name for name in source.hold_out}
    training = [record for record in pool if record.distortion not in kept]
    unseen = [record for record in held if not kept or record.distortion in kept]
    if len({record.rating for record in unseen}) < 2 or not training:
        raise InputError(f"--task {task}: hold_out must name some of its distortions, and not all of them")
    validation = draw_shots(unseen, Shots.parse(min(len(unseen), VALIDATION_LIMIT)), seed=seed)
    loader = Loader(settings.views, KADID_SCALE, source_side=source.short_side, seed=seed)
    read_all(loader, [*pool, *held])
    tasks = meta_tasks(training, source, seed=seed)
    model = checkpoint.build(settings, device)
    layers = None if settings.plain else model.frozen_layers(spec.trainable)
    tested = with_trunk(loader, model, layers, len(validation), FeatureCache())
    provenance: dict[str, Any] = {
        "stage": "metatrain",
        "run": run,
        "task": task,
        "source": source.model_dump(mode="json"),
    }
    provenance |= {"labels": count_labels([settings], training)}
    provenance |= {"tasks": len(tasks), "seed": seed, "step": 0, "history": []}
    if resume:
        if not is_checkpoint(last):
            raise InputError(f"--resume: {out} has no unfinished run beside it, in {last.name}")
        finish(last)
        provenance = _same_run(checkpoint.overlay(model, last), provenance, last, settings)
    params = model.train_only(spec.trainable)
    rates = meta.learned_rates(params, spec)
    learned = params | rates
    optimizer = meta.make_optimizer(learned, spec)
    if resume:
        state = checkpoint.state(last)
        best = {name.removeprefix(BEST): value for name, value in state.items() if name.startswith(BEST)}
        if best.keys() != checkpoint.own_weights(model).keys() or not rates.keys() <= state.keys():
            raise InputError(f"--resume: {last} was left by another version, or is damaged: start anew")
        restore_moments(optimizer, learned, state)
        for name, rate in rates.items():
            rate.data.copy_(state[name])
    if spec.algorithm == "maml":
        say(
            "second order: attention of the inner steps by the math kernel; docs/concepts/meta-learning.md has the cost"
        )
        if spec.inner_optimizer == "adam" and spec.inner_steps == 1:
            say("one inner step of Adam hardly has a second order: take meta.inner_optimizer=sgd, or several steps")

    def validate() -> None:
        report = evaluate_on(model, tested, validation)
        earlier = [selection_score(entry) for entry in provenance["history"]]
        provenance["history"].append({"step": provenance["step"], **report.metrics})
        provenance["inner_lr"] = {name.removeprefix(meta.RATE): rate.exp().item() for name, rate in rates.items()}
        if selection_score(report.metrics) > max(earlier, default=-math.inf):
            best.update({name: value.clone() for name, value in checkpoint.own_weights(model).items()})
            provenance["best"] = {name: provenance[name] for name in ("step", "inner_lr")}
        state = {BEST + name: value for name, value in best.items()} | {name: rate.data for name, rate in rates.items()}
        checkpoint.save(last, model, settings, provenance, state | moments(optimizer, learned))

    if not provenance["history"]:
        validate()
    running = _with_precision(model, params, tasks, loader, source.episodes, settings)
    with track("meta-training", spec.steps, provenance["step"]) as log:
        for step in range(provenance["step"], spec.steps):
            log({"loss": meta_step(model, learned, optimizer, tasks, loader, source.episodes, running, step)})
            provenance["step"] = step + 1
            if (step + 1) % spec.validate_every == 0 or step + 1 == spec.steps:
                validate()
                if _is_spent(spec.patience, provenance["history"]):
                    say(f"stopped after step {step + 1}: no better than before (meta.patience: {spec.patience})")
                    break
    if whole.head != settings.head:
        model = checkpoint.build(whole, device)
        best = {name: value for name, value in best.items() if not name.startswith("head.")}
    model.own_parameters(best)
    model.load_state_dict(best, strict=False)
    until = [entry for entry in provenance["history"] if entry["step"] <= provenance["best"]["step"]]
    found = {**provenance, **provenance["best"], "history": until}
    del found["best"]
    if isinstance(whole.head, GaussianProcessSpec) and any(whole.head.synthetic_mean_weight):
        fit_prior(model, training, source, whole.views, seed=seed)
        found["prior"] = evaluate_on(model, loader, validation, "testing the prior mean").metrics
    checkpoint.save(out, model, whole, found)
    return Result(out, {**checkpoint.provenance(out), "history": provenance["history"]})


def meta_step(
    model: QualityModel,
    params: Params,
    optimizer: torch.optim.Optimizer,
    tasks: Sequence[MetaTask],
    loader: Loader,
    episodes: EpisodeSpec,
    settings: Config,
    step: int,
) -> float:
    """One step of meta-training, its episodes and its dropout drawn for this step alone; the mean query loss."""
    spec, seed, device = settings.meta, settings.seed, str(next(iter(params.values())).device)
    assert spec is not None
    drawn = sample_episodes(tasks, loader, episodes, noise=rng.generator(seed, "episodes", step))
    moved = (Episode(e.name, e.support.to(device), e.query.to(device)) for e in drawn)
    model.train()
    with rng.scoped(seed, "dropout", step):
        direction, query_loss = meta.meta_gradient(model, params, moved, WeightedSum(settings.loss), spec)
    model.eval()
    meta.require_finite(step + 1, query_loss, direction, spec)
    meta.outer_step(optimizer, params, direction, spec)
    return query_loss


def _with_precision(
    model: QualityModel,
    params: Params,
    tasks: Sequence[MetaTask],
    loader: Loader,
    episodes: EpisodeSpec,
    settings: Config,
) -> Config:
    """The settings with `meta.bf16` decided, where it is not given."""
    spec = settings.meta
    assert spec is not None

    def gradients(bf16: bool) -> Params:
        (first, *_) = sample_episodes(tasks, loader, episodes, noise=rng.generator(settings.seed, "episodes", 0))
        objective = Objective(model, WeightedSum(settings.loss), bf16)
        return gradients_by_name(objective(first.support.to(str(model.device))), params)

    wanted = False if settings.plain else spec.bf16
    bf16 = choose_bf16(wanted, model.clip.vision_width, model.device, gradients)
    return settings.model_copy(update={"meta": spec.model_copy(update={"bf16": bf16})})


def _is_spent(patience: int | None, history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether none of the last `patience` validations is better than the best before them."""
    if patience is None or len(history) <= patience:
        return False
    scores = [selection_score(entry) for entry in history]
    return max(scores[-patience:]) <= max(scores[:-patience])


def _same_run(past: dict[str, Any], now: dict[str, Any], last: Path, settings: Config) -> dict[str, Any]:
    """The provenance of the run that was interrupted in `last`; InputError where this one differs in more than its
    length."""
    require_keys(past, last, "source", "step", "history", "best")
    earlier = read_checkpoint_config(last)
    before, after = (c.model_dump(mode="json") | {"source": f["source"]} for c, f in ((earlier, past), (settings, now)))
    for either in (before, after):
        either["meta"] = (either["meta"] or {}) | {"steps": None, "validate_every": None, "patience": None}
    for key in before:
        if before[key] != after[key]:
            raise InputError(f"--resume: the interrupted run had another '{key}': repeat its options, or start anew")
    return {**past, "run": now["run"]}
