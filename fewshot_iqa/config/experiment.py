"""The specifications of experiments: configs/experiments/*.yaml."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from ..errors import InputError
from .spec import Spec
from .task import EpisodeSpec


class AblationSpec(Spec):
    """Variants of a method, in tables."""

    config: str
    """The method."""
    start: str | None = "none"
    """Where the prompts of all variants come from: `none` (fresh ones), a checkpoint, or null for the default of
    `adapt`."""
    tables: dict[str, dict[str, list[str]]] = Field(min_length=1)
    """{table: {variant: overrides}}."""

    @field_validator("tables", mode="before")
    @classmethod
    def _named(cls, tables: Any) -> Any:
        """YAML reads a name such as 5 as a number."""
        if not isinstance(tables, dict) or not all(isinstance(variants, dict) for variants in tables.values()):
            return tables
        return {table: {str(name): changes for name, changes in variants.items()} for table, variants in tables.items()}


class MetaVsNoneSpec(Spec):
    """The plan of `fsiqa experiment meta-vs-none`: does meta-training help adaptation to unseen distortions?

    Each arm is adapted with each number of shots and of steps, in `choices` x `seeds` runs.
    """

    config: str
    """The method."""
    clip: str | None = None
    """A CLIP in the place of the method's."""
    choices: int = Field(3, gt=0, le=100)
    """Number of disjoint choices of held-out distortions."""
    held_types: int = Field(5, gt=0, lt=25)
    """Number of held-out distortions in each choice."""
    seeds: int = Field(5, gt=0, le=10_000)
    """Number of seeds for each choice."""
    photographs: int | None = Field(None, ge=4, le=10_000_000)
    """Number of the folder's photographs that are used; null: all."""
    criteria: int = Field(0, ge=0, le=1000)
    """Number of criteria to train on, as for the key of a task. A choice is then a criterion that is held out, in the
    place of distortions."""
    contents: int = Field(1, ge=1, le=1000)
    """Number of groups of similar photographs, as for the key of a task."""
    held_photographs: float = Field(1 / 3, gt=0, lt=1)
    """Share of the photographs that is held out."""
    shots: list[Annotated[int, Field(ge=2, le=1_000_000)]] = Field(min_length=1, max_length=1000)
    """Numbers of shots."""
    steps: list[Annotated[int, Field(gt=0, le=1_000_000)]] = Field(min_length=1, max_length=1000)
    """Numbers of steps of adaptation."""
    test: int = Field(200, gt=1, le=10_000_000)
    """Number of test pictures."""
    episodes: EpisodeSpec = EpisodeSpec()
    """What a step of meta-training sees."""
    meta: dict[str, Any] = Field({})
    """Changes to the method's section `meta`."""
    adapt: dict[str, Any] = Field({})
    """Changes to the method's section `adapt`."""
    arms: dict[str, dict[str, Any] | None] = Field(min_length=1)
    """{start of the prompts: further changes to `meta`, or null for prompts that are not meta-trained}."""


class ArmSpec(Spec):
    """A method among several that are compared."""

    config: str
    """The method."""
    set: list[str] = Field([])
    """Its overrides."""


class ConfoundedSpec(Spec):
    """The plan of `fsiqa experiment confounded`: which methods follow what pictures show in the place of quality?"""

    arms: dict[str, ArmSpec] = Field(min_length=1)
    """The methods by their labels; the others are compared with the first."""


class PaperRow(Spec):
    """A row of a paper's table."""

    task: str
    """The data set that is learned from."""
    tested_on: str | None = None
    """Another data set that all methods are tested on; null: the test of a split of the first."""
    shots: str = "100%"
    """Number or share of the training pool that is learned from."""
    set: dict[str, list[str]] = Field({})
    """{method: overrides for this row}."""
    paper: dict[str, dict[str, float]] = Field({})
    """{method: {metric: the paper's number}}, where it is known."""


class ReleasedSpec(Spec):
    """How the code that a paper released measures: `fsiqa reproduce --released`."""

    splits: Literal["random", "sequential"] = "random"
    """Its splits: of whole groups by chance, or the first rows of the table to learn from and the last to test."""
    looks: int = Field(10, gt=0, le=10_000)
    """How often the test pictures are predicted while a method learns by gradients; the best of them is reported."""


class PaperSpec(Spec):
    """A table of a paper: `fsiqa reproduce`."""

    title: str
    """One line."""
    source: str
    """The paper, and how it came to its numbers."""
    methods: dict[str, ArmSpec] = Field(min_length=1)
    """The methods by their labels, the paper's first and baselines."""
    rows: list[PaperRow] = Field(min_length=1)
    """Its rows."""
    seeds: int = Field(10, gt=0, le=10_000)
    """Number of splits."""
    test: float = Field(0.2, gt=0, lt=1)
    """Share of the groups that is the test."""
    statistic: Literal["median", "mean"] = "median"
    """What is taken over the splits."""
    released: ReleasedSpec | None = None
    """How its released code measures; null: none was released, or it measures as we do."""
    notes: list[str] = Field([])
    """What to know of it."""

    def model_post_init(self, _: Any) -> None:
        for row in self.rows:
            for name in [*row.set, *row.paper]:
                if name not in self.methods:
                    raise InputError(f"rows: '{name}' is none of the methods {', '.join(self.methods)}")
