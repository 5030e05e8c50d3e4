"""Tables: files of text, workbooks, and DataFrames -> rows of texts."""

import csv
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import Path

import pandas as pd

from ..errors import InputError, InputWarning, first_sentence, shortened
from ..files import SUFFIXES as PICTURES
from ..files import require_regular
from . import workbooks
from .workbooks import MOST_BYTES, MOST_CELLS, MOST_COLUMNS, MOST_ROWS
from .xls import Rows

FIRST_ROW = 2  # the number of the first row below the header, as an editor shows it
SEARCHED = 30  # rows in which a header is looked for, below a title
MOST_CHARACTERS = 1_000_000  # of a line
# what other files of text begin with
OTHER_TEXT = {
    "<": "a page of the web or XML",
    "{\\rtf": "RTF",
    "{": "JSON",
    "[": "JSON",
    "%PDF": "PDF",
    "|": "a table in Markdown",
}
DECIMAL_COMMA = r"^\s*([-+]?\d+),(\d+)(\s*%?\s*)$"

IsHeader = Callable[[Sequence[str]], bool]


@dataclass(frozen=True)
class Table:
    """Rows of texts, indexed as an editor counts them (those of a frame from 0), and what messages call them."""

    where: str
    rows: pd.DataFrame


def read_rows(
    path: Path, read: Callable[[Path], pd.DataFrame] | None = None, *, is_header: IsHeader = lambda _: False
) -> Table:
    """The table in a file, by a reader of its own or, without one, by what the file begins with.

    A header that `is_header` knows is found below title rows and in other sheets too.
    """
    where, header = str(path), 0
    require_regular(path, "no such table")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"larger than {MOST_BYTES:,} bytes")
        if read is not None:
            table = read(path)
        elif workbooks.is_workbook(path):
            sheets = workbooks.read_sheets(path)
            sheet, header = _find_header(sheets, is_header)
            where += f", sheet '{sheet}' of {', '.join(sheets)}" if len(sheets) > 1 else ""
            if header or sum(any(map(any, rows)) for rows in sheets.values()) > 1:
                warnings.warn(f"{where}: the header is row {header + 1}", InputWarning, stacklevel=3)
            _tell_unnamed(where, sheets[sheet][header:], header)
            table = workbooks.frame(sheets[sheet], header)
        else:
            table, header = _read_text(path, is_header)
    except FileNotFoundError as error:
        raise InputError(f"{error.filename or path}: no such table") from None
    except KeyError as error:
        missing = shortened(str(error))
        raise InputError(f"{path}: {missing} is not in it: it is not the label file of this data set") from None
    except csv.Error as error:
        hint = "look for a quotation mark that is not closed"
        raise InputError(f"{path}: not readable as a table ({first_sentence(error)}): {hint}") from None
    except Exception as error:  # readers meet other files with errors of every kind
        raise InputError(f"{path}: not readable as a table ({first_sentence(error)})") from error
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
    text = _decoded(path.read_bytes())
    stated = re.match(r"sep=(.)\s*\n", text)  # as Excel writes it
    above = 1 if stated else 0
    for number, line in enumerate(islice(_of_bounded_length(StringIO(text)), SEARCHED)):
        if is_header(next(csv.reader([line], delimiter=stated[1] if stated else _separator(line)), [])):
            above = number
            break
    lines = StringIO(text)
    start = sum(map(len, islice(lines, above)))
    separator = stated[1] if stated else _separator(text[start:])
    rows: Rows = []
    width = 0
    for number, cells in enumerate(
        csv.reader(_of_bounded_length(lines), delimiter=separator, skipinitialspace=True, strict=True), start=above + 1
    ):
        if not rows and not any(cells):
            above = number
            continue
        if not rows and (_is_data(cells) or _is_data(" ".join(cells).split())):
            raise ValueError(f"row {number} looks like data: add a header above it, such as image{separator}score")
        # the commas at the end of a header name no column
        width = width or max((i for i, name in enumerate(cells, 1) if name.strip()), default=0)
        rows.append(cells[:width])
        if width > MOST_COLUMNS or len(rows) > MOST_ROWS or len(rows) * width > MOST_CELLS:
            raise ValueError(f"it has {width:,} columns and {len(rows):,} rows or more, more than any table of ratings")
        if any(cell.strip() for cell in cells[width:]):
            hint = " (for decimal commas, separate columns by semicolons)" if separator == "," else ""
            raise ValueError(f"row {number} has {len(cells)} values, the header {width} columns{hint}")
    if width == 1 and " " in rows[0][0].strip() and any(_is_data(row[0].split()) for row in rows[1:] if row):
        raise ValueError("blanks stand between its columns: put commas, semicolons or tabs there")
    _tell_unnamed(str(path), rows, above)
    table = workbooks.frame(rows, 0)
    if separator != ",":
        _tell_thousands(path, table)
        table = table.replace(DECIMAL_COMMA, r"\1.\2\3", regex=True)
    return table, above


