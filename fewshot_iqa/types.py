"""The nouns that every room shares.

Shape letters: B batch, H W height and width, P phrases of a branch, L learned context tokens, N visual prompts,
D embedding, Wv Wt widths of the image and text towers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Params = dict[str, "Tensor"]  # always keyed by parameter name


@dataclass(frozen=True)
class Record:
    """One rated picture.

    `rating` is what the file said; `Scale` maps it to a quality in [0, 1], higher is better. `group` is what must
    not straddle a split: the reference photograph, or the generation prompt. `apply` lists (distortion, level)
    pairs still to be applied to the decoded picture, in order; `distortion` and `level` are labels. `subset` is a part
    of the data set within which agreement is told as well. `alignment`, in [0, 1], is how well the picture matches its
    prompt.
    """

    path: Path
    rating: float
    group: str
    distortion: str | None = None
    level: float | None = None
    scene: tuple[str, ...] = ()
    prompt: str | None = None
    alignment: float | None = None
    subset: str | None = None
    apply: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Scale:
    """The rating scale: `worst` maps to quality 0, `best` to quality 1 (`worst > best` where lower is better)."""

    worst: float
    best: float

    def __post_init__(self) -> None:
        if self.worst == self.best:
            raise InputError(
                f"the ratings to learn from all equal {self.best:g}: take more shots, another --seed, or state the "
                "scale with --set 'task.range=[lowest, highest]'"
            )

    def quality(self, rating: float) -> float:
        return (rating - self.worst) / (self.best - self.worst)

    def rating(self, quality: float) -> float:
        return self.worst + quality * (self.best - self.worst)


@dataclass(frozen=True)
class Batch:
    """`images` (B, 3, H, W), or (B, V, 3, H, W) where each picture has V views, uint8, or float in [0, 1]: not
    normalised; or (B, V, S), what an image tower has said of V views already. `targets` {name: (B,)}. `prompts` are
    those that B pictures were generated from, None where one is not known; or there are none.
    """

    images: Tensor
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    prompts: Sequence[str | None] = ()

    def to(self, device: str) -> Batch:
        return Batch(self.images.to(device), {k: v.to(device) for k, v in self.targets.items()}, self.prompts)


@dataclass(frozen=True)
class Episode:
    """One distortion as a task; `support` and `query` share no group."""

    name: str
    support: Batch
    query: Batch


@dataclass
class Output:
    """What every variant returns; of several views of a picture, the mean.

    `quality` (B,) in [0, 1]; `logits` {branch: (B, P)}; `features` {visual set: (B, D)} L2-normalised, the key
    "" standing for the image without visual prompts; `std` (B,), the standard deviation of a rating around the
    quality, where the head can tell; `alignment` (B,) in [0, 1], how well the picture matches its prompt, where
    branches for it were asked for.
    """

    quality: Tensor
    logits: dict[str, Tensor] = field(default_factory=dict)
    features: dict[str, Tensor] = field(default_factory=dict)
    std: Tensor | None = None
    alignment: Tensor | None = None


@dataclass(frozen=True)
class Shots:
    """How many rated pictures to learn from: a number, or a share of the training pool."""

    text: str
    count: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str | int) -> Shots:
        """`"50"` or `"20%"`. InputError on anything else, a share outside (0, 100] or fewer than two shots."""
        text = str(text).strip()
        try:
            count, share = (None, float(text[:-1]) / 100) if text.endswith("%") else (int(text), None)
        except ValueError:
            raise InputError(f"--shots {text}: give a number such as 50, or a share such as 20%") from None
        if share is not None and not 0 < share <= 1:
            raise InputError(f"--shots {text}: a share lies above 0% and at most at 100%")
        if count is not None and count < 2:
            raise InputError(f"--shots {text}: at least two rated pictures are needed")
        return cls(text, count, share)

    def of(self, n: int) -> int:
        """The number of shots in a pool of `n`; InputError where the pool cannot give it."""
        count = self.count if self.share is None else round(self.share * n)
        assert count is not None
        if count > n:
            raise InputError(f"--shots {self.text}: the training pool holds only {n} pictures")
        if count < 2:
            raise InputError(f"--shots {self.text} of {n} pictures is {count}; at least two are needed")
        return count
