"""The recipes of adapt, and of loading what training makes."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from .. import resources
from ..config import Config, SyntheticTask, TableTask, load_task, with_overrides
from ..data.readers import read_prompts as read_prompts
from ..errors import InputError
from ..model import checkpoint
from ..model.quality import QualityModel
from ..progress import say
from ..score import Scorer
from ..types import Scale, Shots
from .common import METATRAINED, Result, build_model, choose_device, count_labels, read_all, read_settings
from .protocol import Cache, Protocol, by_picture, draw_trials, loader_of, read_rated, run_trial, summary

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
    group: str | None = None,
    lower_is_better: bool = False,
    test: float | None = None,
    folds: int | None = None,
    seeds: int = 1,
    clip: str | None = None,
    out: str | Path = "runs/adapt",
    seed: int | None = None,
    device: str | None = None,
    overrides: Iterable[str] = (),
) -> Result:
    """Adapt to a few rated pictures and test once on pictures of other groups; again for each of `seeds`.

    `start` is the checkpoint to begin from, or "none" for fresh prompts of `config`. By default it is the first of
    `runs/metatrain` and the shipped prompts that has the CLIP and the prompts of `config`, if any has. Nothing is
    chosen on the test pictures. A seed draws its own shots, and its own split where the task has no test rows; the
    facts hold the figures of each and their median and interquartile range, `out` the checkpoint of the first, and
    `pictures` a row for each shot and each test picture of each seed.
    """
    wanted, method = Shots.parse(shots), config
    if config is None:
        own = METATRAINED if is_checkpoint(METATRAINED) else None
        if start is not None:
            own = None if start == "none" else Path(start)
        method, config = ("grmp", "grmp") if own is None else (str(own), str(checkpoint.config_file(own)))
    settings, task_overrides = read_settings(config, clip, seed, overrides)
    if method != config:
        say(f"{method}: {settings.description}")
    source = rated_pictures(
        task, task_overrides, root=root, labels=labels, image_column=image_column, score_column=score_column,
        group=group, lower_is_better=lower_is_better, test=test, folds=folds,
    )  # fmt: skip
    place, out = choose_device(device), Path(out).resolve()
    checkpoint.require_room(out)
    parent = start_of(settings, start)
    protocol = Protocol(settings, source, parent, place)
    rated = read_rated(source)
    drawn = draw_trials(rated, wanted, range(settings.seed, settings.seed + seeds), folds)
    read_all(loader_of(protocol, drawn[0]), [record for draw in drawn for record in (*draw.shots, *draw.test)])

    counts = count_labels([settings], drawn[0].shots)
    earlier = checkpoint.facts(parent).get("labels", {}) if parent else {}
    facts = {
        "stage": "adapt",
        "task": task,
        "source": source.model_dump(mode="json"),
        "labels": {target: count + earlier.get(target, 0) for target, count in counts.items()},
        "start": str(parent.resolve()) if parent else "fresh prompts" if settings.model.learned else "the CLIP alone",
    }
    trials: list[dict[str, Any]] = []
    pictures: list[dict[str, Any]] = []
    cache: Cache = {}
    for draw in drawn:
        trial = run_trial(protocol, draw, cache)
        if not trials:
            scale = [draw.scale.worst, draw.scale.best]
            checkpoint.save(out, trial.model, trial.settings, facts | {"scale": scale} | trial.entry)
        trials.append(trial.entry)
        pictures += by_picture(draw, trial.report)
    return Result(
        out,
        {
            "task": task,
            "method": method,
            "shots": wanted.text,
            "start": facts["start"],
            "seeds": trials,
            **summary(trials),
            "config": settings.model_dump(mode="json"),
            "versions": checkpoint.versions(),
        },
        pd.DataFrame(pictures).dropna(axis="columns", how="all"),
    )


def rated_pictures(
    task: str,
    overrides: Iterable[str],
    *,
    root: str | Path | None = None,
    labels: str | Path | None = None,
    image_column: str | None = None,
    score_column: str | None = None,
    group: str | None = None,
    lower_is_better: bool = False,
    test: float | None = None,
    folds: int | None = None,
) -> TableTask | SyntheticTask:
    """A task with the options of a command; InputError where they do not go together."""
    columns = {"columns.image": image_column, "columns.score": score_column, "columns.group": group}
    table = columns | {"lower_is_better": lower_is_better or None}
    changes = [f"{key}={json.dumps(value)}" for key, value in table.items() if value is not None]
    source = load_task(task, [*overrides, *changes])
    if labels is not None and isinstance(source, SyntheticTask):
        raise InputError(f"--labels: the task '{task}' makes its own labels; use --task csv for a table")
    if test is not None and folds is not None:
        raise InputError("--test and --folds: give one of them")
    tables = {"labels": labels} if isinstance(source, TableTask) else {}
    source = with_overrides(source, root=root, test=test, **tables)
    for option, value in (("--test", test), ("--folds", folds)):
        if value is not None and isinstance(source, TableTask) and source.test_labels:
            raise InputError(f"{option} {value:g}: the task '{task}' has test rows of its own")
    return source


def load(folder: str | Path = SHIPPED, *, device: str | None = None) -> Scorer:
    """A checkpoint ready to score images; by default the shipped one, which is adapted to no ratings."""
    place = choose_device(device)
    model, settings, facts = checkpoint.load(Path(folder))
    scale = Scale(*facts["scale"]) if "scale" in facts else None
    labels = facts.get("labels", {})
    explaining = [branch for target, branch in settings.labels.items() if labels.get(target)]
    return Scorer(model.to(place), settings.views, scale, place, explaining)


def start_of(settings: Config, start: str | Path | None) -> Path | None:
    """The checkpoint that `start` names; by default the first place with meta-trained prompts that are this method's,
    on its CLIP. None is for fresh prompts."""
    if start is not None:
        return None if start == "none" else Path(start)
    if settings.meta is None:
        return None
    model = build_model(settings)
    return next((folder for folder in (METATRAINED, SHIPPED) if fits(folder, model)), None)


def is_checkpoint(folder: Path) -> bool:
    """Whether `folder` was written by metatrain or adapt, be it whole or not."""
    return any((folder / name).is_file() for name in (checkpoint.WEIGHTS, checkpoint.PROVENANCE))


def fits(folder: Path, model: QualityModel) -> bool:
    """Whether `folder` is a checkpoint of this model's prompts on this model's CLIP."""
    if not is_checkpoint(folder):
        return False
    same = checkpoint.config(folder).model in (model.spec, model.spec.phrased)
    return same and checkpoint.facts(folder)["base"] == model.clip.fingerprint
