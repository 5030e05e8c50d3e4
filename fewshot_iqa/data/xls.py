"""The sheets of a workbook as calamine reads them, and those of an .xls file, in a process of its own: a damaged one
can crash calamine, make it hang or ask for any amount of memory."""

import json
import math
import subprocess
import sys
from io import BytesIO
from typing import Any

MOST_SECONDS, MOST_MEMORY = 60, 4_000_000_000  # of that process; Windows and macOS keep to the seconds alone

Rows = list[list[str]]


def read_xls(content: bytes) -> dict[str, Rows]:
    """{sheet: its rows} of an .xls file. ValueError where it cannot be read."""
    # by the path of this file: -m would import what lies in the working folder
    command = [sys.executable, __file__]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=MOST_SECONDS)
        found: dict[str, Rows] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        reason = "it is protected by a password, or an .xls file that is damaged"
        raise ValueError(f"{reason}: save it as .xlsx or .csv without one") from None
    return found


def sheets_of(book: Any, most_cells: float = math.inf, most_characters: float = math.inf) -> dict[str, Rows]:
    """{sheet: its rows} of a `CalamineWorkbook`, the rows of a sheet of one width. ValueError where there is more in
    all sheets together."""
    found: dict[str, Rows] = {}
    for name in book.sheet_names:
        rows = book.get_sheet_by_name(name).to_python(skip_empty_area=False)
        found[name] = rows = [[_text(cell) for cell in row] for row in rows]
        most_cells -= sum(map(len, rows))
        most_characters -= sum(len(text) for row in rows for text in row)
        if most_cells < 0 or most_characters < 0:
            raise ValueError("its sheets hold more than its parts: save the table alone as .csv")
    return found


def _text(cell: object) -> str:
    """A number without a fraction as Excel shows it: 1600, not 1600.0."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)


if __name__ == "__main__":
    del sys.path[0]  # the folder of this file, whose names are not for others
    from python_calamine import CalamineWorkbook

    if sys.platform not in ("win32", "darwin"):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    print(json.dumps(sheets_of(CalamineWorkbook.from_filelike(BytesIO(sys.stdin.buffer.read())))))
