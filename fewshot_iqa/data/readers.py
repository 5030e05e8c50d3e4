"""Tables of rated pictures -> records."""

import csv
import math
import re
import statistics
import warnings
import zipfile
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from ..config import TableTask
from ..errors import InputError, InputWarning, nearest
from ..types import Record
from .columns import find_columns, no_column
from .labels import Annotations

FRAME = "the labels table"  # what messages call a DataFrame


@dataclass(frozen=True)
class Table:
    """Rows of texts, indexed as an editor counts them (those of a frame from 0), and what messages call them."""

    where: str
    rows: pd.DataFrame


def open_table(task: TableTask, frame: pd.DataFrame | None = None) -> Table:
    """`task.labels`, or the `frame` in its place."""
    if frame is not None:
        return Table(FRAME, _from_frame(frame))
    if task.labels is None:
        raise InputError("this task reads a table: give --labels TABLE.csv, and --root FOLDER of its pictures")
    path = _table_file(task, root_of(task))
    return Table(str(path), read_rows(path))


def root_of(task: TableTask) -> Path:
    """The folder of a task's pictures."""
    root = task.root or (task.labels.parent if task.labels else Path())
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    return root


def read_table(task: TableTask, given: Table | None = None) -> list[Record]:
    """The records of a table, by default of the task's own.

    Several rows of one picture become one of their mean rating; an InputWarning counts them. InputError names the table
    and the row or column at fault.
    """
    opened = given or open_table(task)
    where, table, root = opened.where, opened.rows, root_of(task)
    if task.model and "model" not in table and task.columns.image in table:
        table["model"] = table[task.columns.image].str.extract(task.model, expand=False).fillna("")
    columns = find_columns(task, where, [str(name) for name in table])
    folder = root / task.images
    ratings = parse_ratings(where, table[columns["score"]], task.range)
    names = _names(where, table[columns["image"]], folder)
    files = [folder / name for name in names]
    annotated = Annotations([each if each.is_file() else root / each for each in task.annotations], files)
    present = {name: table[column].to_dict() for name, column in columns.items()}
    records = []
    for (row, rating), file in zip(ratings.items(), files, strict=True):
        texts = {name: cells[row].strip() for name, cells in present.items() if cells[row].strip()}
        texts |= annotated[file]
        count = _at_least(1, where, row, "number of votes", texts.get("count"))
        records.append(
            Record(
                file,
                rating,
                group=texts.get("group") or texts.get("prompt") or texts["image"],
                distortion=texts.get("distortion"),
                scene=tuple(part.strip() for part in texts.get("scene", "").split(";") if part.strip()),
                prompt=texts.get("prompt"),
                alignment=_alignment(task, where, row, texts.get("alignment")),
                subset=texts.get("subset") or _subset(task, file),
                rating_std=_at_least(0, where, row, "deviation", texts.get("std")),
                votes=None if count is None else round(count),
            )
        )
    return _one_row_a_picture(where, records)


