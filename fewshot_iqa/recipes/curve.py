"""Learning curves: methods side by side over the number of shots, on the same splits, draws and test pictures."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from .. import progress
from ..config import Config, load_config
from ..errors import InputError
from ..model import checkpoint
from ..model.backbone import load_clip
from ..types import Shots
from . import cells
from .adaptation import start_of
from .common import choose_device, count_labels, read_all, read_settings
from .figures import drawn_figure
from .protocol import (
    Cache,
    Draw,
    Protocol,
    draw_trials,
    loader_of,
    precompute,
    reads,
    run_trial,
    summary,
)
from .sources import Rated, TableOptions, read_source, source_name

if TYPE_CHECKING:
    from typing_extensions import Unpack

METHODS = ("grmp", "coop", "ridge", "clip_iqa")
OF_SOME = ("meta", "adapt", "ridge", "gp")  # sections that a method has or has not


def curve(
    methods: Sequence[str] | Mapping[str, tuple[str, Sequence[str]]] = METHODS,
    *,
    task: str | None = None,
    shots: Sequence[str | int] = ("10", "20", "50", "20%"),
    seeds: int = 10,
    seed: int = 0,
    start: str | Path | None = None,
    clip: str | None = None,
    out: str | Path = "runs/curve",
    workers: int = 1,
    device: str | None = None,
    overrides: Iterable[str] = (),
    **table: Unpack[TableOptions],
) -> dict[str, Any]:
    """Adapt by each of `methods` with each number of `shots`, with `seeds` seeds from `seed` on; `table` is as `adapt`
    has it. Methods are configurations, or {label: (configuration, overrides of its own)}.

    Each result is a file in `out`, and what is there already is not computed again. A method with a meta stage begins
    from `start`, by default as `adapt` does; the others from fresh prompts. `overrides` of the sections meta, adapt,
    ridge and gp are for the methods that have these. In what is returned, `curve` is {method: {shots: {"count",
    "trials", "median", "iqr"}}}, figures as `adapt` has them.
    """
    folder, place, overrides = Path(out), choose_device(device), list(overrides)
    wanted, order = [Shots.parse(count) for count in shots], range(seed, seed + seeds)
    settings: dict[str, Config] = {}
    arms = (
        list(methods.items()) if isinstance(methods, Mapping) else [(Path(name).stem, (name, ())) for name in methods]
    )
    for label, (name, changes) in arms:
        if label in settings:
            raise InputError(f"--methods {','.join(methods)}: two are named '{label}'")
        settings[label], for_task = read_settings(name, clip, None, [*_meant_for(name, overrides), *changes])
    for text in overrides:
        section = _section(text)
        if section in OF_SOME and not any(getattr(some, section) for some in settings.values()):
            raise InputError(f"--set {text}: none of these methods has {section}")
    if start not in (None, "none") and not any(some.meta for some in settings.values()):
        raise InputError(f"--from {start}: none of these methods begins from meta-trained prompts")
    task, folds, rated = source_name(task, **table), table.get("folds"), read_source(task, for_task, **table)
    source = rated.source
    protocols = {
        label: Protocol(some, source, start_of(some, start) if some.meta else None, place)
        for label, some in settings.items()
    }
    drawn = {(c.text, s): draw_trials(rated, c, [s], folds) for c in wanted for s in order}
    count_labels(settings.values(), {record for some in drawn.values() for draw in some for record in draw.shots})
    plan = {"task": task, "source": source.model_dump(mode="json"), "folds": folds, "ratings": _hash(rated)}
    about = {label: _identity(protocol) for label, protocol in protocols.items()}
    cells.claim(folder, plan, about)

    missing = {label: [cell for cell in drawn if not _file(folder, label, *cell).is_file()] for label in protocols}
    if any(missing.values()):
        every = [draw for some in drawn.values() for draw in some]
        loader = loader_of(next(iter(protocols.values())), every[0])
        read_all(loader, [record for draw in every for record in (*draw.shots, *draw.test)])
    caches: dict[str, Cache] = {}
    known = {label: caches.setdefault(reads(protocols[label], label), {}) for label in protocols if missing[label]}
    for label, cache in known.items():
        precompute(protocols[label], [draw for cell in missing[label] for draw in drawn[cell]], cache)
    failed: list[str] = []
    with progress.track("trials", sum(map(len, missing.values()))) as log:
        for label, cache in known.items():
            protocol = protocols[label]
            jobs = (
                delayed(_cell)(_file(folder, label, *cell), protocol, drawn[cell], cache) for cell in missing[label]
            )
            # a closed form is quicker than its way to another process
            processes = workers if protocol.settings.adapt else 1
            for error in Parallel(processes, return_as="generator_unordered")(jobs):
                failed += [error] if error else []
                log({})
    if failed:
        raise InputError(f"{failed[0]} ({len(failed)} trials failed; {folder} keeps the others)")
    found = {label: {c.text: _found(folder, label, c.text, order) for c in wanted} for label in protocols}
    return {"task": task, "curve": found, "plan": plan, "methods": about, "versions": checkpoint.versions()}


def _meant_for(method: str, overrides: Iterable[str]) -> list[str]:
    """Those of the sections that it has."""
    config = load_config(method)
    absent = {section for section in OF_SOME if getattr(config, section) is None}
    return [text for text in overrides if _section(text) not in absent]


def _section(override: str) -> str:
    return re.split(r"[.=]", override)[0].strip()


def _cell(file: Path, protocol: Protocol, drawn: Sequence[Draw], cache: Cache) -> str | None:
    """Compute one cell; an error of the user's is returned, so that it stops no other cell."""
    try:
        with progress.quiet():
            cells.write(file, {"trials": [run_trial(protocol, draw, cache).entry for draw in drawn]})
    except InputError as error:
        return f"{file.stem}: {error}"
    return None


