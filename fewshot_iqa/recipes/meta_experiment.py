"""Does meta-training pay? Prompts from different starts, adapted to what none of them saw."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from .. import meta, rng
from ..config import (
    Config,
    MetaVsNoneSpec,
    SyntheticTask,
    human_means,
    load_config,
    load_experiment,
    load_task,
    revised,
)
from ..data.episodes import meta_tasks
from ..data.loading import Loader
from ..data.splits import draw_shots, split_by_group
from ..data.synthetic import OPINION, synthetic_records
from ..errors import InputError
from ..finetune import fit
from ..losses import WeightedSum
from ..model import checkpoint
from ..model.quality import QualityModel
from ..progress import track
from ..types import Record, Shots
from .adaptation import shot_batches
from .common import build_model, choose_device, evaluate_on
from .metatraining import meta_step

BASELINES = ("random", "joint")

Cell = tuple[int, int, str]  # choice of distortions, seed, arm


def meta_vs_none(
    images: str | Path,
    *,
    config: str = "experiments/meta_vs_none",
    out: str | Path = "runs/meta_vs_none",
    device: str | None = None,
    overrides: Iterable[str] = (),
) -> dict[str, Any]:
    """SRCC on held-out distortions of held-out photographs, for each start of the prompts and number of shots.

    Each choice of distortions and each seed, in which all arms see the same pictures, shots and steps, is one file in
    `out`; what is there already is not computed again. In the result, `table` is {arm: {shots: {median, iqr,
    over_random, over_joint}}}, the last two being medians of the differences from these arms within one run; 0 shots
    are before adaptation.
    """
    spec, place, folder = load_experiment(config, overrides), choose_device(device), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    described = folder / "experiment.json"
    whole = spec.model_dump(mode="json")
    fingerprint = checkpoint.build(load_config(spec.config)).clip.fingerprint
    ours = {"images": str(Path(images).resolve()), "clip": fingerprint}
    fixed = {key: value for key, value in whole.items() if key not in ("arms", "choices", "seeds")} | ours
    if described.is_file() and json.loads(described.read_text()) != fixed:
        raise InputError(f"--out {folder}: holds another experiment; name a folder of its own")
    described.write_text(json.dumps(fixed, indent=2) + "\n")
    cells = [(c, s, arm) for c in range(spec.choices) for s in range(spec.seeds) for arm in spec.arms]
    with track("cells", len(cells)) as log:
        for cell in cells:
            file = _file(folder, cell)
            if not file.is_file():
                found = _cell(spec, Path(images), *cell, place)
                part = file.with_suffix(".part")
                part.write_text(json.dumps(found) + "\n")
                part.replace(file)
            log({})
    results = {cell: json.loads(_file(folder, cell).read_text()) for cell in cells}
    return {"table": _table(spec, results), "spec": whole, **ours, "versions": checkpoint.versions()}


def _file(folder: Path, cell: Cell) -> Path:
    choice, seed, arm = cell
    return folder / f"choice{choice}-seed{seed}-{arm}.json"


def held_types(spec: MetaVsNoneSpec, choice: int) -> list[str]:
    """The distortions of one choice: disjoint ones, as long as there are enough."""
    names = list(human_means())
    rounds, place = divmod(choice * spec.held_types, len(names) - len(names) % spec.held_types)
    order = rng.permutation(len(names), rounds, "held-out distortions")
    return [names[i] for i in order[place : place + spec.held_types]]


def _cell(spec: MetaVsNoneSpec, images: Path, choice: int, seed: int, arm: str, place: str) -> dict[str, Any]:
    """{shots: {srcc, plcc, ...}} of one start of the prompts."""
    held = held_types(spec, choice)
    seen = [name for name in human_means() if name not in held]
    source = load_task("synthetic")
    assert isinstance(source, SyntheticTask)
    source = revised(source, root=images, hold_out=[], episodes=spec.episodes)
    changes = {"meta": spec.meta | (spec.arms[arm] or {}), "adapt": spec.adapt}
    overrides = [f"{part}.{key}={json.dumps(value)}" for part, given in changes.items() for key, value in given.items()]
    settings = load_config(spec.config, [f"seed={seed}", "views.count=1", *overrides])
    assert settings.adapt is not None
    loader = Loader(settings.views, OPINION, source_side=source.short_side, seed=seed)
    # One split for all choices of distortions: its seed knows the photographs alone.
    of_seen, of_held = (synthetic_records(source.model_copy(update={"distortions": names})) for names in (seen, held))
    training, _ = split_by_group(of_seen, spec.held_photographs, seed=seed)
    _, target = split_by_group(of_held, spec.held_photographs, seed=seed)
    pool, unseen = split_by_group(target, 0.5, seed=seed)
    unseen = draw_shots(unseen, Shots.parse(min(spec.test, len(unseen))), seed=seed)

    model = build_model(settings).to(place)
    if spec.arms[arm] is not None:
        _train(model, training, source, loader, settings)
    start = {name: value.detach().clone() for name, value in model.train_only(settings.adapt.trainable).items()}
    found: dict[str, Any] = {"held": held, "srcc": {"0": _srcc(model, loader, unseen, place)}}
    for count in spec.shots:
        params = model.train_only(settings.adapt.trainable)
        for name, value in params.items():
            value.data.copy_(start[name])
        shots = draw_shots(pool, Shots.parse(count), seed=seed)
        batches = shot_batches(loader, shots, settings.adapt.steps, settings.adapt.batch, seed)
        with rng.scoped(seed, "dropout"):
            fit(model, params, (batch.to(place) for batch in batches), WeightedSum(settings.loss), settings.adapt)
        found["srcc"][str(count)] = _srcc(model, loader, unseen, place)
    return found


def _train(model: QualityModel, records: list[Record], source: SyntheticTask, loader: Loader, settings: Config) -> None:
    assert settings.meta is not None
    tasks = meta_tasks(records, source, seed=settings.seed)
    params = model.train_only(settings.meta.trainable)
    params |= meta.learned_rates(params, settings.meta)
    optimizer = meta.make_optimizer(params, settings.meta)
    with track(settings.meta.algorithm, settings.meta.steps) as log:
        for step in range(settings.meta.steps):
            log({"loss": meta_step(model, params, optimizer, tasks, loader, source.episodes, settings, step)})


def _srcc(model: QualityModel, loader: Loader, records: list[Record], place: str) -> float | None:
    return evaluate_on(model, loader, records, place, "testing").metrics["srcc"]


def _table(spec: MetaVsNoneSpec, results: dict[Cell, dict[str, Any]]) -> dict[str, Any]:
    """{arm: {shots: {median, iqr, over_random, over_joint}}}; the last two are medians of differences in one cell."""
    runs = [(choice, seed) for choice in range(spec.choices) for seed in range(spec.seeds)]
    table: dict[str, Any] = {}
    for arm in spec.arms:
        table[arm] = {}
        for count in ("0", *map(str, spec.shots)):
            values = {
                name: np.array([results[(*run, name)]["srcc"][count] for run in runs], float) for name in spec.arms
            }
            low, middle, high = np.quantile(values[arm], (0.25, 0.5, 0.75))
            row = {"median": middle, "iqr": high - low}
            row |= {f"over_{name}": np.median(values[arm] - values[name]) for name in BASELINES if name in values}
            table[arm][count] = {name: round(float(value), 4) for name, value in row.items()}
    return table


def draw_curves(result: dict[str, Any], path: Path) -> None:
    """The figure: median SRCC over shots for each arm, with its interquartile range."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for i, (arm, rows) in enumerate(result["table"].items()):
        middle = np.array([row["median"] for row in rows.values()])
        spread = np.array([row["iqr"] for row in rows.values()]) / 2
        places = np.arange(len(rows)) + 0.06 * (i - len(result["table"]) / 2)
        axes.errorbar(places, middle, spread, marker="o", markersize=4, capsize=2, linewidth=1.2, label=arm)
    axes.set_xticks(np.arange(len(rows)), list(rows))
    axes.set(xlabel="shots", ylabel="SRCC, median and interquartile range")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
