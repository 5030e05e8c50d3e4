"""The recipes of adapt, and of loading what training makes."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..config import Config, with_overrides
from ..errors import InputError
from ..features import FeatureCache
from ..files import require_room, to_csv
from ..lock import one_writer
from ..losses import FunctionLoss
from ..model import checkpoint
from ..progress import say
from ..resources import METATRAINED
from ..score import Scorer
from ..types import Shots
from . import cells, plots
from .common import Result, choose_device, count_labels, ratings_hash, run_of
from .draws import Draw, draw_all, draw_trials
from .loading import load
from .outlook import learning_curve
from .results import PICTURES, agreement, by_picture, summarize, warn_constant
from .sources import TableOptions, read_source, source_name, warn_few, warn_guessed_scale
from .starts import describe_start, find_method, find_start, read_settings, warn_without_prior
from .trial import Memory, Method, read_pictures, run_trial, warn_reversed

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Unpack

TESTED = ".fsiqa-tested"  # inside a checkpoint that is made: the draws that are tested


@dataclass(frozen=True)
class Adapted(Result):
    """An adapted `model`, ready to score, saved in `out`.

    `metrics`: those of each draw with a test (`trials`), their `median` and interquartile range (`iqr`), and, where the
    model learned from all ratings, the `agreement` of out-of-fold predictions in the ratings' units and the
    `learning_curve` inside the ratings; `ceiling` is the agreement of the true quality with the ratings, where these
    tell it. `pictures` has a row for each picture, with its rating and what a model that did not learn from it
    predicted.
    """

    model: Scorer
    metrics: dict[str, Any] = field(repr=False)
    pictures: pd.DataFrame = field(repr=False)

    def plot_scatter(self, path: str | Path | None = None) -> Figure:
        """Rating over predicted rating of each picture; the figure, also written to `path`."""
        return plots.plot_scatter(self.pictures, path)

    def plot_calibration(self, path: str | Path | None = None) -> Figure:
        """The share of ratings within the predicted interval of each level; InputError without predicted deviations."""
        return plots.plot_calibration(self.pictures, path)

    def plot_residuals(self, path: str | Path | None = None, *, by: str | None = None) -> Figure:
        """Rating minus predicted rating, in the groups of the column `by` of `pictures`."""
        return plots.plot_residuals(self.pictures, path, by=by)

    def plot_learning_curve(self, path: str | Path | None = None) -> Figure:
        """SRCC over the number of ratings, and what more would bring; InputError where the curve was not computed."""
        return plots.plot_learning_curve(self.metrics["learning_curve"], self.metrics["ceiling"], path)


@one_writer()
def adapt(
    config: str | Path | None = None,
    *,
    task: str | None = None,
    shots: str | int | None = None,
    start: str | Path | None = None,
    head: Any = None,
    loss: Callable[..., Any] | None = None,
    seeds: int = 1,
    clip: str | None = None,
    out: str | Path = "runs/adapt",
    seed: int | None = None,
    device: str | None = None,
    cache: str | Path | None = None,
    overrides: Iterable[str] = (),
    **table: Unpack[TableOptions],
) -> Adapted:
    """Learn from rated pictures, and save the model in `out`.

    Without `shots`, from all of them; the agreement is that of out-of-fold predictions, over five folds of whole groups
    (each group in turn, below 25 pictures), or on the task's own test rows. With `shots`, a number or a share such as
    "20%", by the protocol of the studies: so many are drawn from the training pool, and the test is on pictures of
    other groups, once, for each of `seeds`; `out` keeps the model of the first. A run that was interrupted goes on
    with the draws that it has not tested.

    `config` is a method from `fsiqa configs` or a .yaml file. `start` is the checkpoint that its prompts come from,
    "shipped", or "none" for fresh ones; by default the first of `runs/metatrain` and the shipped prompts that fits.
    `head` is an object with `fit` and `predict` in the place of the configuration's, `loss` a function of a
    `Prediction` and the targets in the place of its terms. Features are kept in the folder `cache`. `table` is as
    for `TableOptions`. InputError where anything does not fit.

    Examples:
        >>> result = adapt(labels="ratings.csv", root="photos")  # doctest: +SKIP
        >>> result.model.score("photo.jpg")  # doctest: +SKIP
    """
    if seeds < 1:
        raise InputError(f"--seeds {seeds}: at least one")
    overrides = list(overrides)
    run = run_of(
        "adapt", config=config, task=task, shots=shots, start=start, head=head, loss=loss, seeds=seeds, clip=clip,
        seed=seed, overrides=overrides, **table,
    )  # fmt: skip
    wanted, task = None if shots is None else Shots.parse(shots), source_name(task, **table)
    label, source = find_method(config, start)
    settings, for_task = read_settings(source, clip, seed, overrides)
    if head is not None:
        label = f"{label}, head {type(head).__name__}"
        settings = with_overrides(settings, head={"kind": "custom", "name": type(head).__name__})
    if loss is not None and settings.adapt is None:
        raise InputError(f"loss: {label} learns in closed form; a loss is for a method with gradients, such as grmp")
    rated, folder = read_source(task, for_task, **table), Path(out).resolve()
    require_room(folder)
    parent = find_start(start) if start is not None else checkpoint.default_start(settings)
    if parent == METATRAINED and start is None:
        say(describe_start(parent, named=False))
    warn_without_prior(settings, parent)
    method = Method(settings, parent, choose_device(device), head, FunctionLoss(loss) if loss else None)

    if wanted is None:
        drawn = draw_all(rated, settings.seed, table.get("folds"))
    else:
        drawn = draw_trials(rated, wanted, range(settings.seed, settings.seed + seeds), table.get("folds"))
    kept = drawn[-1 if wanted is None else 0]
    if rated.has_guessed_scale:
        warn_guessed_scale(kept.scale, len(kept.shots))
    warn_few(len(kept.shots), [len(draw.test) for draw in drawn] if wanted else [])
    memory = Memory(FeatureCache(cache))
    with_shots = wanted is not None or rated.test is not None
    about = (cells.identity(method), method.device, checkpoint.versions(), with_shots)
    files = [_cell(folder, draw, about) if run and draw is not kept else None for draw in drawn]
    found = [cells.read(file) if file else {} for file in files]
    missing = sorted((i for i, each in enumerate(found) if not each), key=lambda i: drawn[i] is kept)
    if len(missing) < len(drawn):
        say(f"goes on: {len(drawn) - len(missing)} of {len(drawn)} draws were tested before")
    read_pictures(method, [drawn[i] for i in missing], memory)
    warn_reversed(method, drawn, memory)
    provenance = {
        "stage": "adapt",
        "run": run,
        "ratings": ratings_hash(dict.fromkeys(record for draw in drawn for record in draw.pictures)),
        "method": label,
        "task": task,
        "source": rated.source.model_dump(mode="json"),
        "labels": _labels_learned(settings, kept, parent),
        "start": str(parent.resolve())
        if parent
        else "fresh prompts"
        if settings.model.has_prompts
        else "the CLIP alone",
        "scale": [kept.scale.worst, kept.scale.best],
        "loss": getattr(loss, "__name__", None) if loss else None,
    }

    for i in missing:  # the kept draw is the last, so that its model is saved at once
        learned = run_trial(method, drawn[i], memory)
        rows = by_picture(drawn[i], learned.report, shots=with_shots)
        found[i] = {"entry": learned.entry, "pictures": rows}
        if file := files[i]:
            cells.write(file, found[i])
    tested = [each for each, draw in zip(found, drawn, strict=True) if draw.test]
    entries, rows = [each["entry"] for each in tested], [row for each in tested for row in each["pictures"]]
    warn_constant(learned.settings, learned.predicted)
    pictures = pd.DataFrame(rows).dropna(axis="columns", how="all")
    apart = kept.scale.per_subset
    agreed = agreement(pictures, seed=settings.seed, per_subset=apart) if wanted is None and rows else None
    provenance |= learned.entry | {"agreement": agreed, "ceiling": rated.ceiling(), "history": list(learned.history)}
    provenance["learning_curve"] = None if agreed is None or apart else learning_curve(method, kept, memory)
    listed = {PICTURES: to_csv(pictures).encode(errors="backslashreplace")}
    checkpoint.save(folder, learned.model, learned.settings, provenance, files=listed)
    shutil.rmtree(folder / TESTED, ignore_errors=True)
    metrics = {
        "task": task,
        "method": label,
        "shots": wanted.text if wanted else "all",
        "start": provenance["start"],
        "trials": entries,
        **summarize(entries),
        "agreement": agreed,
        "ceiling": provenance["ceiling"],
        "learning_curve": provenance["learning_curve"],
        "config": settings.model_dump(mode="json"),
        "versions": checkpoint.versions(),
    }
    return Adapted(folder, checkpoint.provenance(folder), load(folder, device=device, head=head), metrics, pictures)


def _cell(folder: Path, draw: Draw, about: tuple[Any, ...]) -> Path:
    """Where the test of a draw is kept until all are done; the name is a hash of what it depends on."""
    paths = [str(record.path.resolve()) for record in draw.pictures]
    rated = ratings_hash(draw.shots), ratings_hash(draw.test)
    parts = repr((about, draw.seed, draw.fold, draw.scale, draw.pool, paths, rated))
    return folder / TESTED / f"{hashlib.sha256(parts.encode(errors='surrogateescape')).hexdigest()[:32]}.json"


def _labels_learned(settings: Config, draw: Draw, parent: Path | None) -> dict[str, int]:
    """{classes: how many pictures had such labels}, of the shots and of what the checkpoint before learned from."""
    earlier = checkpoint.provenance(parent).get("labels", {}) if parent else {}
    return {target: n + earlier.get(target, 0) for target, n in count_labels([settings], draw.shots).items()}