def stated_range(table: Table) -> tuple[float, float] | None:
    """The rating scale that a table states in each row of a column rating_scale, such as 1-5; None without one."""
    stated = set(table.rows["rating_scale"]) if "rating_scale" in table.rows else set()
    found = re.fullmatch(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", stated.pop()) if len(stated) == 1 else None
    low, high = map(float, found.groups()) if found else (0.0, 0.0)
    return (low, high) if low < high else None


def read_names(path: Path) -> list[str]:
    """The column image of a table, each name once, in order."""
    table = read_rows(path)
    if "image" not in table:
        raise InputError(f"{path}: no column 'image'")
    return list(dict.fromkeys(table["image"].str.strip()))


def read_prompts(path: Path, image: str = "image", prompt: str = "prompt") -> dict[str, str]:
    """{file name: prompt} of a table with these columns; InputError where a name has two."""
    table = read_rows(path)
    for column, option in ((image, "--image-column COLUMN"), (prompt, "--prompt-column COLUMN")):
        if column not in table:
            raise no_column(str(path), [str(name) for name in table], column, option)
    prompts: dict[str, str] = {}
    for file, text in zip(table[image].str.strip(), table[prompt].str.strip(), strict=True):
        name = Path(file).name
        if text and prompts.setdefault(name, text) != text:
            raise InputError(f"{path}: two prompts for images named {name}: '{prompts[name]}' and '{text}'")
    return prompts


def _table_file(task: TableTask, root: Path) -> Path:
    """The table, named by its path or inside the root."""
    assert task.labels is not None
    path = task.labels if task.labels.is_file() else root / task.labels
    if not path.is_file():
        folder = task.labels.parent if task.labels.parent.is_dir() else root
        raise InputError(f"{task.labels}: no such table.{nearest(path.name, _names_in(folder))}".removesuffix("."))
    return path


def _names(where: str, column: "pd.Series[str]", folder: Path) -> list[str]:
    """The names of the pictures, all of which are files in the folder."""
    names = column.str.strip()
    if (empty := names[names == ""]).size:
        raise InputError(f"{where}, row {empty.index[0]}: the image's name is empty")
    missing = names[[not (folder / name).is_file() for name in names]]
    if missing.size:
        first = folder / missing.iloc[0]
        count = f" ({missing.size} of {names.size} pictures are missing)"
        remedy = "Name the folder of the pictures with --root FOLDER"
        if missing.size < names.size:
            remedy = "Restore the file or delete the row"
        hint = nearest(first.name, _names_in(first.parent)) or f" {remedy}"
        raise InputError(f"{where}, row {missing.index[0]}: {first} does not exist{count}.{hint}")
    return list(names)


def _names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _one_row_a_picture(where: str, records: list[Record]) -> list[Record]:
    """The records, those of one picture made one of their mean rating; an InputWarning counts them. Rows of one file
    that differ in more, as in their prompts, are kept, in one group with all that is in their groups."""
    files = [record.path.resolve() for record in records]
    if len(set(files)) == len(files):
        return records
    rows_of: dict[tuple[Path, Record], list[Record]] = {}
    for file, record in zip(files, _groups_joined(records, files), strict=True):
        same = replace(record, path=file, rating=0.0, alignment=None, rating_std=None, votes=None)
        rows_of.setdefault((file, same), []).append(record)
    found = [_mean(rows) for rows in rows_of.values()]
    if len(found) < len(records):
        message = f"{where}: {len(records)} ratings of {len(found)} pictures: learning from their means"
        warnings.warn(message, InputWarning, stacklevel=3)
    if again := len(found) - len(set(files)):
        message = (
            f"{where}: {again} of {len(found)} rows repeat a picture of an earlier row; all are kept, in one group"
        )
        warnings.warn(message, InputWarning, stacklevel=3)
    return found


def _mean(rows: list[Record]) -> Record:
    if len(rows) == 1:
        return rows[0]
    known = [row.alignment for row in rows if row.alignment is not None]
    ratings = [row.rating for row in rows]
    return replace(
        rows[0],
        rating=statistics.fmean(ratings),
        alignment=statistics.fmean(known) if known else None,
        rating_std=statistics.stdev(ratings),
        votes=len(rows),
    )


def _groups_joined(records: list[Record], files: list[Path]) -> list[Record]:
    """The records, groups that share a file made one."""
    group_of: dict[Path, str] = {}
    merged: dict[str, str] = {}

    def root_of(group: str) -> str:
        while group in merged:
            group = merged[group]
        return group

    for record, file in zip(records, files, strict=True):
        mine, other = root_of(record.group), root_of(group_of.setdefault(file, record.group))
        if mine != other:
            merged[mine] = other
    return [replace(record, group=root_of(record.group)) for record in records]


def _alignment(task: TableTask, where: str, row: int, text: str | None) -> float | None:
    if task.alignment_range is None or text is None:
        return None
    low, high = task.alignment_range
    if not low <= _number(text) <= high:
        raise InputError(f"{where}, row {row}: the alignment '{text}' is not a number from {low:g} to {high:g}")
    return (_number(text) - low) / (high - low)


def _at_least(least: float, where: str, row: int, what: str, text: str | None) -> float | None:
    """An optional number."""
    number = None if text is None else _number(text)
    if number is not None and not least <= number < math.inf:
        raise InputError(f"{where}, row {row}: the {what} '{text}' is not a number from {least:g} on")
    return number


def _subset(task: TableTask, file: Path) -> str | None:
    found = re.search(task.subset, file.name) if task.subset else None
    return found[1] if found else None


def read_rows(path: Path) -> pd.DataFrame:
    """A table of texts, its index the row numbers that an editor shows."""
    try:
        table = {".xlsx": _read_excel, ".mat": _read_aigciqa2023}.get(path.suffix.lower(), _read_text)(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such table") from None
    except (ImportError, KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not readable as a table ({error})") from None
    table.index += 2  # row numbers as an editor shows them, the header being row 1
    return _cleaned(str(path), table)


def _from_frame(frame: pd.DataFrame) -> pd.DataFrame:
    texts = frame.reset_index(drop=True).astype(object)
    return _cleaned(FRAME, texts.where(texts.notna(), "").map(str))


def _cleaned(where: str, table: pd.DataFrame) -> pd.DataFrame:
    """A table of texts without blanks around the names of columns, and without empty rows."""
    table = table.fillna("").rename(columns=lambda name: str(name).strip())
    table = table[(table != "").any(axis=1)]
    if table.empty:
        raise InputError(f"{where}: the table holds no rows")
    return table


def _read_excel(path: Path) -> pd.DataFrame:
    """The first sheet."""
    return pd.read_excel(path, dtype=str, keep_default_na=False)


def _read_aigciqa2023(path: Path) -> pd.DataFrame:
    """AIGCIQA2023 as released: one of DATA/MOS/mosz1.mat (quality), mosz2.mat (authenticity) and mosz3.mat
    (correspondence) as `score`, the last as `alignment`; 6 models made 4 pictures of each of 100 prompts, numbered in
    this order. The prompts are in the third column of AIGCIQA2023_Prompts.xlsx beside DATA, where that is."""
    from scipy.io import loadmat

    score, alignment = (loadmat(file)["MOSz"].ravel() for file in (path, path.with_name("mosz3.mat")))
    if len(score) != 2400:
        raise ValueError(f"{len(score)} scores, not the 2400 of AIGCIQA2023")
    number = np.arange(2400)
    table = {"image": [f"{i}.png" for i in number], "model": number // 400, "group": number % 400 // 4}
    frame = pd.DataFrame(table | {"score": score, "alignment": alignment}).astype(str)
    prompts = path.resolve().parents[2] / "AIGCIQA2023_Prompts.xlsx"
    if prompts.is_file():
        column = pd.read_excel(prompts, header=None, dtype=str).iloc[-100:, 2]
        frame["prompt"] = column.str.strip().to_numpy()[number % 400 // 4]
    return frame


def _read_text(path: Path) -> pd.DataFrame:
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
    numbers = {int(str(row)): _number(text) for row, text in column.items()}
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


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
