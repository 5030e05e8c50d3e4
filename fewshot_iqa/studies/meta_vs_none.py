"""Does meta-training help? Prompts from different starts, adapted to distortions that they were not trained on.

Where only prompts of the text tower are trained, the image features are constant: they are computed once for all runs.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from joblib import delayed

from .. import meta, metrics
from ..config import (
    Config,
    MetaVsNoneSpec,
    SyntheticTask,
    load_config,
    load_experiment,
    load_task,
    with_overrides,
)
from ..data.episodes import meta_tasks
from ..data.loading import FeatureLoader, Loader
from ..data.splits import draw_shots
from ..data.synthetic import KADID_SCALE
from ..errors import InputError
from ..features import FeatureCache
from ..lock import one_writer
from ..model import checkpoint
from ..model.quality import QualityModel
from ..progress import quiet, track
from ..recipes import cells
from ..recipes.common import choose_device, evaluate_on
from ..recipes.figures import new_figure, save_figure
from ..recipes.fitting import fit
from ..recipes.metatraining import meta_step
from ..recipes.trial import encoded
from ..recipes.workers import in_parallel
from ..types import Record, Shots
from .meta_vs_none_data import Split, draw_photographs, draw_split, records_by_photograph

BASELINES = ("random", "joint")
FEATURES = "features"  # folder of the pictures' features
Results = dict[str, dict[str, float | None]]  # of one arm: {steps: {shots: SRCC}}


@one_writer()
def meta_vs_none(
    images: str | Path,
    *,
    config: str = "experiments/meta_vs_none",
    out: str | Path = "runs/meta_vs_none",
    workers: int = 1,
    device: str | None = None,
    overrides: Iterable[str] = (),
) -> dict[str, Any]:
    """SRCC on held-out distortions of held-out photographs, for each arm (start of the prompts) and number of shots.

    A run is one choice of distortions and one seed; all arms of a run share pictures, shots and numbers of steps. Its
    results are a file in `out`; existing files are not computed again. The result holds `table`, {arm: {steps: {shots:
    {low, median, high, iqr, over_random, over_joint}}}}: the quartiles over runs, and the medians of the differences
    from the arms random and joint within a run; 0 shots are before adaptation. Where the arms train only the text
    tower, it holds `linear` as well: the median SRCC of ridge regression on the image features, fitted to all
    `training` pictures and to the whole `pool` of shots, as upper bounds for a start and for adaptation.
    """
    spec, device, folder = load_experiment(config, overrides, kind=MetaVsNoneSpec), choose_device(device), Path(out)
    task = load_task("synthetic")
    assert isinstance(task, SyntheticTask)
    changes = spec.model_dump(include={"episodes", "criteria", "contents"})
    source = with_overrides(task, root=Path(images), hold_out=[], **changes)
    methods = {arm: _method(spec, arm, 0) for arm in spec.arms}
    first = next(iter(methods.values()))
    model, pretrained = checkpoint.build(first), _pretrained(first.clip)
    runs = [(choice, seed) for choice in range(spec.choices) for seed in range(spec.seeds)]
    pool = draw_split(spec, source, *runs[0], pretrained=pretrained).pool
    for count in spec.shots:
        Shots.parse(count).of(len(pool))
    names = sorted(path.name for path in draw_photographs(spec, source))
    plan = spec.model_dump(
        mode="json",
        include={"held_types", "held_photographs", "shots", "steps", "test", "episodes", "criteria", "contents"},
    )
    plan |= {"clip": model.clip.fingerprint, "photographs": names}
    arms = {arm: method.model_dump(mode="json") for arm, method in methods.items()}
    cells.claim(folder, plan, arms)

    missing = [run for run in runs if set(spec.arms) - set(cells.read(_file(folder, *run)))]
    frozen = model.has_frozen_features([glob for part in (first.meta, first.adapt) if part for glob in part.trainable])
    if missing and frozen:
        _encode_all(folder, spec, source, first, workers, device)
    jobs = (delayed(_run)(folder, spec, source, *run, frozen, device) for run in missing)
    with track("runs", len(runs), len(runs) - len(missing)) as log:
        for _ in in_parallel(jobs, workers):
            log({})
    results = [cells.read(_file(folder, *run)) for run in runs]
    result: dict[str, Any] = {"table": _table(spec, results), "runs": len(runs)}
    if frozen:
        splits = [draw_split(spec, source, *run, pretrained=pretrained) for run in runs]
        every = list(dict.fromkeys(record for split in splits for part in vars(split).values() for record in part))
        features = _features(folder, source, first, every, device)
        result["linear"] = {
            "training": float(np.median([ridge_srcc(features, split.training, split.test) for split in splits])),
            "pool": float(np.median([ridge_srcc(features, split.pool, split.test) for split in splits])),
        }
    return result | {"plan": plan, "arms": arms, "versions": checkpoint.versions()}


def _pretrained(clip: str) -> bool:
    """Whether a CLIP has the embedded architecture, and so may have been trained by `fsiqa pretrain`."""
    return Path(clip.partition(":")[0]).stem in ("tiny", "tiny_clip")


def _method(spec: MetaVsNoneSpec, arm: str, seed: int) -> Config:
    changes = {"meta": spec.meta | (spec.arms[arm] or {}), "adapt": spec.adapt}
    overrides = [f"{part}.{key}={json.dumps(value)}" for part, given in changes.items() for key, value in given.items()]
    overrides += [f"clip={json.dumps(spec.clip)}"] if spec.clip else []
    settings = load_config(spec.config, [f"seed={seed}", "views.count=1", *overrides])
    if settings.meta is None or settings.adapt is None:
        raise InputError(f"config {spec.config}: this experiment needs a method with meta and adapt")
    return settings


def _encode_all(
    folder: Path, spec: MetaVsNoneSpec, source: SyntheticTask, settings: Config, workers: int, device: str
) -> None:
    """Encode every picture, photograph by photograph, into the folder's cache."""
    by_photograph = records_by_photograph(spec, source).values()
    with track("photographs", len(by_photograph)) as log:
        jobs = (delayed(_encode)(folder, source, settings, records, device) for records in by_photograph)
        for _ in in_parallel(jobs, workers):
            log({})


