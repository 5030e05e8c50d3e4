"""The commands that repeat the project's experiments."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..files import write_json
from ..printing import decimals, difference_rows, echo, print_table
from .options import (
    CACHE,
    CLIP,
    CONFIG,
    DEVICE,
    FIGURE,
    JSON,
    PLAN,
    RESULTS,
    SET,
    TASK,
    WORKERS,
    counts,
    with_table_options,
    words,
)
from .outputs import Commands

FIGURES = ("srcc", "plcc", "rmse", "cosine", "scene_accuracy", "distortion_accuracy", "alignment_auc")

SEEDS = Annotated[int, typer.Option(min=1, help="Draws of the training pool.")]

experiment = Commands(help="Repeat the project's experiments.", no_args_is_help=True)


@experiment.command("meta-vs-none")
def experiment_meta_vs_none(
    images: Annotated[Path, typer.Option(help="Folder of clean photographs.")],
    config: PLAN = "experiments/meta_vs_none",
    out: RESULTS = Path("runs/meta_vs_none"),
    figure: FIGURE = None,
    workers: WORKERS = 1,
    device: DEVICE = None,
    overrides: SET = None,
    json_file: JSON = None,
) -> None:
    """Does meta-training help? Prompts from different starts, adapted to distortions or criteria never seen."""
    from ..studies.meta_vs_none import draw_curves
    from ..studies.meta_vs_none import meta_vs_none as run

    result = run(images, config=config, out=out, workers=workers, device=device, overrides=overrides or ())
    held = "criteria on" if result["plan"]["criteria"] else "distortions of"
    medians = f"SRCC on held-out {held} held-out photographs: median (interquartile range) of {result['runs']} runs"
    _print_starts(medians, result, lambda row: f"{decimals(row['median'])} ({decimals(row['iqr'])})")
    if "joint" in result["table"]:
        _print_starts(
            "difference from joint: median of the runs", result, lambda row: decimals(row["over_joint"], sign=True)
        )
    if linear := result.get("linear"):
        echo(
            f"ridge regression on the same features: {linear['training']:.3f} fitted to all training pictures, "
            f"{linear['pool']:.3f} to the whole pool of shots"
        )
    write_json(json_file, result)
    if figure:
        draw_curves(result, figure)


def _print_starts(title: str, result: dict[str, Any], cell: Callable[[dict[str, Any]], str]) -> None:
    """A row for each start and number of steps, a column for each number of shots."""
    rows = [[arm, steps, found] for arm, each in result["table"].items() for steps, found in each.items()]
    counts = list(rows[0][2])
    cells = [[arm, steps, *(cell(found[count]) for count in counts)] for arm, steps, found in rows]
    print_table(title, ("start", "steps", *(f"{count} shots" for count in counts)), cells)


def _ablation(name: str, summary: str) -> None:
    """Make the command of an ablation, whose plan has its name."""
    own_plan = f"experiments/{name.replace('-', '_')}"

    @experiment.command(name, help=summary)
    @with_table_options
    def command(
        table: dict[str, Any],
        task: TASK = None,
        shots: Annotated[str, typer.Option(help="Ratings to learn from: 50, or 20%.")] = "20%",
        seeds: Annotated[int, typer.Option(min=1, help="Draws of shots.")] = 5,
        plan: PLAN = own_plan,
        out: RESULTS = Path("runs", name),
        workers: WORKERS = 1,
        clip: CLIP = None,
        device: DEVICE = None,
        cache: CACHE = None,
        overrides: SET = None,
        json_file: JSON = None,
    ) -> None:
        from ..studies.ablation import ablation as run

        result = run(
            plan, task=task, shots=shots, seeds=seeds, out=out, workers=workers, clip=clip, device=device,
            cache=cache, overrides=overrides or (), **table,
        )  # fmt: skip
        _report_variants(result["task"], seeds, result, json_file)


_ablation("mp-iqe-ablation", "MP-IQE without each of its parts, and with other prompt lengths.")
_ablation("gradients", "GRMP-IQA with more and fewer passes, other learning rates, and other trained parameters.")
_ablation("qgr", "GRMP-IQA with other strengths and scopes of gradient regularisation.")
_ablation("prior", "The default with other prior means, and other views.")
_ablation("views", "A Gaussian process on the image features of crops, tiles or the whole picture.")


def _report_variants(task: str, seeds: int, result: dict[str, Any], json_file: Path | None) -> None:
    for table, variants in result["tables"].items():
        names = [name for name in FIGURES if any(found["median"].get(name) is not None for found in variants.values())]
        rows = []
        for variant, found in variants.items():
            difference, interval, _ = difference_rows([found["over_first"]])
            spreads = (_spread(found["median"].get(name), found["iqr"].get(name)) for name in names)
            rows.append([variant, *spreads, difference[1], interval[1]])
        columns = ("", *names, "srcc over first", "95 % interval")
        print_table(f"{task}: {table}; medians of {seeds} draws (interquartile range)", columns, rows)
    write_json(json_file, result)


def _spread(median: float | None, iqr: float | None) -> str:
    return "-" if median is None else f"{decimals(median)} ({decimals(iqr)})"


@experiment.command("suggest")
@with_table_options
def experiment_suggest(
    table: dict[str, Any],
    task: TASK = None,
    config: CONFIG = "gp_prompts",
    shots: Annotated[str, typer.Option(help="Numbers of ratings, between commas.")] = "10,20,50,100,200",
    seeds: SEEDS = 40,
    device: DEVICE = None,
    cache: CACHE = None,
    overrides: SET = None,
    json_file: JSON = None,
) -> None:
    """Ratings of suggested pictures against ratings of random ones."""
    from ..studies.suggestion import suggestion as run

    result = run(
        config, task=task, shots=counts("--shots", shots), seeds=seeds, device=device, cache=cache,
        overrides=overrides or (), **table,
    )  # fmt: skip
    title = f"{result['task']}: mean SRCC of {seeds} draws over the number of ratings"
    rows = [[arm, *map(decimals, means.values())] for arm, means in result["table"].items()]
    rows += difference_rows(result["over_random"].values())
    print_table(title, ("ratings of", *map(str, result["over_random"])), rows)
    write_json(json_file, result)


@experiment.command("confounded")
@with_table_options
def experiment_confounded(
    table: dict[str, Any],
    task: TASK = None,
    by: Annotated[
        Literal["content", "scene", "subset"],
        typer.Option(help="What content is: the image embedding's first principal component, scenes, or subsets."),
    ] = "content",
    shots: Annotated[int, typer.Option(min=4, help="Ratings to learn from, a multiple of 4.")] = 48,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of shots.")] = 10,
    plan: PLAN = "experiments/confounded",
    out: RESULTS = Path("runs/confounded"),
    workers: WORKERS = 1,
    device: DEVICE = None,
    cache: CACHE = None,
    overrides: SET = None,
    json_file: JSON = None,
) -> None:
    """Shots in which content and quality go together: which methods follow the content?"""
    from ..studies.confounded import confounded as run

    result = run(
        plan, task=task, by=by, shots=shots, seeds=seeds, out=out, workers=workers, device=device, cache=cache,
        overrides=overrides or (), **table,
    )  # fmt: skip
    echo(f"{result['task']}: {shots} shots, tested on {result['test']} pictures; mean SRCC of {seeds} draws")
    rows, first = [], next(iter(result["arms"]))
    for label, each in result["arms"].items():
        rows.append([label, *map(decimals, (each["balanced"], each["confounded"])), "", ""])
        lost, over = (difference_rows([each[name]]) for name in ("lost", "over_first"))
        for (name, one), (_, other) in zip(lost, over, strict=True):
            rows.append([name, "", "", one, "" if label == first else other])
    print_table(None, ("shots", "balanced", "confounded", "confounded - balanced", f"over {first}"), rows)
    follows = [[label, *map(decimals, each["follows"].values())] for label, each in result["arms"].items()]
    title = "how much better the content of the good shots is predicted, in standard deviations"
    print_table(title, ("shots", "balanced", "confounded"), follows)
    write_json(json_file, result)


WEIGHED = {"the same": "equal", "by their votes": "by_votes"}


@experiment.command("raters")
@with_table_options
def experiment_raters(
    table: dict[str, Any],
    task: TASK = None,
    config: CONFIG = "gp_prompts",
    votes: Annotated[str, typer.Option(help="Numbers of votes in all, between commas.")] = "50,100,200,500,1000",
    per_picture: Annotated[str, typer.Option(help="Numbers of raters of a picture, between commas.")] = "1,3,10",
    noise: Annotated[float, typer.Option(help="Standard deviation of a vote, as a share of the rating scale.")] = 0.2,
    seeds: SEEDS = 40,
    device: DEVICE = None,
    cache: CACHE = None,
    overrides: SET = None,
    json_file: JSON = None,
) -> None:
    """More pictures rated once, or fewer rated often? With simulated votes."""
    from ..studies.raters import raters as run

    result = run(
        config, task=task, votes=counts("--votes", votes), per_picture=counts("--per-picture", per_picture),
        noise=noise, seeds=seeds, device=device, cache=cache, overrides=overrides or (), **table,
    )  # fmt: skip
    title = f"{result['task']}: mean SRCC of {seeds} draws over the number of votes"
    rows = []
    for number, means in result["table"].items():
        rows.append([number, *map(decimals, means.values())])
        if over := result["over_one"].get(number):
            rows += difference_rows([over.get(count) for count in means])
    print_table(title, ("raters a picture", *map(str, next(iter(result["table"].values())))), rows)
    if weighed := result["weights"]:
        numbers = counts("--per-picture", per_picture)
        title = f"{min(numbers)} or {max(numbers)} raters a picture by turns: mean SRCC over the number of pictures"
        rows = [[name, *(decimals(by[key]) for by in weighed.values())] for name, key in WEIGHED.items()]
        rows += difference_rows([by["difference"] for by in weighed.values()])
        print_table(title, ("ratings weigh", *map(str, weighed)), rows)
    write_json(json_file, result)


@experiment.command("agiqa-standin")
def experiment_agiqa_standin(
    root: Annotated[Path, typer.Option(help="Folder that holds --images and --captions.")],
    images: Annotated[str, typer.Option(help="Folder of photographs inside root.")] = "semantic/flickr",
    captions: Annotated[
        str, typer.Option(help="Table inside root, with the columns image and caption.")
    ] = "semantic/flickr_captions.txt",
    training: Annotated[int, typer.Option(min=2, help="Photographs to train on.")] = 200,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of prompts and batches.")] = 5,
    plan: PLAN = "experiments/agiqa_standin",
    out: Annotated[Path, typer.Option(help="Folder of pictures and results; repeat the command to go on.")] = Path(
        "runs/agiqa_standin"
    ),
    workers: WORKERS = 1,
    clip: CLIP = None,
    device: DEVICE = None,
    overrides: SET = None,
    json_file: JSON = None,
) -> None:
    """CLIP-AGIQA on distorted photographs with captions, half of which belong to another photograph."""
    from ..studies.standin import standin as run

    result = run(
        root, images=images, captions=captions, training=training, seeds=seeds, plan=plan, out=out, workers=workers,
        clip=clip, device=device, overrides=overrides or (),
    )  # fmt: skip
    _report_variants("captioned photographs", seeds, result, json_file)


@experiment.command("backbone")
def experiment_backbone(
    root: Annotated[Path, typer.Option(help="Folder that holds biq2021 and the sources of configs/pretrain.yaml.")],
    clip: CLIP = None,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of shots for ridge regression.")] = 10,
    adapted: Annotated[
        str | None,
        typer.Option(help="Numbers of shots for GRMP-IQA, three draws each, separated by commas. Default: none."),
    ] = None,
    device: DEVICE = None,
    json_file: JSON = None,
) -> None:
    """How well a CLIP predicts quality: zero-shot, and after a few ratings."""
    from ..studies.backbone import backbone as run

    shots = words(adapted) if adapted else []
    result = run(root, clip=clip or "tiny", seeds=seeds, adapted=shots, device=device)
    rows = []
    for method in ("ridge", "grmp"):
        for count, found in result.get(method, {}).items():
            rows.append([method, count, *map(decimals, (found["srcc"], found["iqr"], *found["within"].values()))])
    subsets = list(next(iter(result["ridge"].values()))["within"])
    print_table("BIQ2021's test rows, SRCC", ("method", "shots", "median", "IQR", *subsets), rows)
    zero_shot = [[name, decimals(value)] for name, value in result["zero_shot"].items()]
    print_table('"Good photo." against "Bad photo.", SRCC', ("pictures", "zero-shot"), zero_shot)
    named = [[what, f"{n['share']:.1%}", n["names"], n["pictures"]] for what, n in result["named"].items()]
    print_table("zero-shot classification", ("classes of", "accuracy", "classes", "pictures"), named)
    echo(f"CLIP {result['clip']}: {result['milliseconds']:.0f} ms per crop on one CPU thread")
    write_json(json_file, result)