def _file(folder: Path, label: str, count: str, seed: int) -> Path:
    return folder / f"{label}-{count}-seed{seed}.json"


def _identity(protocol: Protocol) -> dict[str, Any]:
    """What a method's results depend on beside the plan."""
    return {
        "config": protocol.settings.model_dump(mode="json"),
        "clip": load_clip(protocol.settings.clip).fingerprint,
        "start": checkpoint.fingerprint(protocol.start) if protocol.start else None,
    }


def _hash(rated: Rated) -> str:
    """Of all that is learned from and tested on, but for the pixels."""
    rows = [{**vars(r), "path": r.path.name} for part in (rated.records, rated.test or ()) for r in part]
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]


def _found(folder: Path, label: str, count: str, order: Iterable[int]) -> dict[str, Any]:
    trials = [trial for seed in order for trial in cells.read(_file(folder, label, count, seed))["trials"]]
    return {"count": trials[0]["shots"], "trials": trials} | summary(trials)


def tabulate(result: dict[str, Any]) -> pd.DataFrame:
    """A row for each method and number of shots: medians, interquartile ranges, and the SRCC within each subset."""
    rows = []
    for method, cells_ in result["curve"].items():
        for found in cells_.values():
            row = {"method": method, "shots": found["count"], "trials": len(found["trials"])}
            for name, value in found["median"].items():
                if not isinstance(value, dict):
                    row |= {name: value, f"{name}_iqr": found["iqr"][name]}
            row |= {f"srcc_{subset}": figures["srcc"] for subset, figures in found["median"]["within"].items()}
            rows.append(row)
    return pd.DataFrame(rows)


def draw_curve(result: dict[str, Any], path: Path) -> None:
    """The figure: median SRCC over the number of shots for each method, with a band between its quartiles."""
    every = sorted({cell["count"] for cells_ in result["curve"].values() for cell in cells_.values()})
    with drawn_figure(path, "--figure", (7, 4.2)) as figure:
        axes = figure.subplots()
        for method, cells_ in result["curve"].items():
            found = sorted(cells_.values(), key=lambda cell: cell["count"])
            counts = [cell["count"] for cell in found]
            values = [np.array([trial["srcc"] for trial in cell["trials"]], float) for cell in found]
            low, middle, high = np.array([np.nanquantile(some, (0.25, 0.5, 0.75)) for some in values]).T
            (line,) = axes.plot(counts, middle, marker="o", markersize=4, linewidth=1.4, label=method)
            axes.fill_between(counts, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        axes.set_xscale("log")
        axes.set_xticks(every, [str(count) for count in every])
        axes.set_xticks([], minor=True)
        axes.set(xlabel="rated pictures to learn from", ylabel="SRCC on the test pictures: median and quartiles")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