def _decoded(content: bytes) -> str:
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")  # as spreadsheets on Windows write it
    if "\0" in text:
        raise ValueError("it is not text: save it as .csv or .xlsx")
    beginning = text.lstrip()[:10]
    for start, kind in OTHER_TEXT.items():
        if beginning.startswith(start):
            raise ValueError(f"it is {kind}: save the table itself as .csv or .xlsx")
    return text if "\n" in text else text.replace("\r", "\n")  # as Excel for Macintosh ends lines


def _of_bounded_length(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if len(line) > MOST_CHARACTERS:
            raise ValueError(f"a line has more than {MOST_CHARACTERS:,} characters")
        yield line


def _separator(text: str) -> str:
    """That of the first line."""
    return max(",;\t", key=text.partition("\n")[0].count)


def _tell_thousands(path: Path, table: pd.DataFrame) -> None:
    """An InputWarning where commas or points could part thousands: three digits follow each, and others are far
    larger."""
    for name, column in table.items():
        number = column[column.str.match(r"^\s*[-+]?\d+[.,]\d+\s*%?\s*$")].str.strip()
        if not number.size or not number.str.fullmatch(r"[-+]?[1-9]\d{0,2}[.,]\d{3}").all():
            continue
        read = number.str.replace(",", ".").astype(float)
        larger = [text for text in column if to_number(text) > 10 * read.abs().max()]
        if larger:
            message = (
                f"{path}: '{number.iloc[0]}' in the column '{name}' is read as {read.iloc[0]:g}, beside {larger[0]}"
            )
            sign = "comma" if "," in number.iloc[0] else "point"
            warnings.warn(f"{message}; for thousands, leave out the {sign}", InputWarning, stacklevel=4)


def _tell_unnamed(where: str, rows: Rows, above: int) -> None:
    """An InputWarning counts the values below a header, with so many rows above it, that has no name for them. A first
    column without a name numbers the rows."""
    unnamed = [i for i, name in enumerate(rows[0]) if i and not name.strip()] if rows else []
    found = [
        (number, row[i])
        for number, row in enumerate(rows[1:], above + FIRST_ROW)
        for i in unnamed
        if i < len(row) and row[i].strip()
    ]
    if found:
        number, text = found[0]
        message = (
            f"{where}: {len(found)} values below no name are left out, such as '{shortened(text)}' in row {number}"
        )
        warnings.warn(f"{message}; name each column", InputWarning, stacklevel=4)


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
            text = column[row]
            if not any(map(math.isfinite, numbers.values())):
                hint = "no row has one there; name another column with --score-column"
            else:
                hint = "write numbers as 1200 or 1.5" if "," in text else "leave out such rows with --skip-incomplete"
            shown = f"'{shortened(text)}'" if text else "empty"
            raise InputError(f"{where}, row {row}: the score is {shown}, not a number; {hint}")
        if not low <= number <= high:
            hint = "write 1,200 as 1200" if low <= 1000 * number <= high else "widen --range"
            raise InputError(
                f"{where}, row {row}: the score {number:g} lies outside of the range {low:g} to {high:g}: {hint}"
            )
    if len(numbers) > 1 and len(set(numbers.values())) == 1:
        raise InputError(f"{where}: every score equals {shortened(column.iloc[0])}: there is nothing to learn from")
    return numbers


def to_numbers(column: "pd.Series[str]") -> dict[int, float]:
    """{row: number}, without the percent sign where each has one; nan for what is no number."""
    return {int(str(row)): to_number(text) for row, text in without_percent(column).items()}


def without_percent(column: "pd.Series[str]") -> "pd.Series[str]":
    """The texts of a column without blanks around them, and without the percent sign where each number has one."""
    texts = column.str.strip()
    bare = texts.str.removesuffix("%")
    signed = texts[[math.isfinite(to_number(text)) for text in bare]].str.endswith("%").all()
    return bare if signed else texts


def to_number(text: str) -> float:
    """nan for what is no number."""
    try:
        return math.nan if "_" in text else float(text)  # Python reads 4_5 as 45
    except ValueError:
        return math.nan
