"""The specifications of sources of rated pictures: tasks/*.yaml."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, field_validator

from ..errors import InputError, first_sentence
from .spec import Spec, as_list

LARGEST_RATING = 1e30  # on either side of zero: squares of ratings are finite
KADID_SIDE = 384  # shorter side in pixels of KADID-10k's pictures, on which its ratings are


Paths = Annotated[list[Path], BeforeValidator(as_list)]  # or one, or null
Names = Annotated[list[str], BeforeValidator(as_list)]
Readers = Literal[
    "kadid10k", "tid", "live", "livec", "csiq", "bid", "spaq", "pipal", "flive", "gfiqa", "piq23", "aigciqa2023",
    "evalmuse", "genai_bench",
]  # fmt: skip


class Columns(Spec):
    """Which column of a table holds what. Optional columns that are absent under their default names are left out."""

    image: str | None = None
    """The file name; null: recognised by its name, such as `image`, `file` or `filename`."""
    score: str | None = None
    """The rating, or several columns between commas, one a rater, whose mean it is; null: recognised by its name, such
    as `score`, `mos` or `rating`."""
    group: str = "group"
    """What a split keeps whole (optional): the scene, the reference."""
    prompt: str = "prompt"
    """The prompt that the picture was generated from (optional); also its group, without a column of groups."""
    alignment: str = "alignment"
    """The rating of how well the picture matches its prompt (optional)."""
    scene: str = "scene"
    """The scene, several between `;` (optional)."""
    distortion: str = "distortion"
    """The distortion (optional)."""
    subset: str = "subset"
    """The part of the data set within which metrics are computed as well (optional)."""
    std: str | None = "std"
    """The standard deviation of the votes whose mean the rating is (optional); null: none."""
    count: str | None = "count"
    """The number of these votes (optional); null: none."""


class SplitSpec(Spec):
    """A split that a data set comes with: which of its pictures are the test."""

    table: Paths = Field([])
    """The file that lists the split, inside the root, or several possible names of it; none: the table of ratings."""
    image: str = "image"
    """The column of that file that holds the pictures, or what stands in the column `by`."""
    by: Literal["image", "subset"] = "image"
    """What is split: pictures, or whole subsets."""
    column: str | None = None
    """The column that names the part; null: all that the file holds is the test."""
    test: list[str] = Field(["test"])
    """The names of the test in that column, whatever their case; the others are learned from."""
    shares_groups: bool = False
    """Whether groups are on both sides."""


class TableTask(Spec):
    """A table of rated pictures."""

    kind: Literal["table"]
    """The kind of task."""
    description: str
    """One line for `fsiqa tasks`."""
    root: Path | None = None
    """Folder of the pictures; null: that of the table."""
    labels: Paths = Field([])
    """The table (.csv, .tsv, .xlsx, .xls), its path or its name inside the root, or several names, of which the first
    that is there is read; none: given by `--labels`."""
    reader: Readers | None = None
    """The reader of a label file that is no plain table, as the data set has it."""
    test_labels: Path | None = None
    """A second table, the test."""
    splits: dict[str, SplitSpec] = Field({})
    """The splits that the data set comes with, by name; the first that is there is the test, else a share `test` of
    the groups."""
    images: Names = Field(["."])
    """Folder of the pictures inside the root, or several, of which the first that is there is taken."""
    columns: Columns = Columns()
    """The names of the columns."""
    range: tuple[float, float] | None = None
    """The rating scale, [lowest, highest]; null: the lowest and the highest rating of the shots."""
    alignment_range: tuple[float, float] | None = None
    """The scale of the column alignment; null: the column is not read."""
    lower_is_better: bool = False
    """Whether low ratings are the good ones, as in DMOS."""
    std_of_mean: bool = False
    """Whether the column `std` holds deviations of the means, not of single votes."""
    skip_incomplete: bool = False
    """Whether rows without a rating, or whose picture is missing, are left out and counted."""
    pooled: bool = True
    """Whether ratings of different subsets can be compared; if not, metrics are medians over the subsets."""
    group: str | None = None
    """For tables without a column of groups: a pattern whose one group, matched to the file name, is the group."""
    subset: str | None = None
    """For tables without a column of subsets: a pattern whose one group, matched to the file name, is the subset."""
    model: str | None = None
    """For tables without a column `model`: the same for the generative model of a picture."""
    annotations: list[Path] = Field([])
    """LIQE's files of scenes and distortions."""
    test: float = Field(0.2, gt=0, lt=1)
    """Share of the groups that is the test."""
    pictures: int | None = None
    """The number of rated pictures of a released data set; null: a table of one's own, whose order of rows means
    nothing."""
    shares: dict[str, str] = Field({})
    """The tasks that have pictures in common with it, and what: a model of one is not tested on the other."""
    short_side: int | None = Field(None, ge=16, le=20_000)
    """The shorter side in pixels to which papers reduce the pictures first; null: they do not."""
    notes: list[str] = Field([])
    """What to know of the data set."""
    citation: str | None = None
    """The paper to cite."""
    terms: str | None = None
    """What its pictures and ratings may be used for."""
    url: str | None = None
    """Where to get it, or whom to ask."""

    @field_validator("range", "alignment_range")
    @classmethod
    def _spans(cls, ends: tuple[float, float] | None) -> tuple[float, float] | None:
        if ends is not None and not ends[0] < ends[1]:
            raise ValueError("the lowest and the highest are needed, such as [1, 5]")
        if ends is not None and max(map(abs, ends)) > LARGEST_RATING:
            raise ValueError(f"ratings beyond {LARGEST_RATING:g} are not read")
        return ends

    @field_validator("group", "subset", "model")
    @classmethod
    def _has_a_group(cls, pattern: str | None) -> str | None:
        try:
            if pattern is not None and re.compile(pattern).groups != 1:
                raise ValueError("a pattern with one group is needed, such as '^(ss\\d+)'")
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"not a pattern ({first_sentence(error)})") from None
        return pattern


