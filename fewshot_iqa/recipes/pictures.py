"""Recipes of the commands that make pictures: one distorted, a sheet of all, a whole data set."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from joblib import delayed
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..config import KADID_SIDE
from ..data import synthesis
from ..data.synthetic import kadid_mos
from ..distortions import DISTORTIONS, LEVELS, SMALLEST_SIDE, TID2013, Distortion, compose, distort, find
from ..errors import InputError
from ..files import photographs_in, reason, remove_leftovers
from ..images import read_image, shrink, to_float, to_uint8, write_drawing, write_png
from ..lock import one_writer
from ..progress import track
from .workers import in_parallel

SETS = {"kadid10k": DISTORTIONS, "tid2013": TID2013}
TILE = (200, 134)  # width and height of the middle of a picture on a sheet, in its own pixels
LINE = 18
MARGIN = 8
LEGEND = """Under every picture:
its level, the parameter,
the MOS in KADID-10k,
from 1, bad, to 5, excellent."""


def rows_of(names: Sequence[str]) -> list[Distortion]:
    """The rows of types and of whole sets (kadid10k, tid2013), in the order given, each once."""
    rows = [row for name in names for row in SETS.get(name) or (find(name),)]
    return list(dict.fromkeys(rows))


def distort_file(
    photo: Path, out: Path, steps: Sequence[tuple[str, float]], *, seed: int = 0
) -> list[tuple[str, float]]:
    """Distort a photograph by (type, level) steps in their order; the PNG file `out` records them and the seed."""
    if out.suffix.lower() != ".png":
        raise InputError(f"-o {out}: name a .png file: other formats would add a distortion of their own")
    image = to_float(read_image(photo))
    distorted, applied = compose(image, steps, generator=torch.Generator().manual_seed(seed))
    notes = {"distortion": ", ".join(f"{name} {level:g}" for name, level in applied), "seed": str(seed)}
    write_png(out, to_uint8(distorted), notes)
    return applied


def draw_sheet(photo: Path, out: Path, types: Sequence[str] = ("kadid10k",), *, seed: int = 0) -> None:
    """Draw the middle of a photograph under every type at every level, with the parameters and KADID-10k's MOS.

    The photograph is reduced to a shorter side of 384 pixels first, the size of KADID-10k's pictures.
    """
    rows = rows_of(types)
    if out.suffix.lower() not in {".png", ".jpg", ".jpeg", ".webp"}:
        raise InputError(f"--sheet {out}: name a .png, .jpg or .webp file")
    image = to_float(shrink(read_image(photo), 384))
    if image.shape[1] < TILE[1] or image.shape[2] < TILE[0]:
        raise InputError(f"{photo}: a sheet needs {TILE[0]} x {TILE[1]} pixels or more")
    width, height = TILE[0] + MARGIN, TILE[1] + 2 * LINE + MARGIN
    sheet = Image.new("RGB", (MARGIN + len(LEVELS) * width, MARGIN + (1 + len(rows)) * height), "white")
    draw, font, bold = ImageDraw.Draw(sheet), ImageFont.load_default(13), ImageFont.load_default(15)
    draw.text((MARGIN, MARGIN), f"the middle of {photo.name}", "black", bold)
    sheet.paste(_middle(image), (MARGIN, MARGIN + LINE))
    draw.text((MARGIN + width, MARGIN + LINE), LEGEND, "black", font)
    with track("drawing", len(rows)) as log:
        for at, row in enumerate(rows, start=1):
            top = MARGIN + at * height
            draw.text((MARGIN, top), f"{row.id} {row.name}", "black", bold)
            for level in LEVELS:
                left = MARGIN + (level - 1) * width
                noise = torch.Generator().manual_seed(seed)
                sheet.paste(_middle(distort(image, row.name, level, generator=noise)), (left, top + LINE))
                mos = f", MOS {kadid_mos(row.name, level):.2f}" if row.data_set == "kadid10k" else ""
                caption = f"{level}: {row.amount(level):g}{mos}"
                draw.text((left, top + LINE + TILE[1] + 1), caption, "black", font)
            log({})
    write_drawing(out, sheet)


def _middle(image: Tensor) -> Image.Image:
    top, left = (image.shape[1] - TILE[1]) // 2, (image.shape[2] - TILE[0]) // 2
    tile = to_uint8(image)[:, top : top + TILE[1], left : left + TILE[0]]
    return Image.fromarray(tile.transpose(1, 2, 0))


@dataclass(frozen=True)
class Synthesized:
    """The result of `synthesize`: the number of distorted pictures, the path of labels.csv, and a message for each
    unusable photograph."""

    pictures: int
    labels: Path
    failed: list[str]


@one_writer()
def synthesize(
    folder: str | Path,
    out: str | Path,
    *,
    types: Sequence[str] = ("kadid10k",),
    levels: Sequence[float] = LEVELS,
    short_side: int | None = KADID_SIDE,
    seed: int = 0,
    workers: int = 1,
) -> Synthesized:
    """Make a synthetic data set, structured as KADID-10k, from a folder of clean photographs.

    `out` receives every photograph as PNG (its shorter side reduced to `short_side` pixels, unless that is None), one
    picture for each type and level, and labels.csv. Existing files are kept, so that a repeated command continues an
    interrupted one. A photograph that cannot be used is reported in the result, and the others are processed.
    """
    folder, out = Path(folder), Path(out)
    if short_side is not None and short_side < SMALLEST_SIDE:
        raise InputError(f"--short-side {short_side}: {SMALLEST_SIDE} pixels are the least, 0 keeps the size")
    if out.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"-o {out}: lies inside the photographs of {folder}: choose another folder")
    names, levels = [row.name for row in rows_of(types)], list(dict.fromkeys(levels))
    photographs = photographs_in(folder)
    plans = {path: synthesis.plan(path, names, levels, seed) for path in photographs}
    files = Counter(f"{path.stem}.png" for path in photographs)
    files.update(cell.image for cells in plans.values() for cell in cells)
    if (twice := files.most_common(1)[0])[1] > 1:
        raise InputError(f"{folder}: two photographs lead to a file {twice[0]}: rename one")
    earlier = synthesis.read_labels(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"-o {out}: cannot be written ({reason(error)})") from None
    remove_leftovers(out)

    failed = []
    with track("reading", len(photographs)) as log:
        jobs = (delayed(synthesis.write_reference)(path, out, short_side) for path in photographs)
        complaints = in_parallel(jobs, workers, ordered=True)
        for path, complaint in zip(photographs, complaints, strict=True):
            if complaint:
                failed.append(complaint)
                del plans[path]
            log({})
    if not plans:
        raise InputError(f"{failed[0]} (and no other photograph can be used)")
    pieces = [piece for cells in plans.values() for piece in synthesis.by_type(cells)]
    with track("distorting", sum(map(len, pieces))) as log:
        jobs = (delayed(synthesis.write_cells)(piece, out) for piece in pieces)
        for piece, _ in zip(pieces, in_parallel(jobs, workers, ordered=True), strict=True):
            for _ in piece:
                log({})
    labels = synthesis.write_labels(earlier, [cell for cells in plans.values() for cell in cells], out)
    return Synthesized(sum(map(len, pieces)), labels, failed)
