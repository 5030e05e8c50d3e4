"""The command that judges images."""

import csv
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from ..printing import open_text, print_table, rounded, with_spread, write_json
from .options import CSV, DEVICE, IMAGE_COLUMN, JSON, drawable

SCORE_COLUMNS = ("image", "quality", "quality_sd", "rating", "rating_sd", "note")


def score(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="[CHECKPOINT] IMAGES...", help="A folder written by adapt or metatrain; files, folders."
        ),
    ],
    csv_file: CSV = None,
    json_file: JSON = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what the method thinks is in each image, and wrong with it.")
    ] = False,
    map_file: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="FILE",
            callback=drawable,
            help="Draw where it saw the distortion; of one image, by mp_iqe.",
        ),
    ] = None,
    prompts_file: Annotated[
        Path | None,
        typer.Option("--prompts", metavar="TABLE", help="What images were generated from: columns image, prompt."),
    ] = None,
    image_column: IMAGE_COLUMN = None,
    prompt_column: Annotated[str | None, typer.Option(help="Default: prompt.")] = None,
    device: DEVICE = None,
) -> None:
    """Score images, without a CHECKPOINT by the prompts shipped with this package, meta-trained on synthetic pictures.

    A file that cannot be read is marked, and the others are scored.
    """
    from ..files import SUFFIXES, find_images
    from ..progress import track
    from ..recipes.adaptation import SHIPPED, is_checkpoint, load, read_prompts
    from ..recipes.figures import draw_attention

    given = is_checkpoint(paths[0])
    if not given and not paths[0].exists() and paths[0].suffix.lower() not in SUFFIXES:
        raise InputError(f"{paths[0]}: neither a checkpoint nor an image")
    for path in paths[given:]:
        if is_checkpoint(path) or (path.suffix.lower() not in SUFFIXES and is_checkpoint(path.parent)):
            raise InputError(f"{path}: of a checkpoint; name one, by its folder, before the images")
    columns = {name: column for name, column in (("image", image_column), ("prompt", prompt_column)) if column}
    if columns and not prompts_file:
        raise InputError("--image-column and --prompt-column: of the table of --prompts; give that too")
    checkpoint, images = (paths[0], paths[1:]) if given else (SHIPPED, paths)
    if not images:
        raise InputError(f"{checkpoint}: a checkpoint; name the images to score as well")
    scorer, files = load(checkpoint, device=device), find_images(images)
    if not given:
        typer.echo("scored by the shipped prompts, adapted to no ratings: `fsiqa adapt` makes better ones from yours")
    if map_file and len(files) > 1:
        raise InputError(f"--map {map_file}: draws one image; {len(files)} were given")
    if map_file:
        draw_attention(scorer.attention(files[0]), map_file)
    branches = scorer.explaining if explain else []
    prompts = read_prompts(prompts_file, **columns) if prompts_file else None
    more = [*branches, *(["alignment"] if prompts_file else [])]
    head = (*SCORE_COLUMNS, *more)
    rows, shown = [], []
    results = scorer.stream(files, explain=explain, prompts=prompts)
    with ExitStack() as stack:
        table = csv.writer(stack.enter_context(open_text(csv_file))) if csv_file else None
        if table:
            table.writerow(head)
        log = stack.enter_context(track("scoring", len(files)))
        for result in results:
            quality, rating = (result.quality, result.quality_sd), (result.rating, result.rating_sd)
            told: list[Any] = [result.likeliest.get(name, "") for name in branches]
            told += [rounded(result.alignment)] if prompts_file else []
            rows.append([str(result.path), *map(rounded, quality + rating), result.note, *told])
            shown.append([str(result.path), with_spread(*quality), with_spread(*rating), *told, result.note])
            if table:
                table.writerow(rows[-1])
            log({})
    print_table("quality from 0 to 1, higher is better", ("image", "quality", "rating", *more, "note"), shown)
    write_json(json_file, {"checkpoint": str(checkpoint), "scores": [dict(zip(head, r, strict=True)) for r in rows]})
    if prompts is not None:
        without = sum(path.name not in prompts for path in files)
        if not scorer.reads_prompts:
            typer.echo("this method does not read prompts: alignment by its phrases alone")
        elif without:
            typer.echo(f"{without} of {len(files)} images have no prompt there: alignment by phrases, if any")
    failed = sum(quality is None for _, quality, *_ in rows)
    if failed:
        typer.echo(f"{failed} of {len(rows)} images could not be scored", err=True)
    if failed == len(rows):
        raise typer.Exit(2)
