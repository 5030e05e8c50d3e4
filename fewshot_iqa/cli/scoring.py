"""The commands that score images, and export what scores them."""

import csv
import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from heapq import heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from ..files import open_text, require_writable, write_json
from ..printing import nearby, print_table, rounded, with_std
from ..resources import SHIPPED
from .checks import check_checkpoint
from .options import CACHE, CLIP, DATA, JSON, METHOD, OUTPUT, drawable, option, writable

if TYPE_CHECKING:
    from ..score import Score, Scorer

LISTED, SHORT = 30, 10  # rows on the screen: of all images, and of the first and the worst of many
COLUMNS = ("image", "quality", "quality_std", "rating", "rating_std", "note")


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
    model, files = _model_and_images(paths)
    if map_file and len(files) > 1:
        raise InputError(f"--map {map_file}: draws one image; {len(files)} were given")
    prompts = _prompts(prompts_file, columns) if prompts_file else None
    from ..progress import track

    scorer = _load(model, device, cache, clip, fast=not (prompts_file or map_file))
    if map_file:
        from ..recipes.figures import draw_attention

        draw_attention(scorer.attention(files[0]), map_file)
    branches = list(scorer.predictor.phrases) if explain else []
    more = [*branches, *(["alignment"] if prompts_file and scorer.predictor.predicts_alignment else [])]
    listing = _Listing(most=worst or (LISTED if sort else SHORT))
    every: list[Score] | None = [] if json_file else None  # memory stays flat without
    results = scorer.stream([(str(file), file) for file in files], explain=explain, prompts=prompts)
    with ExitStack() as stack:
        table = csv.writer(stack.enter_context(open_text(csv_file))) if csv_file else None
        if table:
            table.writerow((*COLUMNS, *more))
        log = stack.enter_context(track("scoring", len(files)))
        for result in results:
            listing.add(result)
            if table:
                table.writerow(_row(result, more))
            if every is not None:
                every.append(result)
            log({})
    listing.show(more, ordered=bool(sort or worst), csv_file=csv_file)
    if every is not None:
        every = _worst_first(every)[:worst] if sort or worst else every
        scores = [dict(zip((*COLUMNS, *more), _row(each, more), strict=True)) for each in every]
        write_json(json_file, {"checkpoint": str(model or SHIPPED), "scores": scores})
    if prompts is None and getattr(scorer.predictor, "learned_from_prompts", False):
        typer.echo("learned from pictures with prompts: --prompts TABLE lets it read those of these images too")
    if prompts is not None:
        without = sum(path.name not in prompts for path in files)
        if not scorer.predictor.reads_prompts:
            typer.echo("this method does not read prompts: alignment by its phrases alone")
        elif without:
            typer.echo(f"{without} of {len(files)} images have no prompt there: they are judged without")
    if listing.failed:
        typer.echo(f"{listing.failed} of {len(files)} images could not be scored", err=True)
    if listing.failed == len(files):
        raise typer.Exit(2)


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
    typer.echo(f"{nearby(found.path)}: {found.size / 1e6:.1f} MB; {differs}")


@dataclass
class _Listing:
    """What the screen shows of scores: the first, the `most` worst, and a summary; others are not kept."""

    most: int
    count: int = 0
    failed: int = 0
    total: float = 0.0
    lowest: float = math.inf
    highest: float = -math.inf
    has_std: bool = False
    first: list["Score"] = field(default_factory=list)
    failures: list["Score"] = field(default_factory=list)
    worst: list[tuple[float, int, "Score"]] = field(default_factory=list)  # a heap, the best of them on top

    def add(self, score: "Score") -> None:
        if self.count < LISTED:
            self.first.append(score)
        heappush(self.worst, (-_rank(score), -self.count, score))
        if len(self.worst) > self.most:
            heappop(self.worst)
        self.count += 1
        self.has_std |= score.quality_std is not None
        if score.quality is None:
            self.failed += 1
            self.failures += [score] if self.failed <= SHORT else []
            return
        self.total += score.quality
        self.lowest, self.highest = min(self.lowest, score.quality), max(self.highest, score.quality)

    def show(self, more: Sequence[str], *, ordered: bool, csv_file: Path | None) -> None:
        """Print one table, of the worst where it is `ordered`; or the first and the worst of many images."""
        title = "quality from 0 to 1, higher is better" + ("; ± one standard deviation" if self.has_std else "")
        worst = [score for _, _, score in sorted(self.worst, reverse=True)]
        if ordered:
            self._print(
                title + (f"; the {len(worst)} worst of {self.count}" if len(worst) < self.count else ""), worst, more
            )
        elif self.count <= LISTED:
            self._print(title, self.first, more)
        else:
            self._print(f"{title}; the first {SHORT} of {self.count}", self.first[:SHORT], more)
            self._print(f"the {SHORT} worst", worst, more)
        scored = self.count - self.failed
        if self.count > LISTED and scored:
            mean = self.total / scored
            every = f"all are in {csv_file}" if csv_file else "--csv FILE writes all"
            typer.echo(
                f"{scored} images: quality {mean:.3f} on average, from {self.lowest:.3f} to {self.highest:.3f}; {every}"
            )
        for score in self.failures if self.count > LISTED else ():
            typer.echo(f"{score.image}: {score.note}", err=True)

    def _print(self, title: str, scores: Sequence["Score"], more: Sequence[str]) -> None:
        rows = []
        for each in scores:
            quality, rating = with_std(each.quality, each.quality_std), with_std(each.rating, each.rating_std)
            rows.append([each.image, quality, rating, *_more(each, more), each.note])
        print_table(title, ("image", "quality", "rating", *more, "note"), rows)


def _row(score: "Score", more: Sequence[str]) -> list[Any]:
    """The cells of a file's row."""
    numbers = (score.quality, score.quality_std, score.rating, score.rating_std)
    return [score.image, *map(rounded, numbers), score.note, *_more(score, more)]


def _more(score: "Score", more: Sequence[str]) -> list[Any]:
    return [rounded(score.alignment) if name == "alignment" else score.likeliest.get(name, "") for name in more]


def _rank(score: "Score") -> float:
    return math.inf if score.quality is None else score.quality


def _worst_first(scores: Sequence["Score"]) -> list["Score"]:
    """Those without a quality last."""
    return sorted(scores, key=_rank)


def _load(model: Path | None, device: str | None, cache: Path | None, clip: str | None, *, fast: bool) -> "Scorer":
    """The model, by ONNX Runtime where it was exported and nothing is asked that needs the checkpoint; says what
    scores."""
    from ..recipes.loading import load, load_fastest
    from ..resources import ADAPTED, is_checkpoint
    from ..runtime import ExportedModel

    path = model or SHIPPED
    scorer = (load_fastest if fast else load)(path, device=device, cache=cache, clip=clip)
    if isinstance(scorer.predictor, ExportedModel):
        typer.echo(f"scored with ONNX Runtime on the CPU{', in 8 bit' if scorer.predictor.about['int8'] else ''}")
    if not model:
        typer.echo("scored by the shipped prompts, adapted to no ratings: `fsiqa adapt` makes better ones from yours")
        if is_checkpoint(ADAPTED):
            typer.echo(f"{ADAPTED} holds a model of yours: fsiqa score {ADAPTED} IMAGES")
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
