"""Workbooks of Excel -> rows of texts of their sheets."""

import warnings
import zipfile
from collections import Counter
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from xml.parsers import expat

import pandas as pd
from python_calamine import CalamineWorkbook

from ..errors import InputWarning, first_sentence
from .xls import Rows, read_xls, sheets_of

MOST_BYTES = 500_000_000  # of a table, uncompressed
MOST_ROWS, MOST_COLUMNS = 1_048_576, 1_000
MOST_CELLS = 20_000_000  # from the first cell to the last, which all take memory
SPARE_CELLS = 500_000  # of all sheets, beyond those of their parts: several sheets may be one part
ZIP, OLE2 = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"  # the starts of .xlsx, and of .xls or what a password protects


def is_workbook(path: Path) -> bool:
    """Whether a file begins as workbooks do, whatever its name, or should do so: text under the name .xls is common."""
    return _start(path) in (ZIP, OLE2) or path.suffix.lower() in (".xlsx", ".xlsm")


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def read_sheets(path: Path) -> dict[str, Rows]:
    """{sheet: its rows}, all of one width. ValueError says why a workbook cannot be read."""
    if _start(path) == OLE2:
        return read_xls(path.read_bytes())
    if _start(path) != ZIP:
        raise ValueError("it is no workbook: save it as one, or name it .csv if it is a table of text")
    try:
        unpacked, cells = _unpacked(path)
        return sheets_of(CalamineWorkbook.from_filelike(unpacked), cells + SPARE_CELLS, MOST_BYTES)
    except (ValueError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of calamine is no Exception
        raise ValueError(f"it is damaged, {first_sentence(error)}: save it as .xlsx or .csv") from None


def read_excel(path: Path, *, sheet: str | None = None, header: int | None = 0) -> pd.DataFrame:
    """Texts of a sheet, by default the first, whose row `header` from 0 on names the columns."""
    sheets = read_sheets(path)
    if sheet is not None and sheet not in sheets:
        raise ValueError(f"no sheet '{sheet}', but {', '.join(sheets)}")
    rows = sheets[sheet] if sheet else next(iter(sheets.values()))
    return pd.DataFrame(rows) if header is None else frame(rows, header)


def frame(rows: Rows, header: int) -> pd.DataFrame:
    """The rows below the row `header`, which names the columns; columns without a name go. The index counts from 0."""
    named = [i for i, name in enumerate(rows[header] if rows else []) if name.strip()]
    below = [[row[i] if i < len(row) else "" for i in named] for row in rows[header + 1 :]]
    return pd.DataFrame(below, columns=[rows[header][i] for i in named], dtype=object)


def _unpacked(path: Path) -> tuple[BytesIO, int]:
    """The workbook's parts of XML, stored as they are: what is read next cannot unpack to more; and their cells.
    ValueError where they are too large, or where a cell lies so far from the others, or texts are so long and so often
    used, that they do not fit the memory."""
    unpacked, all_cells, empty, hidden = BytesIO(), 0, 0, 0
    texts: list[int] = []  # the characters of each shared text, and how many cells hold it
    uses: Counter[int] = Counter()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(unpacked, "w") as target:
        names = {name.lower() for name in archive.namelist()}
        if not any(name.endswith("workbook.xml") for name in names):
            kind = "an OpenDocument sheet" if "content.xml" in names else "not what .xlsx files hold"
            raise ValueError(f"it is {kind}: save it as .xlsx or .csv")
        parts = [part for part in archive.infolist() if part.filename.lower().endswith((".xml", ".rels"))]
        if sum(part.file_size for part in parts) > MOST_BYTES:
            raise ValueError(f"it unpacks to more than {MOST_BYTES:,} bytes: save the table alone as .csv")
        for part in parts:
            target.writestr(part.filename, content := archive.read(part))
            cells = _Cells(content)
            empty += cells.empty_formulas
            hidden += cells.hidden_rows
            texts = [max(sizes) for sizes in zip_longest(texts, cells.texts, fillvalue=0)]
            uses += cells.uses
            all_cells += cells.rows * cells.columns
            if cells.rows > MOST_ROWS or cells.columns > MOST_COLUMNS or all_cells > MOST_CELLS:
                last = f"row {cells.rows} and column {cells.columns}"
                raise ValueError(f"its last cell is in {last}: delete it, or save it as .csv")
    if sum(texts[i] * count for i, count in uses.items() if i < len(texts)) > MOST_BYTES:
        raise ValueError(f"its cells hold more than {MOST_BYTES:,} characters: save the table alone as .csv")
    if empty:
        message = f"{path}: formulas without a value: {empty}; a spreadsheet program that saves it computes them"
        warnings.warn(message, InputWarning, stacklevel=5)
    if hidden:
        warnings.warn(f"{path}: hidden rows, which are read as the others: {hidden}", InputWarning, stacklevel=5)
    unpacked.seek(0)
    return unpacked, all_cells


class _Cells:
    """The last cell of a part that holds something, how many formulas have no value and how many rows are hidden, how
    long its shared `texts` are and how often each of these is used."""

    def __init__(self, part: bytes) -> None:
        self.rows = self.columns = self.empty_formulas = self.hidden_rows = 0
        self.texts: list[int] = []
        self.uses: Counter[int] = Counter()
        self._size, self._is_shared, self._value = len(part), False, ""
        self._row = self._column = 0
        self._within = ""
        self._cell, self._is_empty_formula = (0, 0), False
        parser = expat.ParserCreate()
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = self._text, _refuse
        try:
            parser.Parse(part, True)
        except (expat.ExpatError, ValueError) as error:
            raise ValueError(f"its XML is broken, {first_sentence(error)}: save it as .xlsx or .csv") from None

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._within = kind = name.rpartition(":")[2]
        place = attributes.get("r", "")
        if kind == "row":
            self._row, self._column = int(place or self._row + 1), 0
            self.hidden_rows += attributes.get("hidden") in ("1", "true")
        elif kind == "c":
            letters, digits = place.rstrip("0123456789"), place.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
            self._column = _number(letters) if letters else self._column + 1
            self._cell, self._is_empty_formula = (int(digits or self._row), self._column), False
            self._is_shared, self._value = attributes.get("t") == "s", ""
        elif kind in ("v", "is"):
            self.rows, self.columns = max(self.rows, self._cell[0]), max(self.columns, self._cell[1])
        elif kind == "f":
            self._is_empty_formula = True
        elif kind == "si":
            self.texts.append(0)
        elif kind == "sst" and int(attributes.get("uniqueCount") or 0) > self._size:
            raise ValueError("it claims more texts than it holds")  # memory for so many would be asked for

    def _text(self, text: str) -> None:
        if self._within == "v":
            self._is_empty_formula = False
            self._value += text if self._is_shared else ""
        elif self._within == "t" and self.texts:
            self.texts[-1] += len(text)

    def _end(self, name: str) -> None:
        self._within = ""
        if name.rpartition(":")[2] == "c":
            self.empty_formulas += self._is_empty_formula
            if self._value.isdecimal():
                self.uses[int(self._value)] += 1


def _refuse(*_: object) -> None:
    raise ValueError("it declares a document type")


def _number(column: str) -> int:
    """1 of A, 27 of AA."""
    found = 0
    for letter in column:
        found = 26 * found + ord(letter) - ord("A") + 1
    return found
