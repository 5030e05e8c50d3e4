"""The nouns that every room shares.

Shape letters: B batch, H W height and width, P phrases of a branch, L learned context tokens, N visual prompts,
D embedding, S pooled features, V views, Wv Wt widths of the image and text towers.

torch is imported where tensors are computed, so that tables and options are checked without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Params = dict[str, "Tensor"]  # always keyed by parameter name
Pixels = tuple[Path, tuple[tuple[str, float], ...]]


@dataclass(frozen=True)
class Record:
    """One rated picture.

    `rating` is what the table holds; `Scale` maps it to a quality in [0, 1], higher is better. `group` is what must
    not straddle a split: the reference photograph, or the generation prompt. `apply` lists (distortion, level)
    pairs still to be applied to the decoded picture, in order; `distortion` and `level` are labels. `subset` is a part
    of the data set within which metrics are computed as well. `alignment`, in [0, 1], is how well the picture matches
    its prompt. Where `rating` is a mean, `rating_std` is the standard deviation of the votes and `votes` their number.
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
    rating_std: float | None = None
    votes: int | None = None

    @property
    def pixels(self) -> Pixels:
        """What its pixels depend on."""
        return self.path, self.apply

    @property
    def place(self) -> tuple[str, str, float]:
        """What records are ordered by where the order of their rows means nothing."""
        return self.path.resolve().as_posix(), self.prompt or "", self.rating


@dataclass(frozen=True)
class Scale:
    """The rating scale: `worst` maps to quality 0, `best` to quality 1 (`worst > best` where lower is better).

    With `per_subset`, each subset of the pictures has a scale of its own, so that ratings of two cannot be compared.
    """

    worst: float
    best: float
    per_subset: bool = False

    def __post_init__(self) -> None:
        if self.worst == self.best:
            raise InputError(
                f"the ratings to learn from all equal {self.best:g}: take more shots, another --seed, or state the "
                "scale with --range LOWEST,HIGHEST"
            )
        if not math.isfinite(self.best - self.worst):
            raise InputError(f"a rating scale from {self.worst:g} to {self.best:g} has no finite span")

    def quality(self, rating: float) -> float:
        return (rating - self.worst) / (self.best - self.worst)

    def rating(self, quality: float) -> float:
        return self.worst + quality * (self.best - self.worst)


@dataclass(frozen=True)
class Features:
    """What an encoder computes from V views of each of B pictures; a head reads nothing else.

    `pooled` {visual set: (B, V, S)}: the L2-normalised embedding in the first `dim` D columns, then the mean of the
    patch features and of the stem's features; the set "" stands for the tower without visual prompts. `tokens` {visual
    set: (B, V, 1 + G, Wv)}: CLS and the patches, for branches and heads that compare phrases with parts of a picture.
    The text side adds `text` {branch: (P, D)}, L2-normalised, and `logits` {branch: (B, V, P)}; where a head reads it,
    `match` (B, V), the cosine of the embedding and that of the picture's own prompt, nan without one.

    With `layers`, they are those of a trunk: of the first `layers` layers of the tower, from which an encoder goes on.
    `tokens` are then those between two layers, of no set before the first, and `pooled` the stem's features alone.
    """

    dim: int
    pooled: Mapping[str, Tensor]
    tokens: Mapping[str, Tensor] = field(default_factory=dict)
    text: Mapping[str, Tensor] = field(default_factory=dict)
    logits: Mapping[str, Tensor] = field(default_factory=dict)
    match: Tensor | None = None
    layers: int | None = None

    def __len__(self) -> int:
        return len(next(iter(self.pooled.values())))

    @property
    def nbytes(self) -> int:
        """The memory of pooled features and tokens."""
        return sum(value.nbytes for part in (self.pooled, self.tokens) for value in part.values())

    @property
    def views(self) -> int:
        return next(iter(self.pooled.values())).shape[1]

    def embedding(self, visual: str = "") -> Tensor:
        """(B, V, D), L2-normalised."""
        return self.pooled[visual][..., : self.dim]

    def matrix(self) -> Tensor:
        """(B, S): the pooled features that a regression reads, the mean over views."""
        return next(iter(self.pooled.values())).mean(dim=1)

    def map(self, change: Callable[[Tensor], Tensor]) -> Features:
        """The same of changed tensors, each with the pictures along its first dimension; text stays."""
        return replace(
            self,
            pooled={name: change(value) for name, value in self.pooled.items()},
            tokens={name: change(value) for name, value in self.tokens.items()},
            logits={name: change(value) for name, value in self.logits.items()},
            match=None if self.match is None else change(self.match),
        )

    def __getitem__(self, rows: slice | Sequence[int]) -> Features:
        """Some of the pictures."""
        return self.map(lambda value: value[rows])

    def to(self, device: str | torch.device) -> Features:
        return self.map(lambda value: value.to(device))

    def view(self, index: int) -> Features:
        """One of the views, V = 1."""
        return self.map(lambda value: value[:, index : index + 1])

    def each_view(self) -> Features:
        """Each view as a picture of its own, V = 1."""
        return self.map(lambda value: value.flatten(0, 1)[:, None])

    def mean_over_views(self) -> Features:
        """Each picture as one view: the mean of its features, and of the probabilities that its logits give."""
        pooled = {name: value.mean(dim=1, keepdim=True) for name, value in self.pooled.items()}
        logits = {name: value.softmax(-1).mean(dim=1, keepdim=True).log() for name, value in self.logits.items()}
        match = None if self.match is None else self.match.mean(dim=1, keepdim=True)
        return replace(self, pooled=pooled, tokens={}, logits=logits, match=match)

    @classmethod
    def cat(cls, parts: Sequence[Features]) -> Features:
        """Pictures of several, which have the same number of views."""
        import torch

        first = parts[0]
        return replace(
            first,
            pooled={name: torch.cat([part.pooled[name] for part in parts]) for name in first.pooled},
            tokens={name: torch.cat([part.tokens[name] for part in parts]) for name in first.tokens},
            logits={name: torch.cat([part.logits[name] for part in parts]) for name in first.logits},
            match=None if first.match is None else torch.cat([part.match for part in parts if part.match is not None]),
        )


