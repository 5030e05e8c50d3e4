"""Pictures -> scores."""

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from .errors import InputError, InputWarning
from .features import FeatureCache, encode_cached, picture_key
from .images import Source, assemble, content_hash, fixed_views, image_size, list_pictures, prepare, to_picture
from .types import Features, Prediction, Scale

if TYPE_CHECKING:
    import pandas as pd

    from .config import ViewSpec
    from .model.quality import QualityModel


SCORED = 64 << 20  # bytes of features that are kept in memory: pictures are rarely scored twice


@dataclass(frozen=True)
class Score:
    """`quality` in [0, 1], higher is better; `rating` on the scale of the ratings it was adapted to, if any; the
    predicted standard deviation of each, if the head has one. `alignment` in [0, 1] is how well the image matches its
    prompt, where prompts are given; `likeliest` {branch: phrase}, where that was asked for.

    Where the image could not be scored all are None and `note` says why; a note beside a score is a caution.
    """

    image: str
    quality: float | None = None
    quality_std: float | None = None
    rating: float | None = None
    rating_std: float | None = None
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
class _Picture:
    """A picture that can be read, the key of its features, its views (V, 3, crop, crop) where these are not cached, and
    a caution or nothing."""

    name: str
    source: Source
    key: str
    views: torch.Tensor | None
    note: str