class EpisodeSpec(Spec):
    """One step of meta-training: tasks, each with a support and a query that share no photograph."""

    tasks_per_step: int = Field(4, gt=0, le=1000)
    """Number of tasks."""
    support: int = Field(16, gt=0, le=10_000)
    """Pictures of a task's support."""
    query: int = Field(4, gt=0, le=10_000)
    """Pictures of a task's query."""
    levels: int | None = Field(None, ge=1, le=5)
    """Number of a task's levels, drawn for each episode; null: all."""


class SyntheticTask(Spec):
    """Clean photographs x distortions x levels, rated with KADID-10k's MOS of each (distortion, level), 1 to 5."""

    kind: Literal["synthetic"]
    """The kind of task."""
    description: str
    """One line for `fsiqa tasks`."""
    root: Path | None = None
    """Folder of clean photographs; null: `photographs`."""
    photographs: list[str] = Field([])
    """Names of photographs inside the packages of the dependencies."""
    short_side: int = Field(KADID_SIDE, ge=32, le=20_000)
    """Shorter side in pixels to which larger photographs are reduced before they are distorted."""
    distortions: list[str] | None = None
    """Names of distortions; null: all 25 of KADID-10k."""
    levels: list[Annotated[int, Field(ge=1, le=5)]] = Field([1, 2, 3, 4, 5], min_length=1, max_length=5)
    """Levels of each distortion, 1 to 5."""
    hold_out: list[str] = Field([])
    """Distortions that meta-training keeps for validation."""
    compounds: int = Field(0, ge=0, le=10_000)
    """Number of random pairs of distortions that are tasks as well."""
    contents: int = Field(1, ge=1, le=1000)
    """Number of groups of similar photographs; each distortion is a task in each group."""
    criteria: int = Field(0, ge=0, le=1000)
    """Number of tasks by criterion, in the place of those by distortion: all distortions, as simulated raters judge
    them who mind different faults, like different content (the groups above) and use the scale in their own way."""
    label_noise: float = Field(0.0, ge=0, le=100)
    """Standard deviation of the noise added to the ratings in meta-training, on the scale from 1 to 5."""
    episodes: EpisodeSpec = EpisodeSpec()
    """What a step of meta-training sees."""
    test: float = Field(0.2, gt=0, lt=1)
    """Share of the photographs kept for validation or testing."""

    def model_post_init(self, _: Any) -> None:
        levels = len(set(self.levels))
        if (self.episodes.levels or 0) > levels:
            raise InputError(f"episodes.levels is {self.episodes.levels}, but there are {levels} levels")


Task = Annotated[TableTask | SyntheticTask, Discriminator("kind")]
