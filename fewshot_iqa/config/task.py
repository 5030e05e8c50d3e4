"""A source of records: tasks/*.yaml."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, field_validator

from ..errors import InputError
from .spec import Spec

KADID_SIDE = 384  # shorter side of KADID-10k's pictures, of which the human means are


class Columns(Spec):
    """Which column of a table holds what; an optional one that is absent is left out.

    Where `image` or `score` is None, the column is recognised by its name: `filename`, `MOS` and the like.
    """

    image: str | None = None
    score: str | None = None
    group: str = "group"
    prompt: str = "prompt"
    alignment: str = "alignment"
    scene: str = "scene"
    distortion: str = "distortion"
    subset: str = "subset"


class TableTask(Spec):
    """A table of rated pictures: `labels`, or a DataFrame that is given in its place.

    Without `range`, the lowest and highest of the *shots* span the scale.

    `test_labels` is a second table whose rows are the test, as some data sets are released; else a share `test` is.
    `subset` and `model` are patterns: their first group in a picture's file name is its subset, or the model that made
    it (a column `model`), where no column holds it.
    """

    kind: Literal["table"]
    description: str
    root: Path | None = None
    labels: Path | None = None
    test_labels: Path | None = None
    images: str = "."  # folder of the pictures inside root
    columns: Columns = Columns()
    range: tuple[float, float] | None = None
    alignment_range: tuple[float, float] | None = None  # without it the column alignment is not read
    lower_is_better: bool = False
    subset: str | None = None
    model: str | None = None
    annotations: list[Path] = Field([])  # LIQE's files of scenes and distortions
    test: float = Field(0.2, gt=0, lt=1)

    @field_validator("range", "alignment_range")
    @classmethod
    def _spans(cls, ends: tuple[float, float] | None) -> tuple[float, float] | None:
        if ends is not None and not ends[0] < ends[1]:
            raise ValueError("the lowest and the highest are needed, such as [1, 5]")
        return ends

    @field_validator("subset", "model")
    @classmethod
    def _has_a_group(cls, pattern: str | None) -> str | None:
        try:
            if pattern is not None and re.compile(pattern).groups != 1:
                raise ValueError("a pattern with one group is needed, such as '^(ss\\d+)'")
        except re.error as error:
            raise ValueError(f"not a pattern ({error})") from None
        return pattern


class EpisodeSpec(Spec):
    """What one step of meta-training sees: `count` tasks, each with a support and a query of other photographs."""

    count: int = Field(4, gt=0)
    support: int = Field(16, gt=0)
    query: int = Field(4, gt=0)
    levels: int | None = Field(None, ge=1, le=5)  # so many of the task's levels, drawn anew; default: all


class SyntheticTask(Spec):
    """Clean photographs x distortions, labelled with the human mean of each (distortion, level).

    Meta-training makes one task of each distortion; of each pair of the `compounds`, which are drawn among those not
    held out; and of each of these within each of `contents` groups of photographs that look alike. `label_noise` is
    the standard deviation of noise on its ratings (1 to 5).
    """

    kind: Literal["synthetic"]
    description: str
    root: Path | None = None  # a folder of clean photographs, instead of `photographs`
    photographs: list[str] = Field([])  # names of photographs that ship inside the dependencies
    short_side: int = Field(KADID_SIDE, ge=32)
    distortions: list[str] | None = None  # default: all 25 of KADID
    levels: list[Annotated[int, Field(ge=1, le=5)]] = Field([1, 2, 3, 4, 5], min_length=1)
    hold_out: list[str] = Field([])  # distortions kept for validation
    compounds: int = Field(0, ge=0)
    contents: int = Field(1, ge=1)
    label_noise: float = Field(0.0, ge=0)
    episodes: EpisodeSpec = EpisodeSpec()

    test: float = Field(0.2, gt=0, lt=1)  # share of the photographs kept for validation or testing

    def model_post_init(self, _: Any) -> None:
        levels = len(set(self.levels))
        if (self.episodes.levels or 0) > levels:
            raise InputError(f"episodes.levels is {self.episodes.levels}, but there are {levels} levels")


Task = Annotated[TableTask | SyntheticTask, Discriminator("kind")]
