"""Learning curves: methods side by side over the number of shots, on the same splits, draws and test pictures."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from .. import progress
from ..errors import InputError
from ..model import checkpoint
from ..types import Shots
from . import cells
from .adaptation import rated_pictures, start_of
from .common import choose_device, read_all, read_settings
from .protocol import Draw, Memory, Protocol, before_learning, draws, loader_of, summary, try_on

METHODS = ("grmp", "coop", "ridge", "clip_iqa")


def curve(
    methods: Sequence[str] = METHODS,
    *,
    task: str = "demo",
    shots: Sequence[str | int] = ("10", "20", "50", "20%"),
    seeds: int = 10,
    folds: int | None = None,
    start: str | Path | None = None,
    clip: str | None = None,
    out: str | Path = "runs/curve",
    workers: int = 1,
    device: str | None = None,
    overrides: Iterable[str] = (),
    **table: Any,
) -> dict[str, Any]:
    """Adapt by each of `methods` with each number of `shots`, `seeds` times; `table` is as `adapt` has it.

    Each result is a file in `out`, and what is there already is not computed again. A method with a meta stage begins
    from `start`, by default as `adapt` does; the others from fresh prompts. In what is returned, `curve` is {method:
    {shots: {"count", "trials", "median", "iqr"}}}, figures as `adapt` has them.
    """
    folder, place, overrides = Path(out), choose_device(device), list(overrides)
    wanted = [Shots.parse(count) for count in shots]
    protocols: dict[str, Protocol] = {}
    for name in methods:
        settings, for_task = read_settings(name, clip, None, overrides)
        source = rated_pictures(task, for_task, folds=folds, **table)
        parent = start_of(settings, start) if settings.meta else None
        label = Path(name).stem
        if label in protocols:
            raise InputError(f"--methods {','.join(methods)}: two are named '{label}'")
        protocols[label] = Protocol(settings, source, wanted[0], parent, place, folds)
    first = protocols[label]
    drawn = {(c.text, seed): draws(replace(first, shots=c), [seed]) for c in wanted for seed in range(seeds)}
    plan = {"task": task, "source": first.source.model_dump(mode="json"), "folds": folds}
    cells.claim(folder, plan, {label: _identity(protocol) for label, protocol in protocols.items()})

    missing = {label: [job for job in drawn if not _file(folder, label, *job).is_file()] for label in protocols}
    jobs = sum(map(len, missing.values()))
    if jobs:
        every = [draw for some in drawn.values() for draw in some]
        read_all(loader_of(first, every[0]), [record for draw in every for record in (*draw.shots, *draw.test)])
    with progress.track("trials", jobs) as log:
        for label, protocol in protocols.items():
            known = before_learning(protocol, [draw for job in missing[label] for draw in drawn[job]])
            todo = (delayed(_cell)(_file(folder, label, *job), protocol, drawn[job], known) for job in missing[label])
            # what is not trained takes no time: only to be sent elsewhere
            processes = workers if protocol.settings.adapt else 1
            for _ in Parallel(processes, return_as="generator_unordered")(todo):
                log({})
    found = {label: {c.text: _found(folder, label, c.text, seeds) for c in wanted} for label in protocols}
    return {"task": task, "curve": found, "plan": plan, "versions": checkpoint.versions()}


def _cell(file: Path, protocol: Protocol, drawn: Sequence[Draw], known: Memory) -> None:
    with progress.quiet():
        cells.write(file, {"trials": [try_on(protocol, draw, known).entry for draw in drawn]})


def _file(folder: Path, label: str, count: str, seed: int) -> Path:
    return folder / f"{label}-{count}-seed{seed}.json"


def _identity(protocol: Protocol) -> dict[str, Any]:
    """What a method's results depend on beside the plan."""
    start = protocol.start and {"folder": str(protocol.start), "weights": checkpoint.fingerprint(protocol.start)}
    return {"config": protocol.settings.model_dump(mode="json"), "start": start}


def _found(folder: Path, label: str, count: str, seeds: int) -> dict[str, Any]:
    trials = [trial for seed in range(seeds) for trial in cells.read(_file(folder, label, count, seed))["trials"]]
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
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    every = sorted({cell["count"] for cells_ in result["curve"].values() for cell in cells_.values()})
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
    axes.legend(frameon=False)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise InputError(f"--figure {path}: cannot be drawn ({error})") from None
