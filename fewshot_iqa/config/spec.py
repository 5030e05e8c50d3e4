"""What every specification is."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def deep_merge(below: Any, above: Any) -> Any:
    """Keys and values with others laid over them, part by part; null takes away what it is laid over."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    merged = below | {key: deep_merge(below.get(key), value) for key, value in above.items()}
    return {key: value for key, value in merged.items() if value is not None}
