"""A regressor by scikit-learn's rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from .config import TableTask
from .errors import InputError
from .features import FeatureCache
from .images import list_pictures
from .model import checkpoint
from .predictor import ModelPredictor
from .recipes.common import choose_device
from .recipes.draws import draw_of
from .recipes.sources import find_source, warn_few, warn_guessed_scale
from .recipes.starts import find_start, read_settings
from .recipes.trial import Memory, Method, run_trial, warn_reversed
from .score import Scorer
from .types import Record


class QualityRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Ratings of pictures, learned by one of the methods: an estimator for scikit-learn's tools.

    `X` is a list of pictures: paths, PIL images, numpy arrays (H, W, 3) or torch tensors (3, H, W). Ratings are on the
    user's scale, `range`, or the span of those that it learns from; with `lower_is_better`, as for DMOS.

    Parameters are as for `fewshot_iqa.adapt`: `method`, a configuration; `start`, the checkpoint that prompts come
    from; `clip`, `seed`, `device`, `overrides`; `cache`, a folder that keeps features. After `fit`, `model_` is the
    `Scorer`.

    Examples:
        >>> import numpy as np
        >>> noise = np.random.default_rng(0)
        >>> pictures = [np.full((64, 64, 3), level, dtype=np.uint8) for level in (0, 60, 120, 180, 240)]
        >>> regressor = QualityRegressor("ridge").fit(pictures, [1, 2, 3, 4, 5])
        >>> regressor.predict(pictures).round().tolist()
        [1.0, 2.0, 3.0, 4.0, 5.0]
    """

    def __init__(
        self,
        method: str | Path = "gp_prompts",
        *,
        range: tuple[float, float] | None = None,
        lower_is_better: bool = False,
        start: str | Path | None = None,
        clip: str | None = None,
        seed: int = 0,
        device: str | None = None,
        cache: str | Path | None = None,
        overrides: Iterable[str] = (),
    ) -> None:
        self.method = method
        self.range = range
        self.lower_is_better = lower_is_better
        self.start = start
        self.clip = clip
        self.seed = seed
        self.device = device
        self.cache = cache
        self.overrides = overrides

    def fit(self, X: Any, y: ArrayLike, groups: Sequence[Any] | None = None) -> QualityRegressor:
        """Learn from pictures and their ratings `y` (N,); `groups` are what cross-validation inside keeps together."""
        pictures, single = list_pictures(X, "X")
        ratings = np.asarray(y, dtype=np.float64)
        if single or not pictures or ratings.shape != (len(pictures),):
            raise InputError(f"X and y: {len(pictures)} pictures, and ratings of shape {ratings.shape}")
        if not np.isfinite(ratings).all():
            raise InputError("y: holds NaN or infinity")
        if groups is not None and len(groups) != len(pictures):
            raise InputError(f"groups: {len(groups)} for {len(pictures)} pictures")
        settings, _ = read_settings(self.method, self.clip, self.seed, self.overrides)
        parent = find_start(self.start) if self.start is not None else checkpoint.default_start(settings)
        method = Method(settings, parent, choose_device(self.device))
        sources = {Path(f"X[{i}]"): source for i, (_, source) in enumerate(pictures)}
        records = [
            Record(path, rating, group=str(path if groups is None else groups[i]))
            for i, (path, rating) in enumerate(zip(sources, ratings.tolist(), strict=True))
        ]
        source = find_source("csv", range=self.range, lower_is_better=self.lower_is_better)
        if isinstance(source, TableTask) and source.range:
            low, high = source.range
            if ratings.min() < low or ratings.max() > high:
                raise InputError(
                    f"y: ratings from {ratings.min():g} to {ratings.max():g} leave the range {low:g} to {high:g}"
                )
        memory = Memory(FeatureCache(self.cache))
        draw = draw_of(source, self.seed, records, [], sources=sources)
        warn_few(len(records), [])
        if self.range is None:
            warn_guessed_scale(draw.scale, len(records))
        warn_reversed(method, [draw], memory)
        trial = run_trial(method, draw, memory)
        self.model_ = Scorer(ModelPredictor(trial.model, cache=memory.features), settings.views, draw.scale)
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Ratings (N,) of pictures; with `return_std`, also their predicted standard deviations (N,), nan where the
        method has none. InputError for a picture that cannot be read."""
        check_is_fitted(self, "model_")
        pictures, single = list_pictures(X, "X")
        if single:
            raise InputError("X: one picture; give a list of pictures")
        scores = list(self.model_.stream(pictures))
        for score in scores:
            if score.rating is None:
                raise InputError(f"{score.image}: {score.note}")
        ratings = _column([score.rating for score in scores])
        return (ratings, _column([score.rating_std for score in scores])) if return_std else ratings

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.no_validation = True
        return tags


def _column(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
