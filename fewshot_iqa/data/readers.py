"""Tables of rated pictures -> records."""

import math
import re
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from ..config import TableTask
from ..errors import InputError, nearest
from ..types import Record
from .labels import Annotations

OPTIONAL = ("group", "prompt", "alignment", "scene", "distortion", "subset")


def read_table(task: TableTask) -> list[Record]:
    """The records of a table; InputError names the table and the row (as an editor counts) or column at fault."""
    if task.labels is None:
        raise InputError("this task reads a table: give --labels TABLE.csv, and --root FOLDER of its pictures")
    root = task.labels.parent if task.root is None else task.root
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    path = task.labels if task.labels.is_file() else root / task.labels
    table = _read(path)
    columns = {name: getattr(task.columns, name) for name in ("image", "score", *OPTIONAL)}
    if task.model and "model" not in table and columns["image"] in table:
        table["model"] = table[columns["image"]].str.extract(task.model, expand=False).fillna("")
    options = {"image": "--image-column COLUMN", "score": "--score-column COLUMN", "group": "--group COLUMN"}
    for name, column in columns.items():
        if name not in OPTIONAL or column != name:
            _require(path, table, column, options.get(name, f"--set task.columns.{name}=COLUMN"))
    folder = root / task.images
    files = [folder / name.strip() for name in table[columns["image"]]]
    annotated = Annotations([each if each.is_file() else root / each for each in task.annotations], files)
    ratings = _ratings(path, table[columns["score"]])
    present = {name: table[column].to_dict() for name, column in columns.items() if column in table}
    records = []
    for row, rating in ratings.items():
        texts = {name: cells[row].strip() for name, cells in present.items() if cells[row].strip()}
        if "image" not in texts:
            raise InputError(f"{path}, row {row}: the image's name is empty")
        file = folder / texts["image"]
        texts |= annotated[file]
        if not file.is_file():
            raise InputError(f"{path}, row {row}: {file} does not exist")
        if task.range and not task.range[0] <= rating <= task.range[1]:
            raise InputError(f"{path}, row {row}: the score {rating:g} lies outside of the range {list(task.range)}")
        records.append(
            Record(
                file,
                rating,
                group=texts.get("group") or texts.get("prompt") or texts["image"],
                distortion=texts.get("distortion"),
                scene=tuple(part.strip() for part in texts.get("scene", "").split(";") if part.strip()),
                prompt=texts.get("prompt"),
                alignment=_alignment(task, path, row, texts.get("alignment")),
                subset=texts.get("subset") or _subset(task, file),
            )
        )
    return records


def read_prompts(path: Path, image: str = "image", prompt: str = "prompt") -> dict[str, str]:
    """{file name: prompt} of a table with these columns; InputError where a name has two."""
    table = _read(path)
    _require(path, table, image, "--image-column COLUMN")
    _require(path, table, prompt, "--prompt-column COLUMN")
    prompts: dict[str, str] = {}
    for file, text in zip(table[image].str.strip(), table[prompt].str.strip(), strict=True):
        name = Path(file).name
        if text and prompts.setdefault(name, text) != text:
            raise InputError(f"{path}: two prompts for images named {name}: '{prompts[name]}' and '{text}'")
    return prompts


def _require(path: Path, table: pd.DataFrame, column: str, option: str) -> None:
    """InputError where a table lacks a column; `option` says how to name another."""
    if column not in table:
        known = [str(each) for each in table]
        raise InputError(
            f"{path}: no column '{column}'.{nearest(column, known)} Columns: {', '.join(known)}; "
            f"name yours with {option}"
        )


def _alignment(task: TableTask, path: Path, row: int, text: str | None) -> float | None:
    if task.alignment_range is None or text is None:
        return None
    low, high = task.alignment_range
    if not low <= _number(text) <= high:
        raise InputError(f"{path}, row {row}: the alignment '{text}' is not a number from {low:g} to {high:g}")
    return (_number(text) - low) / (high - low)


def _subset(task: TableTask, file: Path) -> str | None:
    found = re.search(task.subset, file.name) if task.subset else None
    return found[1] if found else None


def _read(path: Path) -> pd.DataFrame:
    try:
        table = {".xlsx": _read_excel, ".mat": _read_aigciqa2023}.get(path.suffix.lower(), _read_text)(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such table") from None
    except (
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
        zipfile.BadZipFile,
        KeyError,
        ValueError,
        OSError,
    ) as error:
        raise InputError(f"{path}: not readable as a table ({error})") from None
    table = table.fillna("").rename(columns=lambda name: str(name).strip())
    table.index += 2  # row numbers as an editor shows them, the header being row 1
    table = table[(table != "").any(axis=1)]
    if table.empty:
        raise InputError(f"{path}: the table holds no rows")
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
    with path.open(encoding="utf-8-sig", errors="replace") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.ParserWarning)  # a comma at the end of each row
        header = file.readline()
        file.seek(0)
        return pd.read_csv(
            file, sep=max(",;\t", key=header.count), dtype=str, keep_default_na=False, index_col=False,
            skipinitialspace=True, skip_blank_lines=False,
        )  # fmt: skip


def _ratings(path: Path, column: "pd.Series[str]") -> dict[int, float]:
    numbers = {int(str(row)): _number(text) for row, text in column.items()}
    for row, number in numbers.items():
        if not math.isfinite(number):
            shown = f"'{column[row]}'" if column[row] else "empty"
            raise InputError(f"{path}, row {row}: the score is {shown}, not a number")
    if len(numbers) > 1 and len(set(numbers.values())) == 1:
        raise InputError(f"{path}: every score equals {column.iloc[0]}: there is nothing to learn from")
    return numbers


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
