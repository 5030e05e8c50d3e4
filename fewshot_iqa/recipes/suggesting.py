"""The recipe of suggest: which pictures of a folder to rate next."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..data.votes import rated_images
from ..errors import InputError, InputWarning
from ..files import photographs_in, require_writable, write_csv
from ..images import thumbnail, write_drawing
from ..model.heads.linear import feature_std
from ..progress import track
from ..resources import SHIPPED
from ..suggestion import Floats, next_to_rate
from .loading import load

MOST = 4000  # pictures that are chosen from: the covariance grows with their square
COMPONENTS = 16
NOISE = 0.3  # variance of a rating, where that of quality is 1
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

    Pictures that look alike to `model` are taken to have similar quality (`order_to_rate`). Each choice is the picture
    whose rating most reduces the mean variance over all (`suggestion.next_to_rate`); what the ratings are does not
    matter. Of more than 4,000 pictures a draw by `seed` is chosen from. `sheet` is a contact
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
    features = torch.from_numpy(scorer.features([folder / name for name in rows]))  # kept since they were scored
    given = [i for i, name in enumerate(rows) if name in known]
    chosen, uncertainty = order_to_rate(features, count, given)
    table = {
        "image": [rows[i] for i in chosen],
        "quality": np.array(quality)[chosen],
        "uncertainty": uncertainty[chosen],
    }
    found = Suggestion(pd.DataFrame(table), len(rows), len(given))
    write_csv(None if out is None else Path(out), found.pictures)
    if sheet is not None:
        _draw(folder, found.pictures, Path(sheet))
    return found


def order_to_rate(features: Tensor, count: int, rated: Sequence[int] = ()) -> tuple[list[int], Floats]:
    """As `next_to_rate`, of pictures with these pooled features (N, S), after ratings of some.

    The prior covariance is exp(−d² / 2ℓ²): d is the distance of two pictures in the first 16 principal components of
    the standardised features, each over the root of its deviation, so that the largest do not decide alone, and ℓ is
    half of the root mean square of d.
    """
    x = features.double()
    x = (x - x.mean(dim=0)) / feature_std(x)
    left, sizes, _ = torch.linalg.svd(x, full_matrices=False)
    components = left[:, :COMPONENTS] * sizes[:COMPONENTS].sqrt()
    distance = torch.cdist(components, components)
    lengthscale = distance.square().mean().sqrt().clamp(min=1e-12) / 2
    return next_to_rate((-(distance / lengthscale).square() / 2).exp().numpy(), NOISE, count, rated)


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
    write_drawing(path, sheet)
