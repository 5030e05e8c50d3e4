"""Workbooks of Excel -> rows of texts of their sheets."""

import re
import zipfile
from pathlib import Path

import pandas as pd
from python_calamine import CalamineError, CalamineWorkbook

SUFFIXES = (".xlsx", ".xlsm", ".xls")
MOST_CELLS = 20_000_000  # from the first cell to the last, which all take memory
OLE2 = b"\xd0\xcf\x11\xe0"  # the start of .xls, and of .xlsx with a password

Rows = list[list[str]]


def read_sheets(path: Path) -> dict[str, Rows]:
    """{sheet: its rows}, all of one width. ValueError says why a workbook cannot be read."""
    if path.suffix.lower() != ".xls":
        with path.open("rb") as file:
            if file.read(4) == OLE2:
                raise ValueError("it is protected by a password, or an .xls file under another name: save it as .xlsx")
        _require_dense(path)
    try:
        book = CalamineWorkbook.from_path(path)
        return {
            name: [
                [_text(cell) for cell in row] for row in book.get_sheet_by_name(name).to_python(skip_empty_area=False)
            ]
            for name in book.sheet_names
        }
    except CalamineError as error:
        raise ValueError(f"{error}: save it as .xlsx or .csv") from None


def read_excel(path: Path, *, sheet: str | None = None, header: int | None = 0) -> pd.DataFrame:
    """Texts of a sheet, by default the first, whose row `header` from 0 on names the columns."""
    sheets = read_sheets(path)
    if sheet is not None and sheet not in sheets:
        raise ValueError(f"no sheet '{sheet}', but {', '.join(sheets)}")
    rows = sheets[sheet] if sheet else next(iter(sheets.values()))
    return pd.DataFrame(rows) if header is None else frame(rows, header)


def frame(rows: Rows, header: int) -> pd.DataFrame:
    """The rows below the row `header`, which names the columns; columns without a name go. The index counts from 0."""
    named = [(i, name) for i, name in enumerate(rows[header] if rows else []) if name.strip()]
    columns = {name: [row[i] for row in rows[header + 1 :]] for i, name in named}
    return pd.DataFrame(columns, dtype=object)


def _text(cell: object) -> str:
    """A number without a fraction as Excel shows it: 1600, not 1600.0."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)


def _require_dense(path: Path) -> None:
    """ValueError where a cell lies so far from the others that all between do not fit the memory."""
    with zipfile.ZipFile(path) as archive:
        for part in archive.infolist():
            if not re.fullmatch(r"xl/worksheets/[^/]+\.xml", part.filename):
                continue
            rows = columns = 1
            with archive.open(part) as file:
                for line in iter(lambda: file.read(1 << 20), b""):
                    for column, row in re.findall(rb'\br="([A-Z]{1,3})(\d+)"', line):
                        rows, columns = max(rows, int(row)), max(columns, _number(column))
            if rows * columns > MOST_CELLS:
                raise ValueError(f"its last cell is in row {rows} and column {columns}: delete it, or save it as .csv")


def _number(column: bytes) -> int:
    """1 of A, 27 of AA."""
    found = 0
    for letter in column:
        found = 26 * found + letter - ord("A") + 1
    return found
