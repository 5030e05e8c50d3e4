"""The command line. Heavy imports wait inside the commands, so that `fsiqa --help` answers at once."""

import csv
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from ..printing import decimals, open_text, print_metrics, print_table, rounded, with_spread, write_json
from .options import (
    CLIP,
    CONFIG,
    DEVICE,
    FOLDS,
    IMAGE_COLUMN,
    JSON,
    LABELS,
    LOWER_IS_BETTER,
    RESUME,
    ROOT,
    SCORE_COLUMN,
    SEED,
    SET,
    START,
    TEST,
    numbers,
    words,
)
from .studies import bench, experiment

SCORE_COLUMNS = ("image", "quality", "quality_sd", "rating", "rating_sd", "note")

app = typer.Typer(
    help="Learn to judge image quality from a handful of rated pictures.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(bench, name="bench")
app.add_typer(experiment, name="experiment")


@app.command()
def metatrain(
    config: CONFIG = "grmp",
    task: Annotated[str, typer.Option(help="Source of synthetic pictures.")] = "synthetic",
    images: Annotated[Path | None, typer.Option(help="Your folder of clean photographs.")] = None,
    clip: CLIP = None,
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint.")] = Path("runs/metatrain"),
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
    typer.echo(f"prompts of step {result.facts['step']} kept in {result.out}")
    write_json(json_file, result.facts)


@app.command()
def adapt(
    config: Annotated[
        str | None, typer.Option(help="Method. Default: that of --from or runs/metatrain, else grmp.")
    ] = None,
    task: Annotated[str, typer.Option(help="Source of rated pictures, from `fsiqa tasks`.")] = "demo",
    shots: Annotated[str, typer.Option(help="How many to learn from: 50, or 20%.")] = "20%",
    start: START = None,
    root: ROOT = None,
    labels: LABELS = None,
    image_column: IMAGE_COLUMN = None,
    score_column: SCORE_COLUMN = None,
    lower_is_better: LOWER_IS_BETTER = False,
    test: TEST = None,
    folds: FOLDS = None,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of shots, from --seed on; --out keeps the first.")] = 1,
    clip: CLIP = None,
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint.")] = Path("runs/adapt"),
    seed: SEED = None,
    device: DEVICE = None,
    overrides: SET = None,
    json_file: JSON = None,
) -> None:
    """Adapt to a few rated pictures, and test once on others."""
    from ..recipes.adaptation import adapt as run

    result = run(
        config, task=task, shots=shots, start=start, root=root, labels=labels, image_column=image_column,
        score_column=score_column, lower_is_better=lower_is_better, test=test, folds=folds, seeds=seeds, clip=clip,
        out=out, seed=seed, device=device, overrides=overrides or (),
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
    typer.echo(f"started from {facts['start']}; saved{' the first' if several else ''} in {result.out}")
    write_json(json_file, facts)


def _stages(found: dict[str, Any]) -> dict[str, Any]:
    """What is printed of a trial: before, after, and that within each subset."""
    before = {"before adaptation": found["zero_step"]} if found["zero_step"] else {}
    return before | {"after adaptation": found} | {f"  within {name}": row for name, row in found["within"].items()}


@app.command()
def curve(
    task: Annotated[str, typer.Option(help="Source of rated pictures, from `fsiqa tasks`.")] = "demo",
    methods: Annotated[str, typer.Option(help="Configs between commas.")] = "grmp,coop,ridge,clip_iqa",
    shots: Annotated[str, typer.Option(help="Numbers or shares, between commas.")] = "10,20,50,20%",
    seeds: Annotated[int, typer.Option(min=1, help="Draws of shots.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="The first of their seeds.")] = 0,
    start: START = None,
    root: ROOT = None,
    labels: LABELS = None,
    image_column: IMAGE_COLUMN = None,
    score_column: SCORE_COLUMN = None,
    lower_is_better: LOWER_IS_BETTER = False,
    test: TEST = None,
    folds: FOLDS = None,
    clip: CLIP = None,
    out: Annotated[Path, typer.Option(help="Folder of the results; repeat the command to go on.")] = Path("runs/curve"),
    workers: Annotated[int, typer.Option(min=1, help="Trials at a time, in processes of their own.")] = 1,
    device: DEVICE = None,
    overrides: SET = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the table here.")] = None,
    figure: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the curves.")] = None,
    json_file: JSON = None,
) -> None:
    """Compare methods over the number of shots, on the same draws and tests."""
    from ..recipes.curve import curve as run
    from ..recipes.curve import draw_curve, tabulate

    result = run(
        words(methods), task=task, shots=words(shots), seeds=seeds, seed=seed, start=start, root=root, labels=labels,
        image_column=image_column, score_column=score_column, lower_is_better=lower_is_better, test=test, folds=folds,
        clip=clip, out=out, workers=workers, device=device, overrides=overrides or (),
    )  # fmt: skip
    table = tabulate(result)
    within = [name for name in map(str, table.columns) if name.startswith("srcc_") and name != "srcc_iqr"]
    shown = ["srcc", "srcc_iqr", "plcc", "rmse", *within]
    columns = ("method", "shots", "srcc", "IQR", "plcc", "rmse", *(name.removeprefix("srcc_") for name in within))
    rows = [[row["method"], row["shots"], *(decimals(row[name]) for name in shown)] for row in table.to_dict("records")]
    trials = table["trials"].iloc[0]
    print_table(f"{task}: medians of {trials} trials; SRCC within each subset", columns, rows)
    if csv_file:
        with open_text(csv_file) as file:
            table.to_csv(file, index=False, float_format="%.5g")
    write_json(json_file, result)
    if figure:
        draw_curve(result, figure)


@app.command()
def score(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="[CHECKPOINT] IMAGES...", help="A folder written by adapt or metatrain; files, folders."
        ),
    ],
    csv_file: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the scores here.")] = None,
    json_file: JSON = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what the method thinks is in each image, and wrong with it.")
    ] = False,
    map_file: Annotated[
        Path | None,
        typer.Option("--map", metavar="FILE", help="Draw where it saw the distortion; of one image, by mp_iqe."),
    ] = None,
    prompts_file: Annotated[
        Path | None,
        typer.Option("--prompts", metavar="TABLE.csv", help="What images were generated from: columns image, prompt."),
    ] = None,
    device: DEVICE = None,
) -> None:
    """Score images, without a CHECKPOINT by the prompts shipped with this package, meta-trained on synthetic pictures.

    A file that cannot be read is marked, and the others are scored.
    """
    from ..images import find_images
    from ..progress import track
    from ..recipes.adaptation import SHIPPED, is_checkpoint, load, read_prompts
    from ..recipes.figures import draw_attention

    given = is_checkpoint(paths[0])
    if not given and not paths[0].exists() and not paths[0].suffix:
        raise InputError(f"{paths[0]}: neither a checkpoint nor an image")
    checkpoint, images = (paths[0], paths[1:]) if given else (SHIPPED, paths)
    if not images:
        raise InputError(f"{checkpoint}: a checkpoint; name the images to score as well")
    scorer, files = load(checkpoint, device=device), find_images(images)
    if not given:
        typer.echo("scored by the shipped prompts, adapted to no ratings: `fsiqa adapt` makes better ones from yours")
    if map_file and len(files) > 1:
        raise InputError(f"--map {map_file}: draws one image; {len(files)} were given")
    branches = scorer.explaining if explain else []
    prompts = read_prompts(prompts_file) if prompts_file else None
    more = [*branches, *(["alignment"] if prompts_file else [])]
    head = (*SCORE_COLUMNS, *more)
    rows, shown = [], []
    with ExitStack() as stack:
        table = csv.writer(stack.enter_context(open_text(csv_file))) if csv_file else None
        if table:
            table.writerow(head)
        log = stack.enter_context(track("scoring", len(files)))
        for result in scorer.stream(files, explain=explain, prompts=prompts):
            quality, rating = (result.quality, result.quality_sd), (result.rating, result.rating_sd)
            told: list[Any] = [result.likeliest.get(name, "") for name in branches]
            told += [rounded(result.alignment)] if prompts_file else []
            rows.append([str(result.path), *map(rounded, quality + rating), result.note, *told])
            shown.append([str(result.path), with_spread(*quality), with_spread(*rating), *told, result.note])
            if table:
                table.writerow(rows[-1])
            log({})
    print_table("quality from 0 to 1, higher is better", ("image", "quality", "rating", *more, "note"), shown)
    if map_file:
        draw_attention(scorer.attention(files[0]), map_file)
    write_json(json_file, {"checkpoint": str(checkpoint), "scores": [dict(zip(head, r, strict=True)) for r in rows]})
    without = sum(path.name not in prompts for path in files) if prompts is not None else 0
    if without:
        typer.echo(f"{without} of {len(files)} images have no prompt in {prompts_file}: alignment by phrases alone")
    failed = sum(quality is None for _, quality, *_ in rows)
    if failed:
        typer.echo(f"{failed} of {len(rows)} images could not be scored", err=True)
    if failed == len(rows):
        raise typer.Exit(2)


@app.command()
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
    from ..recipes.pretraining import pretrain as run

    weights = run(root, config, out=out, seed=seed, device=device, overrides=overrides or (), resume=resume)
    typer.echo(f"weights in {weights}")


@app.command()
def distort(
    photo: Annotated[Path, typer.Argument(help="The photograph.")],
    types: Annotated[
        list[str] | None,
        typer.Option("--type", help="A name or id, as `jpeg`, 10 or tid2013/jpeg; several are applied in their order."),
    ] = None,
    levels: Annotated[
        list[float] | None, typer.Option("--level", help="1 to 5, whole or between; one for all types, or one each.")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="The result, a .png.")] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw all types (or each --type; also kadid10k, tid2013) at all levels."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of what is random.")] = 0,
) -> None:
    """Distort a photograph, or draw a sheet of all distortions of it."""
    from ..recipes.pictures import distort_file, draw_sheet

    if (out is None) == (sheet is None):
        raise InputError("say what to make: -o FILE for a distorted picture, or --sheet FILE for all of them")
    if sheet is not None:
        if levels:
            raise InputError("--level does not go with --sheet, which shows every level")
        draw_sheet(photo, sheet, types or ("kadid10k",), seed=seed)
        typer.echo(f"sheet in {sheet}")
    elif out is not None:
        if not types or not levels or len(levels) not in (1, len(types)):
            raise InputError("give --type and --level: one level for all types, or one for each")
        steps = list(zip(types, levels * len(types) if len(levels) == 1 else levels, strict=True))
        applied = distort_file(photo, out, steps, seed=seed)
        typer.echo(f"{' -> '.join(f'{name} {level:g}' for name, level in applied)} in {out}")


