"""The templates of the pages."""

from functools import cache
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape


def render(template: str, **values: Any) -> str:
    """A page, texts in it escaped."""
    return _templates().get_template(template).render(**values)


def decimals(value: float | None, digits: int = 3, sign: str = "") -> str:
    """A number with so many decimals; a dash where it is not known."""
    return f"{value:{sign}.{digits}f}" if is_given(value) else "–"


def is_given(value: Any) -> bool:
    """Whether a cell of a table holds a value."""
    return value is not None and not pd.isna(value)


@cache
def _templates() -> Environment:
    found = Environment(loader=PackageLoader("fewshot_iqa.app"), autoescape=select_autoescape())
    found.filters["decimals"] = decimals
    return found
