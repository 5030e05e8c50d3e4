"""Tables: files of text, Excel's, and DataFrames -> rows of texts."""

import csv
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pandas as pd
from python_calamine import CalamineError

from ..errors import InputError

WORKBOOKS = (".xlsx", ".xls", ".xlsb", ".ods")


@dataclass(frozen=True)
class Table:
    """Rows of texts, indexed as an editor counts them (those of a frame from 0), and what messages call them."""

    where: str
    rows: pd.DataFrame


def read_rows(path: Path, read: Callable[[Path], pd.DataFrame] | None = None) -> Table:
    """The table in a file, by a reader of its own or, without one, by its suffix."""
    try:
        table = (read or (read_excel if path.suffix.lower() in WORKBOOKS else read_text))(path)
    except FileNotFoundError as error:
        raise InputError(f"{error.filename or path}: no such table") from None
    except KeyError as error:
        raise InputError(f"{path}: {error} is not in it: it is not the label file of this data set") from None
    except (CalamineError, OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: not readable as a table ({error})") from None
    table.index += 2  # row numbers as an editor shows them, the header being row 1
    return Table(str(path), _cleaned(str(path), table))


def from_frame(frame: pd.DataFrame) -> Table:
    where = "the labels table"
    return Table(where, _cleaned(where, frame.reset_index(drop=True)))


def _cleaned(where: str, table: pd.DataFrame) -> pd.DataFrame:
    """A table of texts without blanks around the names of columns, and without empty rows."""
    table = table.astype(object)
    table = table.where(table.notna(), "").map(str).rename(columns=lambda name: str(name).strip())
    table = table[(table != "").any(axis=1)]
    if table.empty:
        raise InputError(f"{where}: the table holds no rows")
    return table


def read_excel(path: Path, *, sheet: str | int = 0, header: int | None = 0) -> pd.DataFrame:
    """Texts of a sheet, by default the first, whose row `header` from 0 on names the columns."""
    return pd.read_excel(path, sheet, header=header, dtype=str, keep_default_na=False, engine="calamine")


def read_text(path: Path) -> pd.DataFrame:
    """Text between commas, semicolons or tabs; with the latter two a number may have a decimal comma."""
    content = path.read_bytes()
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")  # as spreadsheets on Windows write it
    if "\0" in text:
        raise ValueError("it is not text: save it as .csv or .xlsx")
    separator = max(",;\t", key=text.partition("\n")[0].count)
    width = 0
    for number, cells in enumerate(csv.reader(StringIO(text), delimiter=separator), start=1):
        width = width or len(cells)
        if any(cell.strip() for cell in cells[width:]):
            hint = " (for decimal commas, separate columns by semicolons)" if separator == "," else ""
            raise ValueError(f"row {number} has {len(cells)} values, the header {width} columns{hint}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.ParserWarning)  # a comma at the end of each row
        table = pd.read_csv(
            StringIO(text), sep=separator, dtype=str, keep_default_na=False, index_col=False, skipinitialspace=True,
            skip_blank_lines=False,
        )  # fmt: skip
    return table if separator == "," else table.replace(r"^\s*([-+]?\d+),(\d+)\s*$", r"\1.\2", regex=True)


def parse_ratings(where: str, column: "pd.Series[str]", span: tuple[float, float] | None) -> dict[int, float]:
    """{row: rating}; InputError where one is not a number or outside of the span, or all are the same."""
    low, high = span or (-math.inf, math.inf)
    numbers = {int(str(row)): to_number(text) for row, text in column.items()}
    for row, number in numbers.items():
        if not math.isfinite(number):
            shown = f"'{column[row]}'" if column[row] else "empty"
            raise InputError(f"{where}, row {row}: the score is {shown}, not a number")
        if not low <= number <= high:
            raise InputError(
                f"{where}, row {row}: the score {number:g} lies outside of the range {low:g} to {high:g}: widen --range"
            )
    if len(numbers) > 1 and len(set(numbers.values())) == 1:
        raise InputError(f"{where}: every score equals {column.iloc[0]}: there is nothing to learn from")
    return numbers


def to_number(text: str) -> float:
    """nan for what is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan
