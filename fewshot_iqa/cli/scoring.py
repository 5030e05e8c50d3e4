"""The commands that score images, and export what scores them."""

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from ..files import require_writable, write_json
from ..printing import echo, nearby
from ..resources import CHECKPOINT_FILES, SHIPPED
from .checks import check_checkpoint
from .listing import COLUMNS, LISTED, SHORT, Listing, row_of, score_of, worst_first
from .options import CACHE, CLIP, DATA, JSON, METHOD, option
from .outputs import OUTPUT, drawable, table_file
from .score_table import ScoreTable

if TYPE_CHECKING:
    from ..score import Score, Scorer


def score(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="[MODEL] IMAGES...",
            help="Folder of a checkpoint, or a file of `fsiqa export`. Image files, or folders of them.",
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
    device: Annotated[
        str | None, option(METHOD, "NAME", "cpu, cuda, ... Default: ONNX Runtime if exported, else a GPU if any.")
    ] = None,
    clip: CLIP = None,
    cache: CACHE = None,
    sort: Annotated[bool, option(OUTPUT, None, "List the worst images first.", "--sort")] = False,
    worst: Annotated[int | None, option(OUTPUT, "N", "List only the N worst images.", min=1)] = None,
    csv_file: Annotated[
        Path | None,
        option(
            OUTPUT,
            "FILE",
            "Write all images here, each as soon as it is scored.",
            "--csv",
            callback=table_file(*COLUMNS[:2]),
        ),
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
    model, files = _model_and_images(paths)
    if map_file and len(files) > 1:
        raise InputError(f"--map {map_file}: draws one image; {len(files)} were given")
    prompts = _prompts(prompts_file, columns) if prompts_file else None
    from ..progress import track

    scorer = _load(model, device, cache, clip, fast=not (prompts_file or map_file))
    seen = scorer.attention(files[0]) if map_file else None
    branches = list(scorer.predictor.phrases) if explain else []
    more = [*branches, *(["alignment"] if prompts_file and scorer.predictor.predicts_alignment else [])]
    listing = Listing(most=worst or (LISTED if sort else SHORT))
    every: list[Score] | None = [] if json_file else None  # memory stays flat without
    header, names, table = (*COLUMNS, *more), [str(file) for file in files], None
    scorer.stream((), explain=explain, prompts=prompts)  # refuses what it cannot do before a file is made
    if csv_file:
        table = ScoreTable(csv_file, header, names, _made_by(model, scorer, explain, device, prompts))
    kept = [score_of(row, more) for row in table.kept] if table else []
    if kept:
        echo(f"fsiqa: note: goes on: {len(kept)} of {len(files)} images were scored before", err=True)
    rest = [(str(file), file) for file in files[len(kept) :]]
    with ExitStack() as stack:
        if table:
            stack.callback(table.close)
        with track("scoring", len(files), len(kept)) as log:
            for i, result in enumerate(chain(kept, scorer.stream(rest, explain=explain, prompts=prompts))):
                listing.add(result)
                if every is not None:
                    every.append(result)
                if i >= len(kept):
                    if table:
                        table.write(row_of(result, more))
                    log({})
        if table:
            stack.callback(table.finish)  # after the results are printed, as it may fail
        if map_file and seen:
            from ..recipes.figures import draw_attention

            stack.callback(draw_attention, seen, map_file)
        if every is not None:
            every = worst_first(every)[:worst] if sort or worst else every
            scores = [dict(zip(header, row_of(each, more), strict=True)) for each in every]
            stack.callback(write_json, json_file, {"checkpoint": str(model or SHIPPED), "scores": scores})
        listing.show(more, ordered=bool(sort or worst), csv_file=csv_file)
        _tell(scorer, prompts, files)
        if listing.failed:
            echo(f"{listing.failed} of {len(files)} images could not be scored", err=True)
    if listing.failed == len(files):
        raise typer.Exit(2)


def _tell(scorer: "Scorer", prompts: dict[str, str] | None, files: Sequence[Path]) -> None:
    """What is worth saying about prompts."""
    if prompts is None and getattr(scorer.predictor, "learned_from_prompts", False):
        echo("learned from pictures with prompts: --prompts TABLE lets it read those of these images too")
    if prompts is not None:
        without = sum(path.name not in prompts for path in files)
        if not scorer.predictor.reads_prompts:
            echo("this method does not read prompts: alignment by its phrases alone")
        elif without:
            echo(f"{without} of {len(files)} images have no prompt there: they are judged without")


def _made_by(
    model: Path | None, scorer: "Scorer", explain: bool, device: str | None, prompts: dict[str, str] | None
) -> str:
    """What decides the scores of pictures: the files of the model, and the options."""
    folder, kind = model or SHIPPED, type(scorer.predictor).__name__
    exported = getattr(scorer.predictor, "path", None)
    digest = hashlib.sha256(repr([kind, explain, device, sorted((prompts or {}).items())]).encode())
    for file in [exported] if exported else [folder / name for name in CHECKPOINT_FILES]:
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Folder of a checkpoint.")],
    model: Annotated[
        Path | None, typer.Argument(metavar="[MODEL.onnx]", help="The file to write. Default: CHECKPOINT/model.onnx.")
    ] = None,
    int8: Annotated[
        bool, option(METHOD, None, "Compute the linear layers in 8 bit: faster, and scores differ a little.", "--int8")
    ] = False,
    clip: CLIP = None,
) -> None:
    """Export a checkpoint to ONNX: `fsiqa score` then takes neither torch nor the checkpoint.

    Inside the checkpoint, where it is written by default, `fsiqa score CHECKPOINT` finds it by itself. It is compared
    with the checkpoint before it is kept. Needs the extra `fast`.
    """
    if checkpoint.suffix.lower() == ".onnx":
        raise InputError(f"{checkpoint}: is exported already; name the folder of its checkpoint")
    check_checkpoint(checkpoint)
    if model and model.suffix.lower() != ".onnx":
        raise InputError(f"{model}: name a .onnx file")
    if model:
        require_writable(model)
    from ..recipes.exporting import export as run

    found = run(checkpoint, model, int8=int8, clip=clip)
    differs = f"quality differs by {found.difference:.1g} at most on {found.photographs} photographs"
    echo(f"{nearby(found.path)}: {found.size / 1e6:.1f} MB; {differs}")


def _load(model: Path | None, device: str | None, cache: Path | None, clip: str | None, *, fast: bool) -> "Scorer":
    """The model, by ONNX Runtime where it was exported and nothing is asked that needs the checkpoint; says what
    scores."""
    from ..recipes.loading import load, load_fastest
    from ..resources import ADAPTED, is_checkpoint
    from ..runtime import ExportedModel

    path = model or SHIPPED
    scorer = (load_fastest if fast else load)(path, device=device, cache=cache, clip=clip)
    if isinstance(scorer.predictor, ExportedModel):
        echo(f"scored with ONNX Runtime on the CPU{', in 8 bit' if scorer.predictor.about['int8'] else ''}")
    if not model:
        echo("scored by the shipped prompts, adapted to no ratings: `fsiqa adapt` makes better ones from yours")
        if is_checkpoint(ADAPTED):
            echo(f"{ADAPTED} holds a model of yours: fsiqa score {ADAPTED} IMAGES")
    return scorer


def _model_and_images(paths: list[Path]) -> tuple[Path | None, list[Path]]:
    """The checkpoint or exported model, if the first path is one, and the image files of the others."""
    from ..files import SUFFIXES, find_images
    from ..resources import is_checkpoint

    given = is_checkpoint(paths[0]) or paths[0].suffix.lower() == ".onnx"
    if not given and not paths[0].exists() and paths[0].suffix.lower() not in SUFFIXES:
        raise InputError(f"{paths[0]}: no such file or folder (`fsiqa adapt` makes a model, in runs/adapt)")
    for path in paths[given:]:
        if path.suffix.lower() == ".onnx":
            raise InputError(f"{path}: is a model, no image: name it first, `fsiqa score {path} IMAGES`")
        if is_checkpoint(path) or (path.suffix.lower() not in SUFFIXES and is_checkpoint(path.parent)):
            folder = path if path.is_dir() else path.parent
            raise InputError(f"{path}: is a checkpoint, no image: name its folder first, `fsiqa score {folder} IMAGES`")
    if not paths[given:]:
        raise InputError(f"{paths[0]}: is a model; name the images to score as well")
    files = find_images(paths[given:])
    if not any(path.exists() for path in files):
        raise InputError(f"{files[0]}: no such file")
    return (paths[0] if given else None), files


def _prompts(path: Path, columns: dict[str, str]) -> dict[str, str]:
    from ..data.readers import read_prompts

    return read_prompts(path, **columns)
