"""The base of every specification."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """Immutable keys and values; an unknown key is an error, and so are NaN and infinity. The text under a key
    describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


def as_list(value: Any) -> Any:
    """A list, of one value also where it stands alone; none of null."""
    return [] if value is None else value if isinstance(value, list | tuple) else [value]


def deep_merge(below: Any, above: Any) -> Any:
    """Nested dictionaries merged key by key: `above` wins, and null in it removes the key.

    >>> deep_merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": None}})
    {'a': {'b': 3}}
    """
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    merged = below | {key: deep_merge(below.get(key), value) for key, value in above.items()}
    return {key: value for key, value in merged.items() if value is not None}
