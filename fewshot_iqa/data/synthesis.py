"""A synthetic data set on disk, structured as KADID-10k: references, distorted pictures, and labels.csv."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from ..distortions import distort, find
from ..errors import InputError
from ..files import as_cell, from_cell, writing
from ..images import read_image, read_notes, shrink, to_float, to_uint8, write_png
from ..rng import key_seed
from .synthetic import distortable, kadid_mos

LABELS = "labels.csv"


@dataclass(frozen=True)
class Cell:
    """One distorted picture; the fields are the columns of labels.csv.

    `kadid_mos` is KADID-10k's MOS of (type, level), 1 (bad) to 5 (excellent), and None for other types. `seed`
    reproduces the picture: `fsiqa distort REFERENCE --type TYPE --level LEVEL --seed SEED`.
    """

    image: str
    reference: str
    type: str
    level: float
    kadid_mos: float | None
    seed: int

    @property
    def notes(self) -> dict[str, str]:
        """The notes inside the picture's file."""
        return {"distortion": f"{self.type} {self.level:g}", "seed": str(self.seed)}


COLUMNS = [field.name for field in fields(Cell)]
NAMES = ("image", "reference")


def plan(photograph: Path, types: Sequence[str], levels: Sequence[float], seed: int) -> list[Cell]:
    """The cells of one photograph; a name such as `astronaut_10_03.png` is reference, id of the type, and level."""
    cells = []
    for row in map(find, types):
        code = f"t{row.id:02d}" if row.data_set == "tid2013" else f"{row.id:02d}"
        for level in levels:
            row.amount(level)  # InputError for a level outside 1..5
            cells.append(
                Cell(
                    image=f"{photograph.stem}_{code}_0{level:g}.png",
                    reference=f"{photograph.stem}.png",
                    type=row.name,
                    level=level,
                    kadid_mos=kadid_mos(row.name, level) if row.data_set == "kadid10k" else None,
                    seed=key_seed(seed, "synthesize", photograph.stem, row.name, f"{level:g}"),
                )
            )
    return cells


def write_reference(photograph: Path, out: Path, short_side: int | None) -> str | None:
    """Write a photograph into the folder `out` as PNG, its shorter side reduced to `short_side` pixels if given.

    Returns an error message where the photograph cannot be used, else None. InputError where `out` cannot be written,
    or holds another picture of that name.
    """
    try:
        image = read_image(photograph)
        image = distortable(shrink(image, short_side) if short_side else image, photograph)
    except InputError as error:
        return str(error)
    target = out / f"{photograph.stem}.png"
    if not target.exists():
        write_png(target, image, {})
    elif not np.array_equal(read_image(target), image):
        raise InputError(f"{target}: differs from {photograph} at this size: choose another --out")
    return None


def write_cells(cells: Sequence[Cell], out: Path) -> None:
    """Write the distorted pictures of one reference that do not exist yet."""
    missing = [cell for cell in cells if not _exists(cell, out)]
    if not missing:
        return
    reference = to_float(read_image(out / cells[0].reference))
    for cell in missing:
        noise = torch.Generator().manual_seed(cell.seed)
        write_png(out / cell.image, to_uint8(distort(reference, cell.type, cell.level, generator=noise)), cell.notes)


def _exists(cell: Cell, out: Path) -> bool:
    target = out / cell.image
    if not target.exists():
        return False
    if read_notes(target) != cell.notes:
        raise InputError(
            f"{target}: was made with another seed, or by another program: repeat --seed, or choose another --out"
        )
    return True


def read_labels(out: Path) -> dict[str, dict[str, str]]:
    """The rows of an earlier labels.csv by image; none where there is no such file.

    InputError where its columns are not those of `Cell`.
    """
    path = out / LABELS
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if list(reader.fieldnames or ()) == COLUMNS:
                rows = [{name: from_cell(text or "") for name, text in row.items()} for row in reader]
                return {row["image"]: row for row in rows}
    except (OSError, UnicodeDecodeError):
        pass
    raise InputError(
        f"{path}: its columns are not {', '.join(COLUMNS)}: choose another --out"
        " (kadid_mos was human_mean in earlier versions: rename it there)"
    )


def write_labels(rows: Mapping[str, dict[str, str]], cells: Sequence[Cell], out: Path) -> Path:
    """Write labels.csv: the earlier `rows`, updated with those of `cells`, sorted by image; returns its path."""
    rows = dict(rows)
    for cell in cells:
        values = asdict(cell) | {"level": f"{cell.level:g}"}
        values["kadid_mos"] = "" if cell.kadid_mos is None else f"{cell.kadid_mos:.4f}"
        rows[cell.image] = {name: str(value) for name, value in values.items()}
    path = out / LABELS
    with writing(path) as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for image in sorted(rows):
            writer.writerow({name: as_cell(text, is_name=name in NAMES) for name, text in rows[image].items()})
    return path


def by_type(cells: Sequence[Cell]) -> Iterator[list[Cell]]:
    """Consecutive cells of one type each."""
    for _, piece in groupby(cells, key=lambda cell: cell.type):
        yield list(piece)
