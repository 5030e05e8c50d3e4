"""The recipes of adapt, and of loading what training makes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..config import Config
from ..model import checkpoint
from ..model.quality import QualityModel
from ..progress import say
from ..resources import METATRAINED, SHIPPED, is_checkpoint
from ..score import Scorer
from ..types import Scale, Shots
from .common import Result, build_model, choose_device, count_labels, read_all, read_settings
from .protocol import Cache, Protocol, by_picture, draw_trials, loader_of, run_trial, summary
from .sources import TableOptions, read_source, source_name
from .starts import find_method, find_start

if TYPE_CHECKING:
    from typing_extensions import Unpack


def adapt(
    config: str | None = None,
    *,
    task: str | None = None,
    shots: str | int = "20%",
    start: str | Path | None = None,
    seeds: int = 1,
    clip: str | None = None,
    out: str | Path = "runs/adapt",
    seed: int | None = None,
    device: str | None = None,
    overrides: Iterable[str] = (),
    **table: Unpack[TableOptions],
) -> Result:
    """Adapt to a few rated pictures and test once on pictures of other groups; again for each of `seeds`.

    `start` is the checkpoint to begin from, "shipped", or "none" for fresh prompts of `config`. By default it is the
    first of `runs/metatrain` and the shipped prompts that has the CLIP and the prompts of `config`, if any. Nothing is
    chosen on the test pictures. A seed draws its own shots, and its own split where the task has no test rows; the
    facts hold the figures of each and their median and interquartile range, `out` the checkpoint of the first, and
    `pictures` a row for each shot and each test picture of each seed.
    """
    wanted = Shots.parse(shots)
    method, config = find_method(config, start)
    settings, task_overrides = read_settings(config, clip, seed, overrides)
    if method != config:
        say(f"{method}: {settings.description}")
    task, rated = source_name(task, **table), read_source(task, task_overrides, **table)
    source = rated.source
    place, out = choose_device(device), Path(out).resolve()
    checkpoint.require_room(out)
    parent = start_of(settings, start)
    protocol = Protocol(settings, source, parent, place)
    drawn = draw_trials(rated, wanted, range(settings.seed, settings.seed + seeds), table.get("folds"))
    read_all(loader_of(protocol, drawn[0]), [record for draw in drawn for record in (*draw.shots, *draw.test)])

    counts = count_labels([settings], drawn[0].shots)
    earlier = checkpoint.facts(parent).get("labels", {}) if parent else {}
    facts = {
        "stage": "adapt",
        "method": method,
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
        return find_start(start)
    if settings.meta is None:
        return None
    model = build_model(settings)
    return next((folder for folder in (METATRAINED, SHIPPED) if fits(folder, model)), None)


def fits(folder: Path, model: QualityModel) -> bool:
    """Whether `folder` is a checkpoint of this model's prompts on this model's CLIP."""
    if not is_checkpoint(folder):
        return False
    same = checkpoint.config(folder).model in (model.spec, model.spec.phrased)
    return same and checkpoint.facts(folder)["base"] == model.clip.fingerprint
