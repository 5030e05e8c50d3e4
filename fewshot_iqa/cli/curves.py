"""The command that compares methods: curve."""

import statistics
from pathlib import Path
from typing import Annotated, Any

from ..files import write_csv, write_json
from ..printing import decimals, difference_rows, print_table
from .checks import check_run
from .options import (
    CACHE,
    CLIP,
    DEVICE,
    FIGURE,
    JSON,
    METHOD,
    PROTOCOL,
    RESULTS,
    SET,
    START,
    TASK,
    WORKERS,
    option,
    with_table_options,
    words,
)
from .outputs import OUTPUT, table_file

SHOWN = 6  # subsets, at most, with a column of their own


@with_table_options
def curve(
    table: dict[str, Any],
    task: TASK = None,
    methods: Annotated[
        str, option(METHOD, "LIST", "Names from `fsiqa configs`, or .yaml files, between commas.")
    ] = "gp_prompts,grmp,coop,ridge,clip_iqa",
    start: START = None,
    clip: CLIP = None,
    overrides: SET = None,
    device: DEVICE = None,
    shots: Annotated[
        str | None,
        option(PROTOCOL, "LIST", "Numbers or shares, between commas. Default: 10,20,50,20%, if there are so many."),
    ] = None,
    seeds: Annotated[
        int | None, option(PROTOCOL, "N", "Draws of shots. Default: 40, and 10 for methods with gradients.", min=1)
    ] = None,
    seed: Annotated[int, option(PROTOCOL, "N", "First random seed.", min=0)] = 0,
    reference: Annotated[
        str | None, option(PROTOCOL, "NAME", "The method that others are compared with. Default: the first.")
    ] = None,
    workers: WORKERS = 1,
    cache: CACHE = None,
    out: RESULTS = Path("runs/curve"),
    csv_file: Annotated[
        Path | None,
        option(OUTPUT, "FILE", "Write the table here.", "--csv", callback=table_file("method", "shots")),
    ] = None,
    figure: FIGURE = None,
    json_file: JSON = None,
) -> None:
    """Compare methods over the number of shots, on the same draws and test images."""
    sections = [text for text in overrides or () if text.startswith("task.")]  # others may be for some methods only
    counts = None if shots is None else words(shots)
    check_run(words(methods), sections, shots=counts or (), start=start, task=task, table=table, clip=clip)
    from ..recipes.curve import curve as run

    result = run(
        words(methods), task=task, shots=counts, seeds=seeds, seed=seed, reference=reference, start=start, clip=clip,
        out=out, workers=workers, device=device, cache=cache, overrides=overrides or (), **table,
    )  # fmt: skip
    found = result.table
    write_csv(csv_file, found)
    within = [name for name in map(str, found.columns) if name.startswith("srcc_") and name != "srcc_iqr"]
    within = within if len(within) <= SHOWN else []  # the others are in --csv
    coverage = ["coverage"] if "coverage" in found else []
    shown = ["srcc", "plcc", "rmse", *coverage, *within]
    columns = ("method", "shots", "tests", *(name.removeprefix("srcc_") for name in shown))
    rows = [
        [row["method"], row["shots"], row["trials"], *(decimals(row[name]) for name in shown)]
        for row in found.to_dict("records")
    ]
    title = f"{result['task']}: medians over tests; rmse of quality in [0, 1]"
    title += "; mean coverage of 90 % intervals" if coverage else ""
    title += "; SRCC within each subset" if within else ""
    print_table(title, columns, rows)
    found["headline"] = found["srcc"].map(decimals) + " (" + found["srcc_iqr"].map(decimals) + ")"
    once = found.drop_duplicates(["method", "shots"])  # of a number and a share that come to the same
    headline = once.pivot(index="method", columns="shots", values="headline").loc[list(result["curve"])]
    title = "SRCC over the number of shots: median (interquartile range)"
    print_table(title, ("method", *map(str, headline)), headline.reset_index().to_numpy().tolist())
    if len(result["curve"]) > 1:
        _print_differences(result)
    write_json(json_file, result)
    if figure:
        result.plot(figure)


def _print_differences(result: dict[str, Any]) -> None:
    """How each method differs from the reference, with a column for each number of shots."""
    from ..recipes.results import srcc_of

    title = f"mean SRCC of {result['reference']}, and how others differ from it on the same draws"
    (reference, cells), *others = sorted(result["curve"].items(), key=lambda item: item[0] != result["reference"])
    once = {cell["count"]: text for text, cell in cells.items()}  # a number and a share may come to the same
    means = [statistics.fmean(map(srcc_of, cells[text]["trials"])) for text in once.values()]
    rows = [[reference, *map(decimals, means)]]
    for method, found in others:
        rows.append([method, *("" for _ in once)])
        rows += difference_rows(found[text]["over_reference"] for text in once.values())
    print_table(title, ("", *map(str, once)), rows)
