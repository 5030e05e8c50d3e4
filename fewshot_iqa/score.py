"""Images -> scores."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .errors import InputError
from .files import find_images
from .images import assemble, fixed_views, prepare, read_image
from .types import Output, Scale

if TYPE_CHECKING:
    from .config import ViewSpec
    from .model.quality import QualityModel


@dataclass(frozen=True)
class Score:
    """`quality` in [0, 1], higher is better; `rating` on the scale of the ratings it was adapted to, if any; the
    standard deviation of each, if the method tells it. `alignment` in [0, 1] is how well the image matches its prompt,
    where prompts are given; `likeliest` {branch: phrase}, where that was asked for.

    Where the image could not be scored all are None and `note` says why; a note beside a score is a caution.
    """

    path: Path
    quality: float | None = None
    quality_sd: float | None = None
    rating: float | None = None
    rating_sd: float | None = None
    note: str = ""
    likeliest: Mapping[str, str] = field(default_factory=dict)
    alignment: float | None = None


@dataclass(frozen=True)
class Attention:
    """Where in a picture, uint8 (3, H, W), a branch saw its likeliest phrase: weights (H, W) that sum to 1."""

    image: torch.Tensor
    branch: str
    phrase: str
    weights: torch.Tensor


@dataclass(frozen=True)
class Scorer:
    """A model ready to score files; `explaining` are the branches whose likeliest phrase it can tell."""

    model: "QualityModel"
    views: "ViewSpec"
    scale: Scale | None
    device: str
    explaining: Sequence[str] = ()

    @property
    def reads_prompts(self) -> bool:
        """Whether it compares images with prompts of their own."""
        spec = self.model.spec
        return any(spec.branches[name].own_prompt for name in spec.alignment)

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

    def stream(
        self, paths: Iterable[Path], *, explain: bool = False, prompts: Mapping[str, str] | None = None
    ) -> Iterator[Score]:
        """A score per path, in order, as soon as it is known; with `explain`, also what the picture likely shows; with
        `prompts` {file name: prompt}, also how well it matches its own. InputError where the method tells no such."""
        if explain and not self.explaining:
            raise InputError("--explain: this method has learned no phrases but good and bad")
        if prompts is not None and not self.model.spec.alignment:
            raise InputError("--prompts: this method does not tell how well an image matches its prompt")
        return self._stream(paths, explain, prompts)

    def _stream(self, paths: Iterable[Path], explain: bool, prompts: Mapping[str, str] | None) -> Iterator[Score]:
        matching = self.model.spec.alignment if prompts is not None else []
        branches = [*(self.explaining if explain else []), *matching]
        with torch.inference_mode():
            state = self.model.encode_prompts()
        remaining = iter(paths)
        while chunk := list(islice(remaining, self.views.at_once)):
            decoded = [self._views(path) for path in chunk]
            views = [view for view, _ in decoded if view is not None]
            scores: Iterator[Score] = iter(())
            if views:
                readable = [path for path, (view, _) in zip(chunk, decoded, strict=True) if view is not None]
                own = [prompts.get(path.name) for path in readable] if prompts is not None else ()
                with torch.inference_mode():
                    output = self.model(torch.stack(views).to(self.device), state, branches, own)
                scores = self._scores(readable, output, explain)
            for path, (view, note) in zip(chunk, decoded, strict=True):
                yield Score(path, note=note) if view is None else replace(next(scores), note=note)

    def _scores(self, paths: Sequence[Path], output: Output, explain: bool) -> Iterator[Score]:
        likeliest = {name: output.logits[name].argmax(dim=-1).tolist() for name in (self.explaining if explain else [])}
        for i, path in enumerate(paths):
            quality = float(output.quality[i].clamp(0, 1))
            spread = None if output.std is None else float(output.std[i])
            said = {name: self._phrase(name, row[i]) for name, row in likeliest.items()}
            matching = None if output.alignment is None or output.alignment[i].isnan() else float(output.alignment[i])
            score = Score(path, quality, spread, likeliest=said, alignment=matching)
            if self.scale is not None:
                rating_sd = None if spread is None else spread * abs(self.scale.best - self.scale.worst)
                score = replace(score, rating=self.scale.rating(quality), rating_sd=rating_sd)
            yield score

    def attention(self, path: Path) -> Attention:
        """Where the first branch with windows saw its likeliest phrase, in windows that cover the whole picture:
        the weights of MP-IQE's equation 10 over all of them. InputError where no branch has windows."""
        spec = self.model.spec
        branch = next((name for name in self.explaining if spec.branches[name].windows), None)
        if branch is None:
            raise InputError("--map: this method has learned no phrases that look at windows of a picture")
        count, views = spec.branches[branch].windows or 0, self.views.model_copy(update={"stride": self.views.crop})
        image = prepare(read_image(path), views)
        with torch.inference_mode():
            state = self.model.encode_prompts()
            tiles = fixed_views(image, views)[None].to(self.device)
            phrase = int(self.model(tiles, state, [branch]).logits[branch].argmax())
            similarity = self.model.windows(tiles, branch, state)[0, :, :, phrase]
            weights = (similarity.flatten() / spec.branches[branch].attention).softmax(dim=0)
        weights = assemble(weights.view(-1, count, count).cpu(), image, views)
        return Attention(image, branch, self._phrase(branch, phrase), weights / weights.sum())

    def _phrase(self, branch: str, index: int) -> str:
        return self.model.spec.branches[branch].phrases[index].rstrip(".")

    def _views(self, path: Path) -> tuple[torch.Tensor | None, str]:
        try:
            image = read_image(path)
        except InputError as error:
            return None, str(error).removeprefix(f"{path}: ")
        height, width = image.shape[-2:]
        crop = self.views.crop
        note = f"{width}x{height} is smaller than the {crop} pixel crop: enlarged" if min(height, width) < crop else ""
        return fixed_views(prepare(image, self.views), self.views), note
