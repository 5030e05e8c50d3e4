"""A source of records: tasks/*.yaml."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field

from .spec import Spec


class Columns(Spec):
    """Which column of a table holds what; an optional one that is absent is left out."""

    image: str = "image"
    score: str = "score"
    group: str = "group"
    prompt: str = "prompt"
    scene: str = "scene"
    distortion: str = "distortion"


class TableTask(Spec):
    """A table of rated pictures. Without `range`, the lowest and highest of the *shots* span the scale.

    `test_labels` is a second table whose rows are the test, as some data sets are released; else a share `test` is.
    """

    kind: Literal["table"]
    description: str
    root: Path | None = None
    labels: Path | None = None
    test_labels: Path | None = None
    images: str = "."  # folder of the pictures inside root
    columns: Columns = Columns()
    range: tuple[float, float] | None = None
    lower_is_better: bool = False
    test: float = Field(0.2, gt=0, lt=1)


class SyntheticTask(Spec):
    """Clean photographs x distortions, labelled with the human mean of each (distortion, level)."""

    kind: Literal["synthetic"]
    description: str
    root: Path | None = None  # a folder of clean photographs, instead of `photographs`
    photographs: list[str] = Field([])  # names of photographs that ship inside the dependencies
    short_side: int = Field(384, ge=32)
    distortions: list[str] | None = None  # default: all 25 of KADID
    levels: list[Annotated[int, Field(ge=1, le=5)]] = Field([1, 2, 3, 4, 5], min_length=1)
    hold_out: list[str] = Field([])  # distortions kept for validation
    test: float = Field(0.2, gt=0, lt=1)  # share of the photographs kept for validation or testing


Task = Annotated[TableTask | SyntheticTask, Discriminator("kind")]
