"""Images -> scores."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .errors import InputError
from .images import find_images, fixed_views, prepare, read_image
from .types import Scale

if TYPE_CHECKING:
    from .config import ViewSpec
    from .model.quality import QualityModel


@dataclass(frozen=True)
class Score:
    """`quality` in [0, 1], higher is better; `rating` on the scale of the ratings it was adapted to, if any; the
    standard deviation of each, if the method tells it.

    Where the image could not be scored all are None and `note` says why; a note beside a score is a caution.
    """

    path: Path
    quality: float | None = None
    quality_sd: float | None = None
    rating: float | None = None
    rating_sd: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Scorer:
    """A model ready to score files."""

    model: "QualityModel"
    views: "ViewSpec"
    scale: Scale | None
    device: str

    def score(self, images: str | Path | Sequence[str | Path]) -> float | list[float]:
        """The quality of one image file, or of each of several (folders are searched).

        One image that cannot be scored raises InputError; among several it becomes nan, with a warning.
        """
        if isinstance(images, str | Path) and not Path(images).is_dir():
            (result,) = self.stream([Path(images)])
            if result.quality is None:
                raise InputError(f"{result.path}: {result.note}")
            return result.quality
        paths = [images] if isinstance(images, str | Path) else images
        results = list(self.stream(find_images([Path(path) for path in paths])))
        for result in results:
            if result.quality is None:
                warnings.warn(f"{result.path}: {result.note}", stacklevel=2)
        return [float("nan") if result.quality is None else result.quality for result in results]

    def stream(self, paths: Iterable[Path]) -> Iterator[Score]:
        """A score per path, in order, as soon as it is known."""
        with torch.inference_mode():
            state = self.model.encode_prompts()
        remaining = iter(paths)
        while chunk := list(islice(remaining, self.views.at_once)):
            decoded = [self._views(path) for path in chunk]
            views = [view for view, _ in decoded if view is not None]
            told: Iterator[tuple[float, float | None]] = iter(())
            if views:
                with torch.inference_mode():
                    output = self.model(torch.stack(views).to(self.device), state)
                spread = [None] * len(views) if output.std is None else output.std.tolist()
                told = zip(output.quality.clamp(0, 1).tolist(), spread, strict=True)
            for path, (view, note) in zip(chunk, decoded, strict=True):
                yield Score(path, note=note) if view is None else self._score(path, *next(told), note)

    def _score(self, path: Path, quality: float, spread: float | None, note: str) -> Score:
        if self.scale is None:
            return Score(path, quality, spread, note=note)
        rating_sd = None if spread is None else spread * abs(self.scale.best - self.scale.worst)
        return Score(path, quality, spread, self.scale.rating(quality), rating_sd, note)

    def _views(self, path: Path) -> tuple[torch.Tensor | None, str]:
        try:
            image = read_image(path)
        except InputError as error:
            return None, str(error).removeprefix(f"{path}: ")
        height, width = image.shape[-2:]
        crop = self.views.crop
        note = f"{width}x{height} is smaller than the {crop} pixel crop: enlarged" if min(height, width) < crop else ""
        return fixed_views(prepare(image, self.views), self.views), note