def _encode(folder: Path, source: SyntheticTask, settings: Config, records: list[Record], device: str) -> None:
    with quiet():
        _features(folder, source, settings, records, device)


def _features(
    folder: Path, source: SyntheticTask, settings: Config, records: list[Record], device: str
) -> FeatureLoader:
    """A loader of the features of pictures, which are the same in all runs."""
    loader = Loader(settings.views, KADID_SCALE, source_side=source.short_side)
    return encoded(checkpoint.build(settings, device), loader, records, FeatureCache(folder / FEATURES))


def ridge_srcc(features: FeatureLoader, training: list[Record], test: list[Record]) -> float:
    """SRCC on `test` of ridge regression on the embeddings of `training`, its penalty by leave-one-out."""
    from sklearn.linear_model import RidgeCV  # takes a second to import

    x, x_test = (features.of(part).embedding().mean(dim=1).numpy() for part in (training, test))
    y, y_test = ([KADID_SCALE.quality(record.rating) for record in part] for part in (training, test))
    return metrics.srcc(RidgeCV(np.logspace(-2, 3, 6)).fit(x, y).predict(x_test), y_test)


def _file(folder: Path, choice: int, seed: int) -> Path:
    """The file of a run: {arm: Results} of the arms that are done."""
    return folder / f"choice{choice}-seed{seed}.json"


def _run(
    folder: Path,
    spec: MetaVsNoneSpec,
    source: SyntheticTask,
    choice: int,
    seed: int,
    frozen: bool,
    device: str,
) -> None:
    """Complete the file of one run, arm by arm; from the stored features where the image tower is `frozen`."""
    file = _file(folder, choice, seed)
    done = cells.read(file)
    methods = {arm: _method(spec, arm, seed) for arm in spec.arms if arm not in done}
    first = next(iter(methods.values()))
    split = draw_split(spec, source, choice, seed, pretrained=_pretrained(first.clip))
    if frozen:
        records = [record for part in vars(split).values() for record in part]
        loader: Loader = _features(folder, source, first, records, device)
    else:
        loader = Loader(first.views, KADID_SCALE, source_side=source.short_side, seed=seed)
    for arm, settings in methods.items():
        try:
            with quiet():
                done |= {arm: _arm(spec, arm, settings, split, source, loader, device)}
        except InputError as error:
            raise InputError(f"choice {choice}, seed {seed}, {arm}: {error}") from None
        cells.write(file, done)