@app.command()
def synthesize(
    folder: Annotated[Path, typer.Argument(help="Folder of clean photographs.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the data set.")],
    types: Annotated[
        str, typer.Option(help="Names or ids between commas, or a whole set: kadid10k, tid2013.")
    ] = "kadid10k",
    levels: Annotated[str, typer.Option(help="Levels between commas, 1 to 5, whole or between.")] = "1,2,3,4,5",
    short_side: Annotated[
        int, typer.Option(help="Reduce photographs to this shorter side first, as KADID's are; 0 keeps their size.")
    ] = 384,
    seed: Annotated[int, typer.Option(help="Seed of what is random.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Make a data set in the manner of KADID-10k from clean photographs. Repeat the command to go on."""
    from ..recipes.pictures import synthesize as run

    result = run(
        folder, out, types=words(types), levels=numbers("--levels", levels), short_side=short_side or None, seed=seed,
        workers=workers,
    )  # fmt: skip
    for line in result.failed:
        typer.echo(line, err=True)
    typer.echo(f"{result.pictures} pictures in {out}, labels in {result.labels}")


@app.command()
def tasks() -> None:
    """List the sources of pictures."""
    from ..config import load_task
    from ..resources import available

    print_table(None, ("task", "what it is"), [[name, load_task(name).description] for name in available("tasks")])


@app.command()
def configs() -> None:
    """List the methods."""
    from ..config import load_config
    from ..resources import available

    rows = [[name, load_config(name).description] for name in available("configs")]
    print_table(None, ("config", "what it is"), rows)


def main() -> None:
    """Run the command line; an error of the user's is one line and exit status 2."""
    try:
        app()
    except InputError as error:
        typer.echo(f"fsiqa: {error}", err=True)
        sys.exit(2)
