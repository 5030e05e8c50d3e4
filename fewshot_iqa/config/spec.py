"""What every specification is."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def laid_over(below: Any, above: Any) -> Any:
    """Keys and values with others laid over them, part by part; null takes a part away."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: laid_over(below.get(key), value) for key, value in above.items()}