@dataclass(frozen=True)
class Scorer:
    """A model ready to score pictures; `explained` are the branches whose likeliest phrase it can tell.

    Pictures are paths, PIL images, numpy arrays (H, W, 3), torch tensors (3, H, W), or lists of these; a folder, or a
    batch (B, 3, H, W). The same pixels have the same score however they come in.
    """

    model: "QualityModel" = field(repr=False)
    views: "ViewSpec"
    scale: Scale | None = None
    explained: Sequence[str] = ()
    cache: FeatureCache = field(default_factory=lambda: FeatureCache(memory=SCORED), repr=False)

    @property
    def reads_prompts(self) -> bool:
        """Whether it compares images with prompts of their own."""
        spec = self.model.spec
        return any(spec.branches[name].own_prompt for name in spec.alignment)

    def score(self, pictures: Any) -> float | list[float]:
        """The quality in [0, 1] of one picture, or of each of several.

        One that cannot be scored raises InputError; among several it becomes nan, with a warning.

        Examples:
            >>> import fewshot_iqa, numpy as np
            >>> noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
            >>> fewshot_iqa.load().score(noise) < 0.5
            True
        """
        listed, single = list_pictures(pictures)
        results = list(self.stream(listed))
        for result in results:
            if result.quality is None and single:
                raise InputError(_about(result))
            if result.quality is None:
                warnings.warn(_about(result), InputWarning, stacklevel=2)
        scores = [float("nan") if result.quality is None else result.quality for result in results]
        return scores[0] if single else scores

    def predict(self, pictures: Any) -> "pd.DataFrame":
        """A row for each picture: image, quality, quality_std, rating, rating_std, note; nan where it is not known."""
        import pandas as pd

        rows = [vars(score) for score in self.stream(list_pictures(pictures)[0])]
        columns = ["image", "quality", "quality_std", "rating", "rating_std", "note"]
        table = pd.DataFrame(rows, columns=columns)
        return table.astype(dict.fromkeys(columns[1:5], float))

    def features(self, pictures: Any) -> NDArray[np.float32]:
        """The pooled features that regression heads read, (N, S), the mean over views; InputError for a picture that
        cannot be read."""
        found, encoder = [], self.model.fingerprint()
        for name, source in list_pictures(pictures)[0]:
            picture = self._open(name, source, encoder)
            if isinstance(picture, str):
                raise InputError(f"{name}: {picture}")
            found.append(self._encode([picture]).matrix())
        return torch.cat(found).cpu().numpy()

    def stream(
        self,
        pictures: Iterable[tuple[str, Source]],
        *,
        explain: bool = False,
        prompts: Mapping[str, str] | None = None,
    ) -> Iterator[Score]:
        """A score for each (name, picture), in order, as soon as it is known; with `explain`, also the likeliest
        phrases; with `prompts` {file name: prompt}, also the alignment of each with its own. InputError where the
        method has no such."""
        if explain and not self.explained:
            raise InputError("--explain: this method has learned no phrases but good and bad")
        if prompts is not None and not self.model.spec.alignment:
            raise InputError("--prompts: this method does not predict how well an image matches its prompt")
        return self._stream(pictures, explain, prompts)

    def _stream(
        self, pictures: Iterable[tuple[str, Source]], explain: bool, prompts: Mapping[str, str] | None
    ) -> Iterator[Score]:
        matching = self.model.spec.alignment if prompts is not None else []
        branches = [*(self.explained if explain else []), *matching]
        with torch.inference_mode():
            state, encoder = self.model.encode_prompts(), self.model.fingerprint()
        cached, remaining = self.model.features_suffice(branches), iter(pictures)
        while chunk := list(islice(remaining, self.views.at_once)):
            opened = [(name, self._open(name, source, encoder)) for name, source in chunk]
            readable = [picture for _, picture in opened if isinstance(picture, _Picture)]
            scores: Iterator[Score] = iter(())
            if readable:
                own = [prompts.get(os.path.basename(p.name)) for p in readable] if prompts is not None else ()
                with torch.inference_mode():
                    inputs = self._encode(readable) if cached else self._stack(readable)
                    prediction = self.model(inputs, state, branches, own).clamped()
                scores = self._scores(readable, prediction, explain)
            for name, picture in opened:
                yield next(scores) if isinstance(picture, _Picture) else Score(name, note=picture)

    def _open(self, name: str, source: Source, encoder: str) -> "_Picture | str":
        """A picture, or why it cannot be read; decoded where the cache lacks its features."""
        image = None
        try:
            if not isinstance(source, str | os.PathLike):
                source = image = to_picture(source, name)
            key = picture_key(content_hash(source, name), (), None, self.views.model_dump())
            if image is None and (self.model.dense or self.cache.get(picture_key(key, encoder)) is None):
                image = to_picture(source, name)
        except InputError as error:
            return str(error).removeprefix(f"{name}: ")
        height, width = image.shape[-2:] if image is not None else image_size(name)
        crop = self.views.crop
        note = f"{width}x{height} is smaller than the {crop} pixel crop: enlarged" if min(height, width) < crop else ""
        return _Picture(name, source, key, None if image is None else self._cut(image), note)

    def _cut(self, image: torch.Tensor) -> torch.Tensor:
        return fixed_views(prepare(image, self.views), self.views)

    def _stack(self, pictures: Sequence[_Picture]) -> torch.Tensor:
        views = [self._cut(to_picture(p.source, p.name)) if p.views is None else p.views for p in pictures]
        return torch.stack(views).to(self.model.device)

    def _encode(self, pictures: Sequence[_Picture]) -> Features:
        found = encode_cached(
            self.model, pictures, lambda picture: picture.key, lambda missing: [self._stack(missing)], self.cache
        )
        return Features.cat(found).to(self.model.device)

    def _scores(self, pictures: Sequence[_Picture], prediction: Prediction, explain: bool) -> Iterator[Score]:
        likeliest = {name: prediction.logits[name].argmax(dim=-1).tolist() for name in self.explained if explain}
        for i, picture in enumerate(pictures):
            quality = float(prediction.mean[i])
            std = None if prediction.std is None else float(prediction.std[i])
            phrases = {name: self._phrase(name, row[i]) for name, row in likeliest.items()}
            alignment = None if prediction.alignment is None else float(prediction.alignment[i])
            alignment = None if alignment is None or np.isnan(alignment) else alignment
            score = Score(picture.name, quality, std, note=picture.note, likeliest=phrases, alignment=alignment)
            if self.scale is not None:
                rating_std = None if std is None else std * abs(self.scale.best - self.scale.worst)
                score = replace(score, rating=self.scale.rating(quality), rating_std=rating_std)
            yield score

    def attention(self, path: Path) -> Attention:
        """Where the first branch with windows saw its likeliest phrase, in windows that cover the whole picture:
        the weights of MP-IQE's equation 10 over all of them. InputError where no branch has windows."""
        spec = self.model.spec
        branch = next((name for name in self.explained if spec.branches[name].windows), None)
        if branch is None:
            raise InputError("--map: this method has learned no phrases that it compares with windows of a picture")
        count, views = spec.branches[branch].windows or 0, self.views.model_copy(update={"stride": self.views.crop})
        image = prepare(to_picture(path), views)
        with torch.inference_mode():
            state, visual = self.model.encode_prompts(), spec.branches[branch].visual or ""
            tiles = fixed_views(image, views)[None].to(self.model.device)
            features = self.model.encode(tiles, state, [visual], [visual])
            phrase = int(self.model.compare(features, state, [branch]).logits[branch].mean(dim=1).argmax())
            similarity = self.model.windows(features, branch, state)[0, :, :, phrase]
            weights = (similarity.flatten() / spec.branches[branch].attention).softmax(dim=0)
        weights = assemble(weights.view(-1, count, count).cpu(), image, views)
        return Attention(image, branch, self._phrase(branch, phrase), weights / weights.sum())

    def _phrase(self, branch: str, index: int) -> str:
        return self.model.spec.branches[branch].phrases[index].rstrip(".")


def _about(score: Score) -> str:
    return f"{score.image}: {score.note}"
