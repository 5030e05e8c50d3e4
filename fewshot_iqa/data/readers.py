"""Tables of rated pictures -> records."""

import math
import re
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from ..config import TableTask
from ..errors import InputError, InputWarning, nearest, shortened
from ..files import from_cell
from ..types import Record
from .columns import find_columns, is_header, no_column, require_moderate
from .duplicates import groups_joined, same_content_joined
from .folder import Folder, names_in
from .labels import Annotations
from .releases import READERS
from .tables import Table, from_frame, parse_ratings, read_rows, to_number, to_numbers, without_percent


def open_table(task: TableTask, frame: pd.DataFrame | None = None) -> Table:
    """`task.labels`, or the `frame` in its place; of several columns of ratings their mean, deviation and count."""
    table = _with_means(task, from_frame(frame) if frame is not None else _read(task))
    if task.model and "model" not in table.rows and task.columns.image in table.rows:
        models = table.rows[task.columns.image].str.extract(task.model, expand=False).fillna("")
        table = Table(table.where, table.rows.assign(model=models))
    return table


def _read(task: TableTask) -> Table:
    if not task.labels:
        raise InputError("this task reads a table: give --labels TABLE.csv, and --root FOLDER of its pictures")
    read, header = READERS[task.reader] if task.reader else None, partial(is_header, task.columns)
    table = read_rows(find_file(root_of(task), task.labels), read, is_header=header)
    return table if read else Table(table.where, table.rows.map(from_cell))


def _with_means(task: TableTask, table: Table) -> Table:
    """The table with the columns that several raters make, between commas in `task.columns.score`: their mean under
    this very name, and `std` and `count`."""
    stated, rows = task.columns.score, table.rows
    if stated is None or "," not in stated or stated in rows:
        return table
    names = [name.strip() for name in stated.split(",")]
    for name in (name for name in names if name not in rows):
        raise no_column(table.where, [str(each) for each in rows], name, "--score-column COLUMN,COLUMN")
    each = without_percent(pd.Series(rows[names].to_numpy().ravel()))
    texts = pd.DataFrame(each.to_numpy().reshape(-1, len(names)), rows.index, names)
    votes = texts.map(to_number)
    wrong = votes.isna() & (texts != "")
    for row in rows.index[wrong.any(axis=1)][:1]:
        name = next(name for name in names if wrong.loc[row, name])
        raise InputError(f"{table.where}, row {row}: '{name}' is '{shortened(texts.loc[row, name])}', not a number")
    made = {stated: votes.mean(axis=1), "std": votes.std(axis=1), "count": votes.count(axis=1)}
    texts_of = {name: column.map(lambda value: "" if pd.isna(value) else str(value)) for name, column in made.items()}
    return Table(table.where, rows.assign(**texts_of))


def complete(task: TableTask, table: Table) -> Table:
    """The table without the rows that have no rating or whose picture is missing; an InputWarning counts them."""
    columns = find_columns(task, table.where, [str(name) for name in table.rows])
    index, rows = Folder(pictures_folder(task)), table.rows
    unrated = ~rows.index.to_series().map(to_numbers(rows[columns["score"]])).map(math.isfinite)
    missing = rows[columns["image"]].map(lambda name: index.find(name.strip()) is None)
    if (out := unrated | missing).any():
        message = f"{table.where}: {out.sum()} of {len(rows)} rows are left out: {missing.sum()} without a picture"
        warnings.warn(f"{message}, {unrated.sum()} without a rating", InputWarning, stacklevel=3)
    if out.all():
        raise InputError(f"{table.where}: no row has both a rating and its picture")
    return Table(table.where, rows[~out])


