"""What the command line prints and writes. Imports of rich wait inside, so that `fsiqa --help` answers at once."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from .errors import InputError

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("srcc", "plcc", "plcc_logistic", "krcc", "rmse")


def print_metrics(
    title: str, rows: Mapping[str, Mapping[str, Any]], spread: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """A row of metrics for each label; `spread` is printed in brackets after each."""
    cells = []
    for label, row in rows.items():
        shown = [decimals(row[name]) for name in METRICS]
        if spread:
            shown = [f"{cell} ({decimals(spread[label][name])})" for cell, name in zip(shown, METRICS, strict=True)]
        cells.append([label, *shown])
    print_table(title, ("", *METRICS), cells)


def print_table(title: str | None, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if title:
        console.print(Text(title))  # a table's own title is folded to the table's width
    table = Table(box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))  # Text: names are no markup
    console.print(table)


def decimals(value: float | None, *, sign: bool = False) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:{'+' if sign else ''}.3f}"


def nearby(path: str | Path) -> str:
    """A path from the working directory on, where it lies inside."""
    here = Path.cwd()
    return str(Path(path).relative_to(here) if Path(path).is_relative_to(here) else path)


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def with_spread(value: float | None, deviation: float | None) -> str | None:
    """`0.71 ± 0.08` where a standard deviation is known."""
    if value is None or deviation is None:
        return None if value is None else str(rounded(value))
    places = max(0, 1 - math.floor(math.log10(deviation))) if deviation > 0 else 4
    return f"{value:.{places}f} ± {deviation:.{places}f}"


def open_text(path: Path, mode: Literal["w", "a"] = "w") -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open(mode, newline="", encoding="utf-8", buffering=1)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def write_csv(path: Path | None, table: "pd.DataFrame | None") -> None:
    if path and table is not None:
        with open_text(path) as file:
            table.to_csv(file, index=False, float_format="%.5g")


def write_json(path: Path | None, result: Any) -> None:
    if path:
        with open_text(path) as file:
            file.write(json.dumps(result, indent=2, allow_nan=False) + "\n")