def _arm(
    spec: MetaVsNoneSpec,
    arm: str,
    settings: Config,
    split: Split,
    source: SyntheticTask,
    loader: Loader,
    device: str,
) -> Results:
    """Train the prompts as the arm says, then adapt them with each number of steps and shots; the SRCC of each."""
    assert settings.adapt is not None
    model = checkpoint.build(settings, device)
    if spec.arms[arm] is not None:
        _train(model, split.training, source, loader, settings)
    params = model.train_only(settings.adapt.trainable)
    start = {name: value.detach().clone() for name, value in params.items()}
    before = evaluate_on(model, loader, split.test).metrics["srcc"]
    results: Results = {}
    for steps in spec.steps:
        changed = settings.model_copy(update={"adapt": settings.adapt.of_steps(steps)})
        results[str(steps)] = {"0": before}
        for count in spec.shots:
            for name, value in params.items():
                value.data.copy_(start[name])
            fit(model, loader, draw_shots(split.pool, Shots.parse(count), seed=settings.seed), changed)
            results[str(steps)][str(count)] = evaluate_on(model, loader, split.test).metrics["srcc"]
    return results


def _train(model: QualityModel, records: list[Record], source: SyntheticTask, loader: Loader, settings: Config) -> None:
    assert settings.meta is not None
    tasks = meta_tasks(records, source, seed=settings.seed)
    params = model.train_only(settings.meta.trainable)
    params |= meta.learned_rates(params, settings.meta)
    optimizer = meta.make_optimizer(params, settings.meta)
    for step in range(settings.meta.steps):
        meta_step(model, params, optimizer, tasks, loader, source.episodes, settings, step)


def _table(spec: MetaVsNoneSpec, runs: list[dict[str, Results]]) -> dict[str, Any]:
    return {
        arm: {
            str(steps): {
                count: _row({name: [run[name][str(steps)][count] for run in runs] for name in spec.arms}, arm)
                for count in ("0", *map(str, spec.shots))
            }
            for steps in spec.steps
        }
        for arm in spec.arms
    }


def _row(of_arms: dict[str, list[float | None]], arm: str) -> dict[str, float | None]:
    values = {name: np.array(of, float) for name, of in of_arms.items()}  # nan: the SRCC of a constant
    row = dict(zip(("low", "median", "high"), np.nanquantile(values[arm], (0.25, 0.5, 0.75)), strict=True))
    row["iqr"] = row["high"] - row["low"]
    for name in BASELINES:
        row[f"over_{name}"] = np.nanmedian(values[arm] - values[name]) if name in values else np.nan
    return {key: round(float(v), 4) if np.isfinite(v) else None for key, v in row.items()}


def draw_curves(result: dict[str, Any], path: Path) -> None:
    """The figure: median SRCC over shots for each arm, with its quartiles; a panel for each number of steps."""
    arms = result["table"]
    panels = list(next(iter(arms.values())))
    figure = new_figure((1 + 4.5 * len(panels), 4.2))
    for axes, steps in zip(np.atleast_1d(figure.subplots(1, len(panels), sharey=True)), panels, strict=True):
        for i, (arm, found) in enumerate(arms.items()):
            rows = list(found[steps].values())
            low, middle, high = (np.array([row[key] for row in rows], float) for key in ("low", "median", "high"))
            positions = np.arange(len(rows)) + 0.06 * (i - len(arms) / 2)
            bars = (middle - low, high - middle)
            axes.errorbar(positions, middle, bars, marker="o", markersize=4, capsize=2, linewidth=1.2, label=arm)
        axes.set_xticks(np.arange(len(rows)), list(found[steps]))
        axes.set(xlabel="shots", title=f"{steps} steps of adaptation")
        axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.supylabel("SRCC: median and quartiles")
    save_figure(figure, path)
