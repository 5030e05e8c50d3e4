"""The command that repeats the tables of papers: reproduce."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..files import write_json
from ..printing import decimals, echo, print_table
from .options import (
    CACHE,
    CLIP,
    DATA,
    DEVICE,
    JSON,
    METHOD,
    PROTOCOL,
    RESULTS,
    SET,
    START,
    WORKERS,
    option,
    words,
)
from .outputs import OUTPUT

if TYPE_CHECKING:
    from ..config.experiment import PaperSpec
    from ..recipes.papers import Row


def reproduce(
    table: Annotated[str | None, typer.Argument(metavar="TABLE", help="A name from --list, or a .yaml file.")] = None,
    data: Annotated[Path, option(DATA, "FOLDER", "Holds a folder of each data set, named as its task.")] = Path("data"),
    methods: Annotated[str | None, option(METHOD, "LIST", "Some of the table's methods. Default: all.")] = None,
    clip: CLIP = None,
    start: START = None,
    overrides: SET = None,
    device: DEVICE = None,
    seeds: Annotated[int | None, option(PROTOCOL, "N", "Splits. Default: the table's.", min=1)] = None,
    workers: WORKERS = 1,
    cache: CACHE = None,
    listed: Annotated[bool, option(OUTPUT, None, "List the tables.", "--list")] = False,
    released: Annotated[bool, option(PROTOCOL, None, "By the paper's released code: tests choose the step.")] = False,
    dry_run: Annotated[bool, option(OUTPUT, None, "Show the plan, and what is missing.", "--dry-run")] = False,
    out: RESULTS = Path("runs/reproduce"),
    json_file: JSON = None,
) -> None:
    """Repeat a paper's table on your copies of its data sets; its numbers stand beside."""
    from ..recipes import papers

    if listed or table is None:
        _print_tables(papers.tables())
        return
    spec = papers.load_table(table)
    if dry_run:
        _print_plan(spec, papers.plan(spec, data), seeds or spec.seeds, released)
        return
    result = papers.reproduce(
        spec, data, methods=None if methods is None else words(methods), seeds=seeds, clip=clip, start=start,
        out=out / (Path(table).stem + "-released" * released), workers=workers, device=device, cache=cache,
        overrides=overrides or (), released=released,
    )  # fmt: skip
    rows: list[list[Any]] = []
    for row in result["rows"]:
        shown = [row["row"], f"{row['labels']} ({row['shots']})", row["tested"]]
        for name, each in row["methods"].items():
            sides = [each, *([each.get("best_look", {})] if released else []), each["paper"]]
            rows.append([*shown, name, *(decimals(of.get(metric)) for of in sides for metric in papers.METRICS)])
            shown = ["", "", ""]
    kinds = ["", *(["best look "] if released else []), "paper "]
    columns = ("data", "labels", "tested", "method", *(kind + metric for kind in kinds for metric in papers.METRICS))
    kind = f"{result['released']['splits']} " if released else ""
    of = f"one {kind}split" if result["seeds"] == 1 else f"{spec.statistic} of {result['seeds']} {kind}splits"
    print_table(f"{spec.title}; {of}, test pictures choose nothing", columns, rows)
    notes = [f"missing: {line}" for line in result["missing"]]
    if released:
        looks = f"the best of {result['released']['looks']} looks at the test while a method learns"
        notes.append(f"best look: {looks}, as the released code has it; not a fair measurement")
    _print_notes(spec, notes)
    write_json(json_file, result)


def _print_tables(found: "dict[str, PaperSpec]") -> None:
    rows = []
    for name, each in found.items():
        rows.append([name, each.title, ", ".join(dict.fromkeys(row.task for row in each.rows))])
    print_table(None, ("table", "what it is", "data sets"), rows)


def _print_plan(spec: "PaperSpec", rows: "Sequence[Row]", seeds: int, released: bool) -> None:
    shown = [
        [row.name, row.spec.shots, row.labels or "-", row.tested or "-", row.crops or "-", row.missing or "there"]
        for row in rows
    ]
    print_table(spec.title, ("data", "shots", "labels", "tested", "crops", "data set"), shown)
    there = sum(row.missing is None for row in rows)
    methods = f"{len(spec.methods)} methods ({', '.join(spec.methods)})"
    echo(f"{there} of {len(rows)} rows, each with {methods} on {seeds} split{'s' * (seeds > 1)}")
    looks = spec.released.looks if released and spec.released else 0
    crops = seeds * sum(row.crops for row in rows)
    tests = seeds * sum((row.tested or 0) * (len(spec.methods) + looks * row.by_gradients) for row in rows)
    echo(f"cost: {crops} training crops, {tests} test images; `fsiqa bench` measures the speed of this machine")
    _print_notes(spec)


def _print_notes(spec: "PaperSpec", more: Sequence[str] = ()) -> None:
    for line in (f"paper: {spec.source}", *spec.notes, *more):
        echo(line)
