"""Learning curves: methods side by side over the number of shots, on the same splits, draws and test pictures."""

from __future__ import annotations

import re
import statistics
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from joblib import delayed

from .. import metrics, progress
from ..config import Config, load_config
from ..errors import InputError
from ..features import FeatureCache
from ..lock import one_writer
from ..model import checkpoint
from ..types import Shots
from . import cells
from .common import choose_device, count_labels, ratings_hash
from .draws import Draw, draw_trials
from .figures import new_figure, save_figure
from .results import srcc_of, summarize
from .sources import Rated, TableOptions, read_source, source_name, warn_guessed_scale
from .starts import find_start, read_settings, warn_without_prior
from .trial import Memory, Method, read_pictures, run_trial, subset_mean_trial, warn_reversed
from .workers import in_parallel

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Unpack

SHOTS = ("10", "20", "50", "20%")
SEEDS, SEEDS_OF_GRADIENTS = 40, 10  # draws: closed forms take seconds, and ten rank nothing below 100 shots
SUBSET_MEAN = "subset mean"  # the baseline that is shown where pictures have subsets
METHODS = ("gp_prompts", "grmp", "coop", "ridge", "clip_iqa")


class Curve(dict[str, Any]):
    """The result of `curve`, as JSON has it: `curve` is {method: {shots: {"count", "trials", "median", "iqr"}}}, where
    each cell but those of the `reference` method also has `over_reference`, the paired difference of SRCC from it."""

    def __repr__(self) -> str:
        return f"Curve of {', '.join(self['curve'])} on {self['task']}; its table:\n{self.table}"

    @property
    def table(self) -> pd.DataFrame:
        """A row for each method and number of shots: medians, interquartile ranges, SRCC in each subset; `coverage`,
        the mean share of the ratings within 90 % intervals; the mean `difference` of SRCC from the reference on the
        same draws, its 95 % interval from `low` to `high`, and the `wins` of the method in so many `draws`."""
        rows = []
        for method, found in self["curve"].items():
            for cell in found.values():
                row = {"method": method, "shots": cell["count"], "trials": len(cell["trials"])}
                for name, value in cell["median"].items():
                    if name not in ("within", "zero_shot"):
                        row |= {name: value, f"{name}_iqr": cell["iqr"][name]}
                if "coverage" in row:
                    row["coverage"] = statistics.fmean(trial["coverage"] for trial in cell["trials"])
                row |= {f"srcc_{subset}": of["srcc"] for subset, of in cell["median"]["within"].items()}
                if over := cell.get("over_reference"):
                    row |= {name: over[name] for name in ("difference", "wins", "draws")}
                    row["low"], row["high"] = over["interval"] or (None, None)
                rows.append(row)
        return pd.DataFrame(rows)

    def plot(self, path: str | Path | None = None) -> Figure:
        """The figure, also written to `path`: median SRCC over the number of shots for each method, with a band between
        its quartiles."""
        every = sorted({cell["count"] for found in self["curve"].values() for cell in found.values()})
        figure = new_figure((7, 4.2))
        axes = figure.subplots()
        for method, found in self["curve"].items():
            cells_ = sorted(found.values(), key=lambda cell: cell["count"])
            counts = [cell["count"] for cell in cells_]
            values = [[srcc_of(trial) for trial in cell["trials"]] for cell in cells_]
            low, middle, high = np.array([np.quantile(some, (0.25, 0.5, 0.75)) for some in values]).T
            (line,) = axes.plot(counts, middle, marker="o", markersize=4, linewidth=1.4, label=method)
            axes.fill_between(counts, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        axes.set_xscale("log")
        axes.set_xticks(every, [str(count) for count in every])
        axes.set_xticks([], minor=True)
        axes.set(xlabel="rated pictures to learn from", ylabel="SRCC on the test pictures: median and quartiles")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        return save_figure(figure, path)


@one_writer()
def curve(
    methods: str | Sequence[str] | Mapping[str, tuple[str, Sequence[str]]] = METHODS,
    *,
    task: str | None = None,
    shots: str | int | Sequence[str | int] | None = None,
    seeds: int | None = None,
    seed: int = 0,
    reference: str | None = None,
    start: str | Path | None = None,
    clip: str | None = None,
    out: str | Path = "runs/curve",
    workers: int = 1,
    device: str | None = None,
    cache: str | Path | None = None,
    overrides: Iterable[str] = (),
    looks: int = 0,
    **table: Unpack[TableOptions],
) -> Curve:
    """Adapt by each of `methods` with each number of `shots`, with `seeds` seeds from `seed` on.

    Methods are configurations, or {label: (configuration, overrides of its own)}. Without `shots`: 10, 20, 50 and 20 %,
    if there are so many. Without `seeds`: 40, and 10 for methods that learn by gradients. Each method is compared with
    the `reference`, by default the first, on the draws that both have. Where pictures have subsets, such as generative
    models, the baseline `subset mean` predicts the mean of the shots of a picture's subset. `table` is as for
    `TableOptions`.

    Each cell is a file in `out`, and what is there already is not computed again. A method with a meta stage begins
    from `start`, by default as `adapt` does; the others from fresh prompts. `overrides` of the sections meta and adapt,
    and of keys of a head, are for the methods that have these. Features are kept in the folder `cache`. `looks` is how
    often a trial also predicts the test while it learns by gradients; its `best_look` is what a release would report.

    Examples:
        >>> found = curve(["ridge", "gp"], shots=[10, 50], labels="ratings.csv")  # doctest: +SKIP
        >>> found.plot("curve.png")  # doctest: +SKIP
    """
    folder, place, overrides = Path(out), choose_device(device), list(overrides)
    methods = [methods] if isinstance(methods, str) else methods
    if seeds is not None and seeds < 1:
        raise InputError(f"--seeds {seeds}: at least one")
    settings, for_task = read_methods(methods, clip, overrides)
    if start not in (None, "none") and not any(some.meta for some in settings.values()):
        raise InputError(f"--from {start}: none of these methods begins from meta-trained prompts")
    reference = next(iter(settings)) if reference is None else reference
    if reference not in settings:
        raise InputError(f"--reference {reference}: is none of {', '.join(settings)}")
    order = {label: range(seed, seed + (seeds or _seeds_of(some))) for label, some in settings.items()}
    task, folds, rated = source_name(task, **table), table.get("folds"), read_source(task, for_task, **table)
    arms = {label: Method(some, _start(some, start), place, looks=looks) for label, some in settings.items()}
    for method in arms.values():
        warn_without_prior(method.settings, method.start)
    wanted = _wanted(shots, rated, folds)
    longest = max(order.values(), key=len)
    drawn = {(c.text, s): draw_trials(rated, c, [s], folds) for c in wanted for s in longest}
    every = [draw for some in drawn.values() for draw in some]
    if rated.has_guessed_scale:
        few = min(every, key=lambda draw: len(draw.shots))
        warn_guessed_scale(few.scale, len(few.shots))
    count_labels(settings.values(), {record for draw in every for record in draw.shots})
    plan = {
        "task": task,
        "source": rated.source.model_dump(mode="json"),
        "folds": folds,
        "ratings": ratings_hash(rated.every),
    }
    about = {label: cells.identity(method) for label, method in arms.items()}
    cells.claim(folder, plan, about)

    missing = {
        label: [cell for cell in drawn if cell[1] in order[label] and not _file(folder, label, *cell).is_file()]
        for label in arms
    }
    failed: list[str] = []
    with ExitStack() as stack:
        if cache is None and workers > 1:
            cache = stack.enter_context(tempfile.TemporaryDirectory())
        memory, asked = Memory(FeatureCache(cache)), False
        for label, method in arms.items():
            needed = [draw for cell in missing[label] for draw in drawn[cell]]
            read_pictures(method, needed, memory)
            asked = asked or warn_reversed(method, needed, memory)
        log = stack.enter_context(progress.track("trials", sum(map(len, missing.values()))))
        for label, method in arms.items():
            jobs = (delayed(_cell)(_file(folder, label, *cell), method, drawn[cell], memory) for cell in missing[label])
            # a closed form is quicker than its way to another process
            processes = workers if method.settings.adapt else 1
            for error in in_parallel(jobs, processes):
                failed += [error] if error else []
                log({})
    if failed:
        raise InputError(f"{failed[0]} ({len(failed)} trials failed; {folder} keeps the others)")
    found = {label: {c.text: _found(folder, label, c.text, order[label]) for c in wanted} for label in arms}
    if any(record.subset for record in rated.records):
        found[SUBSET_MEAN] = {
            c.text: _summed([subset_mean_trial(d) for s in longest for d in drawn[c.text, s]]) for c in wanted
        }
    for label, cells_ in found.items():
        for count, cell in cells_.items() if label != reference else ():
            cell["over_reference"] = srcc_difference(cell["trials"], found[reference][count]["trials"])
    return Curve(task=task, reference=reference, curve=found, plan=plan, methods=about, versions=checkpoint.versions())


def _seeds_of(settings: Config) -> int:
    return SEEDS_OF_GRADIENTS if settings.adapt else SEEDS


def srcc_difference(trials: Sequence[Mapping[str, Any]], reference: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The paired difference of SRCC on the draws of both."""
    one, other = (
        {(trial["seed"], trial.get("fold")): srcc_of(trial) for trial in some} for some in (trials, reference)
    )
    return metrics.paired_difference(*zip(*((one[key], other[key]) for key in one if key in other), strict=True))


def _wanted(shots: str | int | Sequence[str | int] | None, rated: Rated, folds: int | None) -> list[Shots]:
    """The numbers of shots that were given, or those of the usual ones that the training pool can give."""
    if shots is not None:
        return [Shots.parse(count) for count in ([shots] if isinstance(shots, str | int) else shots)]
    pool = min(draw.pool for draw in draw_trials(rated, Shots.parse(2), [0], folds))
    return [count for count in map(Shots.parse, SHOTS) if count.fits(pool)]


def read_methods(
    methods: Sequence[str] | Mapping[str, tuple[str, Sequence[str]]], clip: str | None, overrides: Sequence[str]
) -> tuple[dict[str, Config], list[str]]:
    """The configuration of each method by label, each with those of the `overrides` that apply to it and its own, and
    the overrides of the task."""
    listed = methods.items() if isinstance(methods, Mapping) else [(Path(name).stem, (name, ())) for name in methods]
    settings: dict[str, Config] = {}
    used: set[str] = set()
    for_task: list[str] = []
    for label, (name, changes) in listed:
        if label in settings:
            raise InputError(f"--methods {','.join(methods)}: two are named '{label}'")
        own = [text for text in overrides if applies(load_config(name), text)]
        used |= set(own)
        settings[label], for_task = read_settings(name, clip, None, [*own, *changes])
    for text in overrides:
        if text not in used:
            raise InputError(f"--set {text}: none of these methods has {_path(text)[0]}")
    return settings, for_task


def applies(config: Config, override: str) -> bool:
    """Whether a method has what an override sets: its section, or the key of its head."""
    section, *keys = _path(override)
    if section == "head" and keys and keys[0] != "kind":
        return keys[0] in type(config.head).model_fields
    return section not in ("meta", "adapt") or getattr(config, section) is not None


def _path(override: str) -> list[str]:
    return re.split(r"[.=]", override.partition("=")[0].strip())


def _start(settings: Config, start: str | Path | None) -> Path | None:
    if settings.meta is None:
        return None
    return find_start(start) if start is not None else checkpoint.default_start(settings)


def _cell(file: Path, method: Method, drawn: Sequence[Draw], memory: Memory) -> str | None:
    """Compute one cell; an error of the user's is returned, so that it stops no other cell."""
    try:
        with progress.quiet():
            cells.write(file, {"trials": [run_trial(method, draw, memory).entry for draw in drawn]})
    except InputError as error:
        return f"{file.stem}: {error}"
    return None


def _file(folder: Path, label: str, count: str, seed: int) -> Path:
    return folder / f"{label}-{count}-seed{seed}.json"


def _found(folder: Path, label: str, count: str, order: Iterable[int]) -> dict[str, Any]:
    trials = [trial for seed in order for trial in cells.read(_file(folder, label, count, seed))["trials"]]
    return _summed(trials)


def _summed(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"count": trials[0]["shots"], "trials": trials} | summarize(trials)