@dataclass(frozen=True)
class Batch:
    """`inputs`: images (B, 3, H, W), or (B, V, 3, H, W) of V views each, uint8, or float in [0, 1] and not normalised;
    or the `Features` of B pictures. `targets` {name: (B,)}. `prompts` are those that the pictures were generated from,
    None where one is not known; empty where none is.
    """

    inputs: Tensor | Features
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    prompts: Sequence[str | None] = ()

    def __getitem__(self, rows: Sequence[int]) -> Batch:
        """Some of the pictures."""
        targets = {name: value[rows] for name, value in self.targets.items()}
        return Batch(self.inputs[rows], targets, [self.prompts[i] for i in rows] if self.prompts else ())

    def to(self, device: str) -> Batch:
        return Batch(self.inputs.to(device), {k: v.to(device) for k, v in self.targets.items()}, self.prompts)

    @classmethod
    def cat(cls, parts: Sequence[Batch]) -> Batch:
        """The pictures of several batches of one kind."""
        import torch

        features = [part.inputs for part in parts if isinstance(part.inputs, Features)]
        images = [part.inputs for part in parts if not isinstance(part.inputs, Features)]
        targets = {name: torch.cat([part.targets[name] for part in parts]) for name in parts[0].targets}
        prompts = [prompt for part in parts for prompt in part.prompts]
        return Batch(Features.cat(features) if features else torch.cat(images), targets, prompts)


@dataclass(frozen=True)
class Episode:
    """One distortion as a task; `support` and `query` share no group."""

    name: str
    support: Batch
    query: Batch

    @property
    def together(self) -> Batch:
        """Support and query as one batch."""
        return Batch.cat([self.support, self.query])


@dataclass(frozen=True)
class Prediction:
    """Quality of B pictures: `mean` (B,), near [0, 1], higher is better; `std` (B,), the predicted standard deviation
    of one more rating, None where the head has none.

    A model adds the mean over the views of `logits` {branch: (B, P)} and of the L2-normalised `embeddings` {visual set:
    (B, D)}, and `alignment` (B,) in [0, 1], how well a picture matches its prompt, where branches for it were computed.
    """

    mean: Tensor
    std: Tensor | None = None
    logits: Mapping[str, Tensor] = field(default_factory=dict)
    embeddings: Mapping[str, Tensor] = field(default_factory=dict)
    alignment: Tensor | None = None

    def clamped(self) -> Prediction:
        """With means inside [0, 1], as scores are reported."""
        return replace(self, mean=self.mean.clip(0, 1))


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
        count = self._count(n)
        if count > n:
            raise InputError(
                f"--shots {self.text}: the training pool holds only {n} pictures; others are the test (--test, --folds)"
            )
        if count < 2:
            raise InputError(f"--shots {self.text} of {n} pictures is {count}; at least two are needed")
        return count

    def fits(self, n: int) -> bool:
        """Whether a pool of `n` can give them, and they are two or more."""
        return 2 <= self._count(n) <= n

    def _count(self, n: int) -> int:
        return self.count if self.count is not None else round((self.share or 0) * n)