def root_of(task: TableTask) -> Path:
    """The folder of a task's pictures."""
    root = task.root or (task.labels[0].parent if task.labels else Path())
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
    columns = find_columns(task, where, [str(name) for name in table])
    ratings = parse_ratings(where, table[columns["score"]], task.range)
    require_moderate(where, ratings)
    files = _files(where, table[columns["image"]], pictures_folder(task))
    if task.reader is None:
        _tell_other_names(where, table[columns["image"]], files)
    annotated = Annotations([each if each.is_file() else root / each for each in task.annotations], files)
    present = {name: table[column].to_dict() for name, column in columns.items()}
    records = []
    for (row, rating), file in zip(ratings.items(), files, strict=True):
        texts = {name: cells[row].strip() for name, cells in present.items() if cells[row].strip()}
        texts |= annotated[file]
        count = _at_least(1, where, row, "count", texts.get("count"))
        records.append(
            Record(
                file,
                rating,
                group=texts.get("group") or texts.get("prompt") or _named(task.group, file) or texts["image"],
                distortion=texts.get("distortion"),
                scene=tuple(part.strip() for part in texts.get("scene", "").split(";") if part.strip()),
                prompt=texts.get("prompt"),
                alignment=_alignment(task, where, row, texts.get("alignment")),
                subset=texts.get("subset") or _named(task.subset, file),
                rating_std=_at_least(0, where, row, "std", texts.get("std")),
                votes=1 if task.std_of_mean else None if count is None else round(count),
            )
        )
    if not task.pooled and not all(record.subset for record in records):
        raise InputError(f"{where}: each subset has a scale of its own (pooled: false), but not all rows have a subset")
    return same_content_joined(where, _one_row_a_picture(where, records))


