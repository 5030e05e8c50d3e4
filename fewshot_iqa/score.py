"""Pictures -> scores. Imports no torch: an exported model does without."""

import math
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from .errors import InputError, InputWarning, first_sentence
from .images import (
    Picture,
    Source,
    assemble,
    content_hash,
    fixed_views,
    list_pictures,
    prepare,
    prepared_size,
    read_header,
    to_picture,
)
from .predicting import Opened, Predictor
from .types import Prediction, Scale

if TYPE_CHECKING:
    import pandas as pd

    from .config import ViewSpec

READERS = 4  # threads at most that decode and reduce pictures; each may hold a large one


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

    image: Picture
    branch: str
    phrase: str
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class Scorer:
    """A model ready to score pictures.

    Pictures are paths, PIL images, numpy arrays (H, W, 3), torch tensors (3, H, W), or lists of these; a folder, or a
    batch (B, 3, H, W). The same pixels have the same score however they come in, but for large JPEG files, which are
    reduced while they are decoded.
    """

    predictor: Predictor = field(repr=False)
    views: "ViewSpec"
    scale: Scale | None = None

    def score(self, pictures: Any, *, prompts: Mapping[str, str] | None = None) -> float | list[float]:
        """The quality in [0, 1] of one picture, or of each of several; `prompts` is as for `stream`.

        One that cannot be scored raises InputError; among several it becomes nan, with a warning.

        Examples:
            >>> import fewshot_iqa, numpy as np
            >>> noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
            >>> fewshot_iqa.load().score(noise) < 0.5
            True
        """
        listed, single = list_pictures(pictures)
        results = list(self.stream(listed, prompts=prompts))
        for result in results:
            if result.quality is None and single:
                raise InputError(_about(result))
            if result.quality is None:
                warnings.warn(_about(result), InputWarning, stacklevel=2)
        scores = [float("nan") if result.quality is None else result.quality for result in results]
        return scores[0] if single else scores

    def predict(self, pictures: Any, *, prompts: Mapping[str, str] | None = None) -> "pd.DataFrame":
        """A row for each picture: image, quality, quality_std, rating, rating_std, note; nan where it is not known.
        `prompts` is as for `stream`."""
        import pandas as pd

        rows = [vars(score) for score in self.stream(list_pictures(pictures)[0], prompts=prompts)]
        columns = ["image", "quality", "quality_std", "rating", "rating_std", "note"]
        table = pd.DataFrame(rows, columns=columns)
        return table.astype(dict.fromkeys(columns[1:5], float))

    def features(self, pictures: Any) -> NDArray[np.float32]:
        """The pooled features that regression heads read, (N, S), the mean over views; InputError for a picture that
        cannot be read, and of an exported model, which has none."""
        found = []
        predictor = self.predictor.prepared([], None)
        for picture in self._open_all(list_pictures(pictures)[0], predictor):
            if isinstance(picture, Score):
                raise InputError(_about(picture))
            found.append(predictor.features([picture]))
        return np.concatenate(found)

    def stream(
        self,
        pictures: Iterable[tuple[str, Source]],
        *,
        explain: bool = False,
        prompts: Mapping[str, str] | None = None,
    ) -> Iterator[Score]:
        """A score for each (name, picture), in order, as soon as it is known; with `explain`, also the likeliest
        phrases. With `prompts` {path or file name: prompt} it judges each with its own, and predicts their alignment
        where the method does. InputError where it has no such.

        The next pictures are read while the model judges; how many pictures there are does not change the memory.
        """
        if explain and not self.predictor.phrases:
            raise InputError("--explain: this method has learned no phrases but good and bad")
        branches = list(self.predictor.phrases) if explain else []
        return self._stream(pictures, self.predictor.prepared(branches, prompts), branches)

    def _stream(
        self, pictures: Iterable[tuple[str, Source]], predictor: Predictor, branches: Sequence[str]
    ) -> Iterator[Score]:
        opened = self._open_all(pictures, predictor)
        while chunk := list(islice(opened, self.views.at_once)):
            readable = [picture for picture in chunk if isinstance(picture, Opened)]
            scores = self._judge(readable, predictor, branches)
            for picture in chunk:
                yield picture if isinstance(picture, Score) else next(scores)

    def _judge(self, pictures: Sequence[Opened], predictor: Predictor, branches: Sequence[str]) -> Iterator[Score]:
        """A score for each picture. One that ends in an error, such as a lack of memory, costs no other its score."""
        if not pictures:
            return
        try:
            yield from list(self._scores(pictures, predictor.predict(pictures), branches))
        except InputError:
            raise
        except Exception as error:
            if len(pictures) > 1:
                for picture in pictures:
                    yield from self._judge([picture], predictor, branches)
            else:
                note = f"cannot be scored ({type(error).__name__}: {first_sentence(error)})"
                yield Score(pictures[0].name, note=note)

    def _open_all(self, pictures: Iterable[tuple[str, Source]], predictor: Predictor) -> Iterator[Opened | Score]:
        """Each picture in order, as `_open`; a few are read ahead, in threads."""
        threads = min(READERS, os.cpu_count() or 1)
        waiting: deque[Future[Opened | Score]] = deque()
        pool = ThreadPoolExecutor(threads)
        try:
            for name, source in pictures:
                waiting.append(pool.submit(self._open, name, source, predictor))
                if len(waiting) > self.views.at_once + threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _open(self, name: str, source: Source, predictor: Predictor) -> Opened | Score:
        """A picture; or a score that says why it cannot be read. It is decoded where the predictor keeps nothing."""
        image, key, views = None, "", None
        try:
            if not isinstance(source, str | os.PathLike):
                source = image = to_picture(source, name)
            if predictor.keeps:
                from .features import picture_key

                key = picture_key(content_hash(source, name), (), None, self.views.model_dump())
                views = predictor.recall(key)
            if views is None:
                picture = prepare(image, self.views) if image is not None else to_picture(source, name, size=self._size)
                views = fixed_views(picture, self.views)
            height, width, frames = read_header(cast("str", source)) if image is None else (*image.shape[1:], 1)
        except InputError as error:
            return Score(name, note=str(error).removeprefix(f"{name}: "))
        except Exception as error:
            return Score(name, note=f"cannot be read ({type(error).__name__}: {first_sentence(error)})")
        crop, notes = self.views.crop, []
        if min(height, width) < crop:
            notes.append(f"{width}x{height} is smaller than the {crop} pixel crop: enlarged")
        if frames > 1:
            notes.append(f"the first of {frames} frames")
        return Opened(name, key, views, "; ".join(notes))

    def _size(self, height: int, width: int) -> tuple[int, int]:
        return prepared_size(self.views, height, width)

    def _scores(self, pictures: Sequence[Opened], prediction: Prediction, branches: Sequence[str]) -> Iterator[Score]:
        for i, picture in enumerate(pictures):
            quality = float(prediction.mean[i])
            if not math.isfinite(quality):
                yield Score(picture.name, note=f"the model predicts {quality}: its weights are damaged")
                continue
            std = None if prediction.std is None else float(prediction.std[i])
            phrases = {name: self._phrase(name, int(prediction.logits[name][i].argmax())) for name in branches}
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
        views = self.views.model_copy(update={"stride": self.views.crop})
        image = to_picture(path, size=self._size)
        branch, phrase, maps = self.predictor.attention(fixed_views(image, views))
        weights = assemble(maps, image, views)
        return Attention(image, branch, self._phrase(branch, phrase), weights / weights.sum())

    def nearest_words(self, branch: str | None = None, count: int = 5) -> list[list[str]]:
        """For each of the L context vectors that a branch learned, the `count` tokens whose embeddings are nearest by
        cosine, the nearest first: words, or parts of words. `branch` is by default the first with such vectors.
        InputError where a branch has none, and of an exported model.

        Examples:
            >>> import fewshot_iqa
            >>> [len(words) for words in fewshot_iqa.load().nearest_words("quality", 3)]
            [3, 3, 3, 3]
        """
        return self.predictor.nearest_words(branch, count)

    def _phrase(self, branch: str, index: int) -> str:
        return self.predictor.phrases[branch][index].rstrip(".")


def _about(score: Score) -> str:
    return f"{score.image}: {score.note}"
