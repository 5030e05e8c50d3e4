"""Tables: files of text, workbooks, and DataFrames -> rows of texts."""

import csv
import math
import re
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pandas as pd

from ..errors import InputError, InputWarning
from ..files import SUFFIXES as PICTURES
from . import workbooks
from .workbooks import Rows

FIRST_ROW = 2  # the number of the first row below the header, as an editor shows it
SEARCHED = 30  # rows in which a header is looked for, below a title

IsHeader = Callable[[Sequence[str]], bool]


@dataclass(frozen=True)
class Table:
    """Rows of texts, indexed as an editor counts them (those of a frame from 0), and what messages call them."""

    where: str
    rows: pd.DataFrame


def read_rows(
    path: Path, read: Callable[[Path], pd.DataFrame] | None = None, *, is_header: IsHeader = lambda _: False
) -> Table:
    """The table in a file, by a reader of its own or, without one, by its suffix.

    A header that `is_header` knows is found below title rows and in other sheets too.
    """
    where = str(path)
    try:
        if read is not None:
            table, header = read(path), 0
        elif path.suffix.lower() in workbooks.SUFFIXES:
            sheets = workbooks.read_sheets(path)
            sheet, header = _find_header(sheets, is_header)
            where += f", sheet '{sheet}' of {', '.join(sheets)}" if len(sheets) > 1 else ""
            if sheet != next(iter(sheets)) or header:
                warnings.warn(f"{where}: the header is row {header + 1}", InputWarning, stacklevel=3)
            table = workbooks.frame(sheets[sheet], header)
        else:
            table, header = _read_text(path, is_header)
    except FileNotFoundError as error:
        raise InputError(f"{error.filename or path}: no such table") from None
    except KeyError as error:
        raise InputError(f"{path}: {error} is not in it: it is not the label file of this data set") from None
    except (OSError, ValueError, csv.Error, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not readable as a table ({error})") from None
    except Exception as error:  # readers meet other files with errors of every kind
        raise InputError(f"{path}: it is not the label file of this data set ({error})") from error
    table.index += header + FIRST_ROW
    return Table(where, _cleaned(where, table))


def from_frame(frame: pd.DataFrame) -> Table:
    where = "the labels table"
    return Table(where, _cleaned(where, frame.reset_index(drop=True)))


def read_text(path: Path) -> pd.DataFrame:
    """A table of text whose first row is its header."""
    return _read_text(path, lambda _: False)[0]


def _cleaned(where: str, table: pd.DataFrame) -> pd.DataFrame:
    """A table of texts without blanks around the names of columns, and without empty rows."""
    table = table.astype(object)
    table = table.where(table.notna(), "").map(str).rename(columns=lambda name: str(name).strip())
    table = table[(table != "").any(axis=1)]
    if table.empty:
        raise InputError(f"{where}: the table holds no rows")
    if (again := table.columns[table.columns.duplicated()]).size:
        raise InputError(f"{where}: two columns are named '{again[0]}': rename one")
    return table


def _find_header(sheets: dict[str, Rows], is_header: IsHeader) -> tuple[str, int]:
    """The sheet and the row of the header, the first of the first sheet where none is known."""
    for name, rows in sheets.items():
        for number, row in enumerate(rows[:SEARCHED]):
            if is_header(row):
                return name, number
    return next(iter(sheets)), 0


def _read_text(path: Path, is_header: IsHeader) -> tuple[pd.DataFrame, int]:
    """Text between commas, semicolons or tabs, and the number of rows above its header. With semicolons or tabs a
    number may have a decimal comma."""
    content = path.read_bytes()
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")  # as spreadsheets on Windows write it
    if "\0" in text:
        raise ValueError("it is not text: save it as .csv or .xlsx")
    if text.lstrip()[:1] == "<":
        raise ValueError("it is a page of the web or XML: save the table itself as .csv or .xlsx")
    lines, above = text.splitlines(keepends=True), 0
    stated = re.fullmatch(r"sep=(.)\s*", lines[0]) if lines else None  # as Excel writes it
    if stated:
        above = 1
    for number, line in enumerate(lines[:SEARCHED]):
        if is_header(next(csv.reader([line], delimiter=stated[1] if stated else _separator(line)), [])):
            above = number
            break
    text = "".join(lines[above:])
    separator = stated[1] if stated else _separator(text)
    width = 0
    for number, cells in enumerate(csv.reader(StringIO(text), delimiter=separator), start=above + 1):
        if not width and (_is_data(cells) or _is_data(" ".join(cells).split())):
            raise ValueError(f"row {number} looks like data: add a header above it, such as image{separator}score")
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
    if separator != ",":
        table = table.replace(r"^\s*([-+]?\d+),(\d+)(\s*%?\s*)$", r"\1.\2\3", regex=True)
    return table, above


def _separator(text: str) -> str:
    """That of the first line."""
    return max(",;\t", key=text.partition("\n")[0].count)


def _is_data(cells: Sequence[str]) -> bool:
    """Whether a row holds a picture's name and a number, as no header does."""
    pictures = any(Path(cell.strip()).suffix.lower() in PICTURES for cell in cells)
    return pictures and any(math.isfinite(to_number(cell)) for cell in cells)


def parse_ratings(where: str, column: "pd.Series[str]", span: tuple[float, float] | None) -> dict[int, float]:
    """{row: rating}; InputError where one is not a number or outside of the span, or all are the same."""
    low, high = span or (-math.inf, math.inf)
    numbers = to_numbers(column)
    for row, number in numbers.items():
        if not math.isfinite(number):
            shown = f"'{column[row]}'" if column[row] else "empty"
            hint = "leave out such rows with --skip-incomplete"
            raise InputError(f"{where}, row {row}: the score is {shown}, not a number; {hint}")
        if not low <= number <= high:
            raise InputError(
                f"{where}, row {row}: the score {number:g} lies outside of the range {low:g} to {high:g}: widen --range"
            )
    if len(numbers) > 1 and len(set(numbers.values())) == 1:
        raise InputError(f"{where}: every score equals {column.iloc[0]}: there is nothing to learn from")
    return numbers


def to_numbers(column: "pd.Series[str]") -> dict[int, float]:
    """{row: number}, without the percent sign where each has one; nan for what is no number."""
    texts = column.str.strip()
    bare = texts.str.removesuffix("%")
    signed = texts[[math.isfinite(to_number(text)) for text in bare]].str.endswith("%").all()
    return {int(str(row)): to_number(text) for row, text in (bare if signed else texts).items()}


def to_number(text: str) -> float:
    """nan for what is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan
