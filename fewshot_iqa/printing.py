"""What the command line prints. Imports of rich wait inside, so that `fsiqa --help` answers at once."""

import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Control characters, which could move the cursor or name the window, and those that turn the direction of a line.
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
METRICS = ("srcc", "plcc", "plcc_logistic", "krcc", "rmse")


def shown(text: str) -> str:
    """A text as a terminal may show it: control characters, which names of files may hold, as their escapes."""
    return CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def echo(line: str, *, err: bool = False) -> None:
    """Print one line."""
    print(shown(line), file=sys.stderr if err else sys.stdout, flush=True)


def print_metrics(
    title: str, rows: Mapping[str, Mapping[str, Any]], iqr: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """A row of metrics for each label; `iqr` is printed in brackets after each."""
    cells = []
    for label, row in rows.items():
        shown = [decimals(row[name]) for name in METRICS]
        if iqr:
            shown = [f"{cell} ({decimals(iqr[label][name])})" for cell, name in zip(shown, METRICS, strict=True)]
        cells.append([label, *shown])
    print_table(title, ("", *METRICS), cells)


def print_table(title: str | None, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if title:
        console.print(Text(shown(title)))  # a table's own title is folded to the table's width
    table = Table(box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(shown(column), overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else shown(str(cell))) for cell in row))  # Text: names are no markup
    console.print(table)


def difference_rows(found: Iterable[Mapping[str, Any] | None]) -> list[list[str]]:
    """Three rows of paired differences, a column for each: mean difference, 95 % interval, wins."""
    columns = []
    for each in found:
        if each is None:
            columns.append(("-", "-", "-"))
            continue
        ends = [decimals(end, sign=True) for end in each["interval"] or ()]
        difference = decimals(each["difference"], sign=True)
        columns.append((difference, " ".join(ends) or "-", f"{each['wins']} of {each['draws']}"))
    names = ("  difference", "  95 % interval", "  wins")
    return [[name, *cells] for name, cells in zip(names, zip(*columns, strict=True), strict=True)]


def decimals(value: float | None, *, sign: bool = False) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:{'+' if sign else ''}.3f}"


def nearby(path: str | Path) -> str:
    """A path from the working directory on, where it lies inside."""
    here = Path.cwd()
    return str(Path(path).relative_to(here) if Path(path).is_relative_to(here) else path)


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def with_std(value: float | None, std: float | None) -> str | None:
    """`0.71 ± 0.08` where a standard deviation is known."""
    if value is None or std is None:
        return None if value is None else str(rounded(value))
    places = max(0, 1 - math.floor(math.log10(std))) if std > 0 else 4
    return f"{value:.{places}f} ± {std:.{places}f}"