def stated_range(table: Table) -> tuple[float, float] | None:
    """The rating scale that a table states in each row of a column rating_scale, such as 1-5; None without one."""
    stated = set(table.rows["rating_scale"]) if "rating_scale" in table.rows else set()
    found = re.fullmatch(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", stated.pop()) if len(stated) == 1 else None
    low, high = map(float, found.groups()) if found else (0.0, 0.0)
    return (low, high) if low < high else None


def read_names(path: Path) -> list[str]:
    """The column image of a table, each name once, in order."""
    table = read_rows(path).rows
    if "image" not in table:
        raise InputError(f"{path}: no column 'image'")
    return list(dict.fromkeys(table["image"].str.strip().map(from_cell)))


def read_prompts(path: Path, image: str = "image", prompt: str = "prompt") -> dict[str, str]:
    """{file name: prompt} of a table with these columns; InputError where a name has two."""
    table = read_rows(path).rows
    for column, option in ((image, "--image-column COLUMN"), (prompt, "--prompt-column COLUMN")):
        if column not in table:
            raise no_column(str(path), [str(name) for name in table], column, option)
    prompts: dict[str, str] = {}
    for file, cell in zip(table[image].str.strip(), table[prompt].str.strip(), strict=True):
        name, text = Path(file).name, from_cell(cell)
        if text and prompts.setdefault(name, text) != text:
            raise InputError(f"{path}: two prompts for images named {name}: '{prompts[name]}' and '{text}'")
    return prompts


def find_file(root: Path, names: Sequence[Path]) -> Path:
    """The first of the names that is a file: in the root, by its path, or anywhere below the root."""
    for name in names:
        for path in (root / name, name):
            if path.is_file():
                return path
    index = Folder(root)
    for name in names:
        if found := index.find(str(name)):
            return found
    first = names[0]
    if other := [path for path in (root / first, first) if path.exists()]:
        raise InputError(f"{other[0]}: {'a folder' if other[0].is_dir() else 'not a regular file'}, not a table")
    folder = first.parent if first.parent.is_dir() else root
    others = f" (nor {', '.join(map(str, names[1:]))})" if names[1:] else ""
    raise InputError(f"{first}: no such table{others}.{nearest(first.name, names_in(folder))}".removesuffix("."))


def pictures_folder(task: TableTask) -> Path:
    """The folder of a task's pictures: the first of its names that is there, else its root."""
    root = root_of(task)
    return next((root / name for name in task.images if (root / name).is_dir()), root)


def _files(where: str, column: "pd.Series[str]", folder: Path) -> list[Path]:
    """The pictures of a column of names."""
    names, index = column.str.strip(), Folder(folder)
    if (empty := names[names == ""]).size:
        raise InputError(f"{where}, row {empty.index[0]}: the image's name is empty")
    files = [index.find(name) for name in names]
    missing = names[[file is None for file in files]]
    found = [file for file in files if file is not None]
    if missing.size:
        first = folder / missing.iloc[0]
        count = f" ({missing.size} of {names.size} pictures are missing)"
        remedy = "Name the folder of the pictures with --root FOLDER"
        if missing.size < names.size:
            remedy = "Restore it, or leave out such rows with --skip-incomplete"
        hint = nearest(first.name, names_in(first.parent)) or f" {remedy}"
        raise InputError(f"{where}, row {missing.index[0]}: {first} does not exist{count}.{hint}")
    return found


def _tell_other_names(where: str, names: "pd.Series[str]", files: Sequence[Path]) -> None:
    """An InputWarning counts the files that are spelt otherwise than in the table."""
    pairs = [(name.strip(), file.name) for name, file in zip(names, files, strict=True)]
    other = [(name, file) for name, file in pairs if name.replace("\\", "/").rpartition("/")[2] != file]
    if other:
        name, file = other[0]
        message = f"{where}: {len(other)} of {len(pairs)} files are spelt otherwise: '{name}' is {file}"
        warnings.warn(message, InputWarning, stacklevel=3)


def _one_row_a_picture(where: str, records: list[Record]) -> list[Record]:
    """The records, those of one picture made one of their mean rating; an InputWarning counts them. Rows of one file
    that differ in more, as in their prompts, are kept, in one group with all that is in their groups."""
    files = [record.path.resolve() for record in records]
    if len(set(files)) == len(files):
        return records
    rows_of: dict[tuple[Path, Record], list[Record]] = {}
    for file, record in zip(files, groups_joined(records, files), strict=True):
        same = replace(record, path=file, rating=0.0, alignment=None, rating_std=None, votes=None)
        rows_of.setdefault((file, same), []).append(record)
    found = [_mean(rows) for rows in rows_of.values()]
    if len(found) < len(records):
        several = next(rows for rows in rows_of.values() if len(rows) > 1)
        first = f"{several[0].path.name} {', '.join(f'{row.rating:g}' for row in several[:3])}"
        message = f"{where}: {len(records)} ratings of {len(found)} pictures: learning from their means ({first})"
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
    votes = all(row.votes is None for row in rows)  # and no means
    return replace(
        rows[0],
        rating=statistics.fmean(ratings),
        alignment=statistics.fmean(known) if known else None,
        rating_std=statistics.stdev(ratings) if votes else None,
        votes=len(rows) if votes else None,
    )


def _alignment(task: TableTask, where: str, row: int, text: str | None) -> float | None:
    if task.alignment_range is None or text is None:
        return None
    low, high = task.alignment_range
    if not low <= to_number(text) <= high:
        raise InputError(f"{where}, row {row}: the alignment '{text}' is not a number from {low:g} to {high:g}")
    return (to_number(text) - low) / (high - low)


def _at_least(least: float, where: str, row: int, column: str, text: str | None) -> float | None:
    """An optional number of the column std or count."""
    what = {"std": "deviation", "count": "number of votes"}[column]
    number = None if text is None else to_number(text)
    if number is not None and not least <= number < math.inf:
        hint = f"name the column with --set task.columns.{column}=COLUMN, or none"
        raise InputError(f"{where}, row {row}: the {what} '{text}' is not a number from {least:g} on; {hint}")
    return number


def _named(pattern: str | None, file: Path) -> str | None:
    """What the one group of a pattern is in the name of a file."""
    found = re.search(pattern, file.name) if pattern else None
    return found[1] if found else None
