"""What predicts quality from the views of pictures, and what it is given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .types import Prediction


@dataclass(frozen=True)
class Opened:
    """A picture that can be read: its `views` (V, 3, crop, crop), or in their place what the predictor keeps of it by
    its `key`; and a caution or nothing."""

    name: str
    key: str
    views: Any
    note: str = ""


class Predictor(Protocol):
    """What predicts from views: a `ModelPredictor`, or an `ExportedModel`."""

    @property
    def phrases(self) -> Mapping[str, Sequence[str]]:
        """{branch: phrases} whose likeliest it can tell."""

    @property
    def reads_prompts(self) -> bool:
        """Whether it compares images with prompts of their own."""

    @property
    def predicts_alignment(self) -> bool:
        """Whether it predicts how well an image matches its prompt."""

    @property
    def keeps(self) -> bool:
        """Whether it keeps what it computed of a picture."""

    def prepared(self, branches: Sequence[str], prompts: Mapping[str, str] | None) -> "Predictor":
        """One that computes the logits of `branches` as well, and reads `prompts` {path or file name: prompt}.
        InputError where it cannot."""

    def recall(self, key: str) -> Any:
        """What it keeps of a picture, to be given in the place of views; None where it keeps nothing."""

    def predict(self, pictures: Sequence[Opened]) -> Prediction:
        """Quality of pictures, clamped to [0, 1]: arrays, or tensors on the CPU."""

    def features(self, pictures: Sequence[Opened]) -> NDArray[np.float32]:
        """Pooled features (B, S), the mean over views; InputError where it has none."""

    def attention(self, tiles: NDArray[np.uint8]) -> tuple[str, int, NDArray[np.float32]]:
        """Of a picture in tiles (V, 3, crop, crop): a branch, its likeliest phrase, and weights (V, n, n) of where that
        is seen. InputError where it cannot tell."""

    def nearest_words(self, branch: str | None, count: int) -> list[list[str]]:
        """As `Scorer.nearest_words`."""
