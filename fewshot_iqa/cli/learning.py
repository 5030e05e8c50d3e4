"""The commands that learn: metatrain, adapt, curve, pretrain."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..printing import decimals, nearby, print_metrics, print_table, write_csv, write_json
from .options import (
    CHECKPOINT,
    CLIP,
    CONFIG,
    CSV,
    DEVICE,
    FIGURE,
    FOLDS,
    GROUP,
    IMAGE_COLUMN,
    JSON,
    LABELS,
    LOWER_IS_BETTER,
    RESULTS,
    RESUME,
    ROOT,
    SCORE_COLUMN,
    SEED,
    SET,
    SHOTS,
    START,
    TASK,
    TEST,
    WORKERS,
    words,
    writable,
)


def metatrain(
    config: CONFIG = "grmp",
    task: Annotated[str, typer.Option(help="Source of synthetic pictures.")] = "synthetic",
    images: Annotated[Path | None, typer.Option(help="Your folder of clean photographs.")] = None,
    clip: CLIP = None,
    out: CHECKPOINT = Path("runs/metatrain"),
    seed: SEED = None,
    device: DEVICE = None,
    overrides: SET = None,
    resume: RESUME = False,
    json_file: JSON = None,
) -> None:
    """Meta-train prompts on synthetic distortion tasks."""
    from ..recipes.metatraining import metatrain as run

    result = run(
        config, task=task, images=images, clip=clip, out=out, seed=seed, device=device,
        overrides=overrides or (), resume=resume,
    )  # fmt: skip
    history = result.facts["history"]
    rows = {f"step {entry['step']}": entry for entry in history}
    print_metrics("held-out distortions of held-out photographs, before any adaptation", rows)
    typer.echo(f"prompts of step {result.facts['step']} kept in {nearby(result.out)}")
    write_json(json_file, result.facts)


def adapt(
    config: Annotated[
        str | None, typer.Option(help="Method. Default: that of --from or runs/metatrain, else grmp.")
    ] = None,
    task: TASK = "demo",
    shots: SHOTS = "20%",
    start: START = None,
    root: ROOT = None,
    labels: LABELS = None,
    image_column: IMAGE_COLUMN = None,
    score_column: SCORE_COLUMN = None,
    group: GROUP = None,
    lower_is_better: LOWER_IS_BETTER = False,
    test: TEST = None,
    folds: FOLDS = None,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of shots, from --seed on; --out keeps the first.")] = 1,
    clip: CLIP = None,
    out: CHECKPOINT = Path("runs/adapt"),
    seed: SEED = None,
    device: DEVICE = None,
    overrides: SET = None,
    csv_file: Annotated[
        Path | None,
        typer.Option(
            "--csv", metavar="FILE", callback=writable, help="Write each picture's rating and prediction here."
        ),
    ] = None,
    json_file: JSON = None,
) -> None:
    """Adapt to a few rated pictures, and test once on others."""
    from ..recipes.adaptation import adapt as run

    result = run(
        config, task=task, shots=shots, start=start, root=root, labels=labels, image_column=image_column,
        score_column=score_column, group=group, lower_is_better=lower_is_better, test=test, folds=folds, seeds=seeds,
        clip=clip, out=out, seed=seed, device=device, overrides=overrides or (),
    )  # fmt: skip
    facts, first = result.facts, result.facts["seeds"][0]
    several = len(facts["seeds"]) > 1
    title = f"{task}: {first['shots']} shots of {first['pool']}, tested on {first['test']} pictures"
    if several:
        title += f"; median of {len(facts['seeds'])} trials (interquartile range)"
    print_metrics(title, _stages(facts["median"]), _stages(facts["iqr"]) if several else None)
    if (coverage := facts["median"].get("coverage")) is not None:
        typer.echo(f"{coverage:.0%} of the test ratings lie within the predicted 90 % intervals")
    for target in ("scene", "distortion"):
        if (accuracy := facts["median"].get(f"{target}_accuracy")) is not None:
            typer.echo(f"the likeliest {target} is right in {accuracy:.0%} of the test pictures that have one")
    for name, what in (("srcc", "SRCC"), ("auc", "area under the ROC curve")):
        if (value := facts["median"].get(f"alignment_{name}")) is not None:
            typer.echo(f"alignment of image and prompt: {what} {value:.3f}")
    which = " the first" if several else ""
    typer.echo(f"started from {nearby(facts['start'])}; saved{which} in {nearby(result.out)}")
    write_csv(csv_file, result.pictures)
    write_json(json_file, facts)


def _stages(found: dict[str, Any]) -> dict[str, Any]:
    """What is printed of a trial: before, after, and that within each subset."""
    before = {"before adaptation": found["zero_step"]} if found["zero_step"] else {}
    return before | {"after adaptation": found} | {f"  within {name}": row for name, row in found["within"].items()}


def curve(
    task: TASK = "demo",
    methods: Annotated[str, typer.Option(help="Configs between commas.")] = "grmp,coop,ridge,clip_iqa",
    shots: Annotated[str, typer.Option(help="Numbers or shares, between commas.")] = "10,20,50,20%",
    seeds: Annotated[int, typer.Option(min=1, help="Draws of shots.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="The first of their seeds.")] = 0,
    start: START = None,
    root: ROOT = None,
    labels: LABELS = None,
    image_column: IMAGE_COLUMN = None,
    score_column: SCORE_COLUMN = None,
    group: GROUP = None,
    lower_is_better: LOWER_IS_BETTER = False,
    test: TEST = None,
    folds: FOLDS = None,
    clip: CLIP = None,
    out: RESULTS = Path("runs/curve"),
    workers: WORKERS = 1,
    device: DEVICE = None,
    overrides: SET = None,
    csv_file: CSV = None,
    figure: FIGURE = None,
    json_file: JSON = None,
) -> None:
    """Compare methods over the number of shots, on the same draws and tests."""
    from ..recipes.curve import curve as run
    from ..recipes.curve import draw_curve, tabulate

    result = run(
        words(methods), task=task, shots=words(shots), seeds=seeds, seed=seed, start=start, root=root, labels=labels,
        image_column=image_column, score_column=score_column, group=group, lower_is_better=lower_is_better, test=test,
        folds=folds, clip=clip, out=out, workers=workers, device=device, overrides=overrides or (),
    )  # fmt: skip
    table = tabulate(result)
    write_csv(csv_file, table)
    within = [name for name in map(str, table.columns) if name.startswith("srcc_") and name != "srcc_iqr"]
    sure = ["coverage"] if "coverage" in table else []
    shown = ["srcc", "plcc", "rmse", *sure, *within]
    columns = ("method", "shots", *(name.removeprefix("srcc_") for name in shown))
    rows = [[row["method"], row["shots"], *(decimals(row[name]) for name in shown)] for row in table.to_dict("records")]
    title = f"{task}: medians of {table['trials'].iloc[0]} trials"
    title += "; coverage of 90 % intervals" if sure else ""
    title += "; SRCC within each subset" if within else ""
    print_table(title, columns, rows)
    table["headline"] = table["srcc"].map(decimals) + " (" + table["srcc_iqr"].map(decimals) + ")"
    once = table.drop_duplicates(["method", "shots"])  # of a number and a share that come to the same
    headline = once.pivot(index="method", columns="shots", values="headline").loc[list(result["curve"])]
    title = "SRCC over the number of shots: median (interquartile range)"
    print_table(title, ("method", *map(str, headline)), headline.reset_index().to_numpy().tolist())
    write_json(json_file, result)
    if figure:
        draw_curve(result, figure)


def pretrain(
    root: Annotated[Path, typer.Option(help="Folder that holds the sources of the configuration.")],
    config: Annotated[str, typer.Option(help="Recipe: a name, or a .yaml file.")] = "pretrain",
    out: Annotated[Path, typer.Option(help="Folder of the weights and the training state.")] = Path("runs/pretrain"),
    seed: SEED = None,
    device: DEVICE = None,
    overrides: SET = None,
    resume: RESUME = False,
) -> None:
    """Train the embedded CLIP anew (an hour on two cores)."""
    from ..pretraining.recipe import pretrain as run

    weights = run(root, config, out=out, seed=seed, device=device, overrides=overrides or (), resume=resume)
    typer.echo(f"weights in {weights}")
