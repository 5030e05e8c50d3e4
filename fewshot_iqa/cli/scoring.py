"""The command that scores images."""

import csv
import math
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from ..files import open_text, write_json
from ..printing import print_table, rounded, with_std
from .options import CACHE, DATA, DEVICE, JSON, METHOD, OUTPUT, drawable, option, writable

COLUMNS = ("image", "quality", "quality_std", "rating", "rating_std", "note")


def score(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="[CHECKPOINT] IMAGES...",
            help="Folder of a checkpoint. Image files, or folders of them.",
            show_default=False,
        ),
    ],
    prompts_file: Annotated[
        Path | None,
        option(
            DATA,
            "FILE",
            "Table of the text prompts that images were generated from: columns image, prompt.",
            "--prompts",
        ),
    ] = None,
    image_column: Annotated[str | None, option(DATA, "COLUMN", "Of --prompts. Default: image.")] = None,
    prompt_column: Annotated[str | None, option(DATA, "COLUMN", "Of --prompts. Default: prompt.")] = None,
    explain: Annotated[
        bool, option(METHOD, None, "Show the likeliest scene and distortion of each image.", "--explain")
    ] = False,
    device: DEVICE = None,
    cache: CACHE = None,
    sort: Annotated[bool, option(OUTPUT, None, "List the worst images first.", "--sort")] = False,
    worst: Annotated[int | None, option(OUTPUT, "N", "List only the N worst images.", min=1)] = None,
    csv_file: Annotated[
        Path | None,
        option(OUTPUT, "FILE", "Write all images here, each as soon as it is scored.", "--csv", callback=writable),
    ] = None,
    json_file: JSON = None,
    map_file: Annotated[
        Path | None,
        option(OUTPUT, "FILE", "Draw where mp_iqe found the distortion of one image.", "--map", callback=drawable),
    ] = None,
) -> None:
    """Score images, by default with the prompts shipped with this package, which are adapted to no ratings.

    A file that cannot be read is marked, and the others are scored.
    """
    columns = {name: column for name, column in (("image", image_column), ("prompt", prompt_column)) if column}
    if columns and not prompts_file:
        raise InputError("--image-column and --prompt-column: of the table of --prompts; give that too")
    checkpoint, files = _checkpoint_and_images(paths)
    if map_file and len(files) > 1:
        raise InputError(f"--map {map_file}: draws one image; {len(files)} were given")
    prompts = _prompts(prompts_file, columns) if prompts_file else None
    from ..progress import track
    from ..recipes.figures import draw_attention
    from ..recipes.loading import load
    from ..resources import ADAPTED, SHIPPED, is_checkpoint

    scorer = load(checkpoint or SHIPPED, device=device, cache=cache)
    if not checkpoint:
        typer.echo("scored by the shipped prompts, adapted to no ratings: `fsiqa adapt` makes better ones from yours")
        if is_checkpoint(ADAPTED):
            typer.echo(f"{ADAPTED} holds a model of yours: fsiqa score {ADAPTED} IMAGES")
    if map_file:
        draw_attention(scorer.attention(files[0]), map_file)
    branches = list(scorer.predictor.phrases) if explain else []
    more = [*branches, *(["alignment"] if prompts_file else [])]
    head = (*COLUMNS, *more)
    rows: list[list[Any]] = []
    shown: list[list[Any]] = []
    results = scorer.stream([(str(file), file) for file in files], explain=explain, prompts=prompts)
    with ExitStack() as stack:
        table = csv.writer(stack.enter_context(open_text(csv_file))) if csv_file else None
        if table:
            table.writerow(head)
        log = stack.enter_context(track("scoring", len(files)))
        for result in results:
            quality, rating = (result.quality, result.quality_std), (result.rating, result.rating_std)
            extra: list[Any] = [result.likeliest.get(name, "") for name in branches]
            extra += [rounded(result.alignment)] if prompts_file else []
            rows.append([result.image, *map(rounded, quality + rating), result.note, *extra])
            shown.append([result.image, with_std(*quality), with_std(*rating), *extra, result.note])
            if table:
                table.writerow(rows[-1])
            log({})
    failed = sum(row[1] is None for row in rows)
    order = _order(rows, sort, worst)
    title = "quality from 0 to 1, higher is better" + (f"; the {len(order)} worst of {len(rows)}" if worst else "")
    title += "; ± one standard deviation" if any(row[2] is not None for row in rows) else ""
    print_table(title, ("image", "quality", "rating", *more, "note"), [shown[i] for i in order])
    scores = [dict(zip(head, rows[i], strict=True)) for i in order]
    write_json(json_file, {"checkpoint": str(checkpoint or SHIPPED), "scores": scores})
    if prompts is not None:
        without = sum(path.name not in prompts for path in files)
        if not scorer.predictor.reads_prompts:
            typer.echo("this method does not read prompts: alignment by its phrases alone")
        elif without:
            typer.echo(f"{without} of {len(files)} images have no prompt there: alignment by phrases, if any")
    if failed:
        typer.echo(f"{failed} of {len(rows)} images could not be scored", err=True)
    if failed == len(rows):
        raise typer.Exit(2)


def _checkpoint_and_images(paths: list[Path]) -> tuple[Path | None, list[Path]]:
    """The checkpoint, if the first path is one, and the image files of the others."""
    from ..files import SUFFIXES, find_images
    from ..resources import is_checkpoint

    given = is_checkpoint(paths[0])
    if not given and not paths[0].exists() and paths[0].suffix.lower() not in SUFFIXES:
        raise InputError(f"{paths[0]}: no such file or folder (`fsiqa adapt` makes a model, in runs/adapt)")
    for path in paths[given:]:
        if is_checkpoint(path) or (path.suffix.lower() not in SUFFIXES and is_checkpoint(path.parent)):
            folder = path if path.is_dir() else path.parent
            raise InputError(f"{path}: is a checkpoint, no image: name its folder first, `fsiqa score {folder} IMAGES`")
    if not paths[given:]:
        raise InputError(f"{paths[0]}: is a checkpoint; name the images to score as well")
    files = find_images(paths[given:])
    if not any(path.exists() for path in files):
        raise InputError(f"{files[0]}: no such file")
    return (paths[0] if given else None), files


def _prompts(path: Path, columns: dict[str, str]) -> dict[str, str]:
    from ..data.readers import read_prompts

    return read_prompts(path, **columns)


def _order(rows: list[list[Any]], sort: bool, worst: int | None) -> list[int]:
    """Which rows are listed: all in their order, or sorted by quality, those without one last."""
    order = list(range(len(rows)))
    if sort or worst:
        order.sort(key=lambda i: math.inf if rows[i][1] is None else rows[i][1])
    return order[:worst]
