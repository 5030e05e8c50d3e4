"""Tables of papers: their methods on the data sets that are there, by the honest protocol, beside their numbers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import load_config, load_experiment, split_overrides
from ..config.experiment import PaperRow, PaperSpec
from ..data.split_files import RANDOM
from ..errors import InputError, nearest
from ..lock import one_writer
from ..model.checkpoint import versions
from ..resources import available
from ..types import Shots
from . import cells
from .adaptation import adapt
from .curve import applies, curve
from .evaluating import evaluate
from .sources import read_source

METRICS = ("srcc", "plcc")


@dataclass(frozen=True)
class Row:
    """A row of the table, and what its data come to: the number of `labels` to learn from and of pictures that are
    `tested`, or what is `missing`. What it costs: so many methods learn `by_gradients`, from so many `crops` on one
    split."""

    spec: PaperRow
    labels: int | None = None
    tested: int | None = None
    by_gradients: int = 0
    crops: int = 0
    missing: str | None = None

    @property
    def name(self) -> str:
        return f"{self.spec.task} -> {self.spec.tested_on}" if self.spec.tested_on else self.spec.task


def tables() -> dict[str, PaperSpec]:
    """{name: table} of all that can be reproduced."""
    return {name: load_table(name) for name in available("configs/paper")}


def load_table(name: str) -> PaperSpec:
    """A table by its name, or a .yaml file of its own."""
    known = available("configs/paper")
    if not name.endswith((".yaml", ".yml")) and name not in known:
        raise InputError(f"{name}: no such table.{nearest(name, known)} There are {', '.join(known)}")
    return load_experiment(name if name not in known else f"paper/{name}", kind=PaperSpec)


def plan(table: PaperSpec, data: Path) -> list[Row]:
    """The rows, with what of their data lies in the folder `data`: a folder for each task, of its name."""
    return [_row(spec, table, data) for spec in table.rows]


@one_writer()
def reproduce(
    table: PaperSpec,
    data: Path,
    *,
    methods: Sequence[str] | None = None,
    seeds: int | None = None,
    clip: str | None = None,
    start: str | None = None,
    out: str | Path = "runs/reproduce",
    workers: int = 1,
    device: str | None = None,
    cache: str | Path | None = None,
    overrides: Sequence[str] = (),
    released: bool = False,
) -> dict[str, Any]:
    """Compute the rows whose data are there: {"rows": [{"row", "shots", "labels", "tested", "methods"}], "missing"}.

    `methods` is {method: {"srcc", "plcc", "trials", "paper"}}; `missing` names the rows whose data are not there.

    Each trial is a file in `out`, and is not computed again. Test pictures choose nothing, whatever a paper did. With
    `released`, the splits are those of the paper's code, and `best_look` {"srcc", "plcc"} of a method that learns by
    gradients is its best moment on the test.
    """
    if released and table.released is None:
        raise InputError(f"--released: of '{table.title}' no code was released")
    protocol = table.released if released else None
    chosen = {name: arm for name, arm in table.methods.items() if methods is None or name in methods}
    for name in methods or ():
        if name not in table.methods:
            raise InputError(f"--methods {name}: no such method.{nearest(name, list(table.methods))}")
    rows = plan(table, data)
    if all(row.missing for row in rows):
        raise InputError(f"--data {data}: {rows[0].missing}; `fsiqa reproduce --dry-run` lists what each row needs")
    found: list[dict[str, Any]] = []
    count = seeds or table.seeds
    options: dict[str, Any] = {"clip": clip, "start": start, "device": device, "cache": cache}
    for number, row in enumerate(rows):
        if row.missing:
            continue
        arms = {name: (arm.config, [*arm.set, *row.spec.set.get(name, ())]) for name, arm in chosen.items()}
        folder = Path(out) / f"{number}-{row.spec.task}-{row.spec.tested_on or row.spec.shots}"
        labels = row.labels
        if row.spec.tested_on:
            trials = _across(row.spec, arms, data, folder, count, options, overrides)
        else:
            result = curve(
                arms, task=row.spec.task, root=data / row.spec.task, shots=[row.spec.shots], seeds=count, out=folder,
                splits=protocol.splits if protocol else RANDOM, looks=protocol.looks if protocol else 0,
                workers=workers, overrides=[f"task.test={table.test}", *overrides], **options,
            )  # fmt: skip
            (labels,) = {each["count"] for some in result["curve"].values() for each in some.values()}
            trials = {name: each[row.spec.shots]["trials"] for name, each in result["curve"].items()}
        of = {name: _summary(each, table.statistic, row.spec.paper.get(name, {})) for name, each in trials.items()}
        found.append({"row": row.name, "shots": row.spec.shots, "labels": labels, "tested": row.tested, "methods": of})
    return {
        "table": table.title,
        "source": table.source,
        "seeds": count,
        "statistic": table.statistic,
        "released": protocol.model_dump() if protocol else None,
        "clip": clip,
        "overrides": list(overrides),
        "versions": versions(),
        "rows": found,
        "missing": [f"{row.name}: {row.missing}" for row in rows if row.missing],
    }


def _row(spec: PaperRow, table: PaperSpec, data: Path) -> Row:
    try:
        learned = len(read_source(spec.task, root=data / spec.task, splits=RANDOM).records)
        if spec.tested_on:
            other = read_source(spec.tested_on, root=data / spec.tested_on, splits=RANDOM)
            return Row(spec, learned, len(other.records), *_cost(spec, table, learned))
    except InputError as error:
        return Row(spec, missing=str(error))
    tested = round(table.test * learned)
    labels = Shots.parse(spec.shots).of(learned - tested)
    return Row(spec, labels, tested, *_cost(spec, table, labels))


def _cost(row: PaperRow, table: PaperSpec, labels: int) -> tuple[int, int]:
    """How many methods of a row learn by gradients, and from how many crops on one split."""
    every = (load_config(arm.config, [*arm.set, *row.set.get(name, ())]) for name, arm in table.methods.items())
    crops = [each.adapt.steps_for(labels) * min(each.adapt.batch, labels) for each in every if each.adapt]
    return len(crops), sum(crops)


def _across(
    row: PaperRow,
    arms: Mapping[str, tuple[str, Sequence[str]]],
    data: Path,
    folder: Path,
    seeds: int,
    options: Mapping[str, Any],
    overrides: Sequence[str],
) -> dict[str, list[dict[str, Any]]]:
    """Trials of methods that learn from all of one data set, and are tested on all of another."""
    assert row.tested_on is not None
    _, for_task = split_overrides(overrides)
    own_of = {name: [text for text in overrides if applies(load_config(arm[0]), text)] for name, arm in arms.items()}
    about = {name: [str(config), *changes, *own_of[name]] for name, (config, changes) in arms.items()}
    given = {name: str(options[name]) for name in ("clip", "start")}
    cells.claim(folder, {"row": row.model_dump(mode="json"), "task": list(for_task), **given}, about)
    found: dict[str, list[dict[str, Any]]] = {}
    for name, (config, changes) in arms.items():
        for seed in range(seeds):
            file = folder / f"{name}-seed{seed}.json"
            if not file.is_file():
                model = folder / f"{name}-seed{seed}"
                adapt(
                    config, task=row.task, root=data / row.task, splits=RANDOM, seed=seed, out=model,
                    overrides=[*changes, *own_of[name]], **options,
                )  # fmt: skip
                other = data / row.tested_on
                tested = evaluate(model, task=row.tested_on, root=other, splits=RANDOM, overrides=for_task)
                cells.write(file, {"seed": seed, **tested.metrics})
            found.setdefault(name, []).append(cells.read(file))
    return found


def _summary(trials: Sequence[Mapping[str, Any]], statistic: str, paper: Mapping[str, float]) -> dict[str, Any]:
    take = statistics.median if statistic == "median" else statistics.fmean

    def over(entries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        return {name: take([float(entry[name] or 0) for entry in entries]) for name in METRICS}

    found: dict[str, Any] = {**over(trials), "trials": len(trials), "paper": dict(paper)}
    looks = [trial["best_look"] for trial in trials if "best_look" in trial]
    return {**found, "best_look": over(looks)} if looks else found
