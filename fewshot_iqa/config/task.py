"""The specifications of sources of rated pictures: tasks/*.yaml."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, field_validator

from ..errors import InputError
from .spec import Spec

KADID_SIDE = 384  # shorter side in pixels of KADID-10k's pictures, on which its ratings are


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

    `range` is the rating scale, [lowest, highest]; without it the lowest and the highest rating of the *shots* are
    taken. The test is a second table `test_labels`, or a share `test` of the groups. `subset` and `model` are regular
    expressions for tables without these columns: the first group, matched to the file name, is the picture's subset or
    the generative model that made it.
    """

    kind: Literal["table"]
    description: str
    root: Path | None = None
    labels: Path | None = None
    test_labels: Path | None = None
    images: str = "."  # folder of the pictures inside root
    columns: Columns = Columns()
    range: tuple[float, float] | None = None
    alignment_range: tuple[float, float] | None = None  # scale of the column alignment, which is not read without it
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
    """One step of meta-training: `tasks_per_step` tasks, each with a support and a query that share no photograph."""

    tasks_per_step: int = Field(4, gt=0)
    support: int = Field(16, gt=0)
    query: int = Field(4, gt=0)
    levels: int | None = Field(None, ge=1, le=5)  # how many of the task's levels, drawn for each episode; default: all


class SyntheticTask(Spec):
    """Clean photographs x distortions x levels, rated with KADID-10k's MOS of each (distortion, level), 1 to 5.

    Meta-training has one task for each distortion, and for each of `compounds` random pairs of distortions that are not
    held out; with `contents` > 1, one for each of these in each of so many groups of similar photographs.
    `label_noise` is the standard deviation of the noise that is added to the ratings in meta-training.
    """

    kind: Literal["synthetic"]
    description: str
    root: Path | None = None  # a folder of clean photographs, instead of `photographs`
    photographs: list[str] = Field([])  # names of photographs inside the packages of the dependencies
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
