"""The recipe of suggest: which pictures of a folder to rate next."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw, ImageFont

from ..config.heads import GaussianProcessSpec
from ..data.votes import rated_images
from ..errors import InputError, InputWarning
from ..files import photographs_in, require_writable, write_csv
from ..images import thumbnail
from ..model.heads.gaussian_process import GaussianProcessHead
from ..model.heads.linear import feature_std
from ..progress import track
from ..resources import SHIPPED
from ..suggestion import next_to_rate
from .loading import load

MOST = 4000  # pictures that are chosen from: the covariance grows with their square
LINEAR, NOISE = 0.5, 0.3  # of the Gaussian process, in the middle of what it is fitted with
TILE, ACROSS = 160, 10  # of the contact sheet, in pixels and tiles


@dataclass(frozen=True)
class Suggestion:
    """`pictures`: those to rate, best first, with the columns image, quality (predicted) and uncertainty, from 0 to 1:
    the share of the deviation without ratings that what is rated leaves. They were chosen from `among` pictures, of
    which `rated` are rated."""

    pictures: pd.DataFrame
    among: int
    rated: int


def suggest(
    folder: str | Path,
    count: int = 50,
    *,
    rated: str | Path | None = None,
    model: str | Path = SHIPPED,
    out: str | Path | None = None,
    sheet: str | Path | None = None,
    seed: int = 0,
    device: str | None = None,
    cache: str | Path | None = None,
) -> Suggestion:
    """Which `count` pictures of a folder to rate next, also written to `out`; `rated` is a table of what is rated.

    A Gaussian process on features of `model` has, before any rating, a covariance of the pictures' qualities. Each
    choice is the picture whose rating most reduces the mean variance over all (`suggestion.next_to_rate`); what
    the ratings are does not matter. Of more than 4,000 pictures a draw by `seed` is chosen from. `sheet` is a contact
    sheet of the choice. InputError where there are no pictures, none is left, or the table names none of them.

    Examples:
        >>> suggest("photos", 20, rated="ratings.csv").pictures["image"]  # doctest: +SKIP
    """
    folder = Path(folder)
    for path in (out, sheet):
        if path is not None:
            require_writable(Path(path))
    names = [path.relative_to(folder).as_posix() for path in photographs_in(folder)]
    known = _rated(folder, names, rated)
    drawn = set(np.random.default_rng(seed).permutation(len(names))[:MOST].tolist())
    names = [name for i, name in enumerate(names) if i in drawn or name in known]
    scorer = load(model, device=device, cache=cache)
    rows, quality = [], []
    with track("encoding", len(names)) as log:
        scores = scorer.stream([(str(folder / name), folder / name) for name in names])
        for name, score in zip(names, scores, strict=True):
            if score.quality is None:
                warnings.warn(f"passed over {score.image}: {score.note}", InputWarning, stacklevel=2)
            else:
                rows.append(name)
                quality.append(score.quality)
            log({})
    if not set(rows) - known:
        raise InputError(f"{folder}: every picture that can be read is rated already")
    x = torch.from_numpy(scorer.features([folder / name for name in rows])).double()  # kept since they were scored
    x = (x - x.mean(dim=0)) / feature_std(x)
    lengthscale = GaussianProcessSpec(kind="gp").lengthscale
    covariance = GaussianProcessHead.kernel(x, x, LINEAR, lengthscale).numpy()
    given = [i for i, name in enumerate(rows) if name in known]
    chosen, deviation = next_to_rate(covariance, NOISE, count, given)
    relative = deviation / np.sqrt(covariance.diagonal())
    table = {
        "image": [rows[i] for i in chosen],
        "quality": np.array(quality)[chosen],
        "uncertainty": relative[chosen],
    }
    found = Suggestion(pd.DataFrame(table), len(rows), len(given))
    write_csv(None if out is None else Path(out), found.pictures)
    if sheet is not None:
        _draw(folder, found.pictures, Path(sheet))
    return found


def _rated(folder: Path, names: list[str], table: str | Path | None) -> set[str]:
    """The pictures of the folder that a table names."""
    if table is None:
        return set()
    number = {(folder / name).resolve(): name for name in names}
    given = rated_images(Path(table))
    known = {number[path] for name in given if (path := (folder / name).resolve()) in number}
    if not known:
        raise InputError(f"--rated {table}: names no picture of {folder}, such as {given[0]}")
    return known


def _draw(folder: Path, pictures: pd.DataFrame, path: Path) -> None:
    """A contact sheet of the pictures, in order, each with its place and predicted quality."""
    line = 16
    down = -(-len(pictures) // ACROSS)
    sheet = Image.new("RGB", (min(ACROSS, len(pictures)) * TILE, down * (TILE + line)), "#808080")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for i, (name, quality) in enumerate(zip(pictures["image"], pictures["quality"], strict=True)):
        left, top = i % ACROSS * TILE, i // ACROSS * (TILE + line)
        tile = thumbnail(folder / name, TILE - 4)
        sheet.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
        draw.text((left + 4, top + TILE), f"{i + 1}: {quality:.2f}", "white", font)
    try:
        sheet.save(path, quality=85)
    except (OSError, ValueError) as error:
        raise InputError(f"--sheet {path}: cannot be written ({error})") from None
