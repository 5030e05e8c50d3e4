"""Tables of rated pictures -> records."""

from pathlib import Path

import pandas as pd

from ..config import TableTask
from ..errors import InputError, nearest
from ..types import Record

OPTIONAL = ("group", "prompt", "scene", "distortion")


def read_table(task: TableTask) -> list[Record]:
    """The records of a table; InputError names the table and the row (the header being row 1) or column at fault."""
    if task.root is None or task.labels is None:
        raise InputError("this task reads a table: give --root FOLDER and --labels TABLE.csv")
    if not task.root.is_dir():
        raise InputError(f"{task.root}: no such folder")
    path = task.labels if task.labels.is_file() else task.root / task.labels
    table = _read(path)
    columns = {name: getattr(task.columns, name) for name in ("image", "score", *OPTIONAL)}
    for name in ("image", "score"):
        if columns[name] not in table:
            known = [str(column) for column in table]
            raise InputError(
                f"{path}: no column '{columns[name]}'.{nearest(columns[name], known)} Columns: {', '.join(known)}; "
                f"name yours with --set columns.{name}=COLUMN"
            )
    ratings = _ratings(path, table[columns["score"]])
    folder = task.root / task.images
    records = []
    for row, (image, rating) in enumerate(zip(table[columns["image"]], ratings, strict=True), start=2):
        file = folder / str(image)
        if not file.is_file():
            raise InputError(f"{path}, row {row}: {file} does not exist")
        cells = {name: table[columns[name]].iloc[row - 2] for name in OPTIONAL if columns[name] in table}
        texts = {name: str(cell).strip() for name, cell in cells.items() if not pd.isna(cell)}
        records.append(
            Record(
                file,
                rating,
                group=texts.get("group", str(image)),
                distortion=texts.get("distortion"),
                scene=tuple(part.strip() for part in texts.get("scene", "").split(";") if part.strip()),
                prompt=texts.get("prompt"),
            )
        )
    return records


def _read(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, skipinitialspace=True, sep=None, engine="python", encoding_errors="replace")
    except FileNotFoundError:
        raise InputError(f"{path}: no such table") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError, OSError) as error:
        raise InputError(f"{path}: not readable as a table ({error})") from None
    if table.empty:
        raise InputError(f"{path}: the table holds no rows")
    return table.rename(columns=lambda name: str(name).strip())


def _ratings(path: Path, column: "pd.Series") -> list[float]:
    numbers = pd.to_numeric(column, errors="coerce")
    for row, (text, number) in enumerate(zip(column, numbers, strict=True), start=2):
        if pd.isna(number) or abs(number) == float("inf"):
            shown = "empty" if pd.isna(text) else f"'{text}'"
            raise InputError(f"{path}, row {row}: the score is {shown}, not a number")
    if numbers.nunique() == 1:
        raise InputError(f"{path}: every score equals {numbers.iloc[0]:g}: there is nothing to learn from")
    return [float(number) for number in numbers]
