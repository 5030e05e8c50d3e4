"""The specifications of experiments: configs/experiments/*.yaml."""

from typing import Annotated, Any

from pydantic import Field, field_validator

from .spec import Spec
from .task import EpisodeSpec


class AblationSpec(Spec):
    """Variants of a method, `tables` = {table: {variant: overrides}}.

    All variants start from `start`: "none" (newly initialised prompts), a checkpoint, or null for the default of
    `adapt`.
    """

    config: str
    start: str | None = "none"
    tables: dict[str, dict[str, list[str]]] = Field(min_length=1)

    @field_validator("tables", mode="before")
    @classmethod
    def _named(cls, tables: Any) -> Any:
        """YAML reads a name such as 5 as a number."""
        if not isinstance(tables, dict) or not all(isinstance(variants, dict) for variants in tables.values()):
            return tables
        return {table: {str(name): changes for name, changes in variants.items()} for table, variants in tables.items()}


class MetaVsNoneSpec(Spec):
    """The plan of `fsiqa experiment meta-vs-none`: does meta-training help adaptation to unseen distortions?

    `meta` and `adapt` are changes to those sections of `config`. Each of `arms` is a way to initialise the prompts:
    further changes to `meta`, or null for random prompts without meta-training. Each arm is adapted with each number of
    `shots` and of `steps`, in `choices` x `seeds` runs: choices of `held_types` held-out distortions, and seeds.
    """

    config: str
    clip: str | None = None  # replaces that of `config`
    choices: int = Field(3, gt=0)
    held_types: int = Field(5, gt=0, lt=25)
    seeds: int = Field(5, gt=0)
    photographs: int | None = Field(None, ge=4)  # how many of the folder's photographs; default: all
    held_photographs: float = Field(1 / 3, gt=0, lt=1)
    shots: list[Annotated[int, Field(ge=2)]] = Field(min_length=1)
    steps: list[Annotated[int, Field(gt=0)]] = Field(min_length=1)
    test: int = Field(200, gt=1)
    episodes: EpisodeSpec = EpisodeSpec()
    meta: dict[str, Any] = Field({})
    adapt: dict[str, Any] = Field({})
    arms: dict[str, dict[str, Any] | None] = Field(min_length=1)
