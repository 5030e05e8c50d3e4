"""The experiments: configs/experiments/*.yaml."""

from typing import Annotated, Any

from pydantic import Field, field_validator

from .spec import Spec
from .task import EpisodeSpec


class AblationSpec(Spec):
    """Variants of a method, {table: {variant: overrides}}, all from `start`: none (fresh prompts), a checkpoint, or
    null for what `adapt` begins from."""

    config: str
    start: str | None = "none"
    tables: dict[str, dict[str, list[str]]] = Field(min_length=1)

    @field_validator("tables", mode="before")
    @classmethod
    def _named(cls, tables: Any) -> Any:
        """Names may look like numbers."""
        if not isinstance(tables, dict) or not all(isinstance(variants, dict) for variants in tables.values()):
            return tables
        return {table: {str(name): changes for name, changes in variants.items()} for table, variants in tables.items()}


class MetaVsNoneSpec(Spec):
    """Prompts from different starts, adapted to distortions and photographs that their training did not have.

    `meta` and `adapt` are changes to those of `config`, `arms` the further changes to `meta` of each start: None for
    prompts as they are drawn. Each start is adapted with each number of `steps`.
    """

    config: str
    clip: str | None = None  # in the place of that of `config`
    choices: int = Field(3, gt=0)
    held_types: int = Field(5, gt=0, lt=25)
    seeds: int = Field(5, gt=0)
    photographs: int | None = Field(None, ge=4)  # so many of the folder's; None for all
    held_photographs: float = Field(1 / 3, gt=0, lt=1)
    shots: list[Annotated[int, Field(ge=2)]] = Field(min_length=1)
    steps: list[Annotated[int, Field(gt=0)]] = Field(min_length=1)
    test: int = Field(200, gt=1)
    episodes: EpisodeSpec = EpisodeSpec()
    meta: dict[str, Any] = Field({})
    adapt: dict[str, Any] = Field({})
    arms: dict[str, dict[str, Any] | None] = Field(min_length=1)
