"""The images of the gallery, and what is predicted of them: from a table of scores, or while a model scores."""

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.tables import read_rows, to_number
from ..errors import InputError
from ..images import photographs_in
from ..recipes.loading import load_fastest
from ..score import Score

NUMBERS = ("quality", "quality_std", "rating", "rating_std")
EXPLAINED = ("distortion", "scene")  # columns of `fsiqa score --explain`; the first is shown


@dataclass(frozen=True)
class Entry:
    """An image by its name in the folder, and its row of `fsiqa score`; numbers are None where they are not known."""

    name: str
    path: Path
    quality: float | None
    quality_std: float | None
    rating: float | None
    rating_std: float | None
    likeliest: str
    note: str


@dataclass
class Catalogue:
    """Entries in the order in which they were scored, of `total` images; `failed` says why scoring ended early."""

    entries: list[Entry]
    total: int
    failed: str = ""
    stop: threading.Event = field(default_factory=threading.Event)
    scoring: threading.Thread | None = None

    def end(self, seconds: float | None = None) -> bool:
        """Stop scoring, and wait for that, at most so many seconds; whether it has stopped."""
        self.stop.set()
        if self.scoring is not None:
            self.scoring.join(seconds)
        return self.scoring is None or not self.scoring.is_alive()


def read_scores(table: Path, folder: Path | None) -> Catalogue:
    """The catalogue of a table that `fsiqa score --csv` wrote; its images lie in `folder`, or where they are named."""
    rows = read_rows(table).rows
    for name in ("image", "quality"):
        if name not in rows:
            raise InputError(f"{table}: no column '{name}': `fsiqa score --csv` writes such tables")
    entries = []
    for row in rows.to_dict("records"):
        name, path = _place(row["image"].strip(), folder)
        numbers = {each: _finite(to_number(row.get(each, ""))) for each in NUMBERS}
        entries.append(Entry(name, path, **numbers, likeliest=_first(row), note=row.get("note", "")))
    return Catalogue(entries, len(entries))


def score_folder(model: Path, folder: Path, device: str | None, cache: Path | None) -> Catalogue:
    """A catalogue to which a model adds the images of a folder one by one, in a thread."""
    paths = photographs_in(folder)
    scorer = load_fastest(model, device=device, cache=cache)
    found = Catalogue([], len(paths))
    names = [(path.relative_to(folder).as_posix(), path) for path in paths]

    def score() -> None:
        try:
            results = scorer.stream(names, explain=bool(scorer.predictor.phrases))
            for (name, path), result in zip(names, results, strict=True):
                if found.stop.is_set():
                    return
                found.entries.append(_entry(name, path, result))
        except Exception as error:  # of a thread, whose errors the page shows
            found.failed = f"scoring ended: {error}"

    found.scoring = threading.Thread(target=score, daemon=True)
    found.scoring.start()
    return found


def _entry(name: str, path: Path, score: Score) -> Entry:
    numbers = {each: getattr(score, each) for each in NUMBERS}
    return Entry(name, path, **numbers, likeliest=_first(score.likeliest), note=score.note.removeprefix(f"{path}: "))


def _first(likeliest: Mapping[Any, str]) -> str:
    return next((likeliest[name] for name in EXPLAINED if likeliest.get(name)), "")


def _place(name: str, folder: Path | None) -> tuple[str, Path]:
    """The name inside the folder, and the file, of an image of a table."""
    if folder is None:
        return name, Path(name)
    for path in (folder / name, Path(name), folder.parent / name):
        if path.is_file():
            whole, root = path.resolve(), folder.resolve()
            return (whole.relative_to(root).as_posix() if whole.is_relative_to(root) else name), path
    return name, folder / name


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
