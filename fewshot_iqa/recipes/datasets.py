"""The recipes of data: what a data set is, whether it is all there, and its ratings and splits as plain tables."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from joblib import Parallel, delayed

from ..config import SyntheticTask, TableTask
from ..data.columns import find_columns
from ..data.duplicates import same_content
from ..data.folder import Folder
from ..data.readers import open_table, pictures_folder
from ..data.split_files import RANDOM
from ..data.splits import split_by_group
from ..data.tables import to_number
from ..errors import InputError
from ..images import read_image
from ..metrics import srcc
from ..progress import track
from ..resources import SHIPPED
from ..types import Record
from .loading import load
from .sources import Rated, TableOptions, find_source, read_rated, read_source, source_name

if TYPE_CHECKING:
    from typing_extensions import Unpack

SCORED = 64  # pictures that the shipped model scores, to see which way the ratings run
AGAINST = -0.4  # SRCC with as many that is not by chance (p < .001)
SHOWN = 3  # pieces of evidence


@dataclass(frozen=True)
class Checked:
    """What `check` found: `lines` of (what, finding), and the `problems`, without which a data set can be used."""

    task: str
    lines: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def say(self, what: str, finding: str) -> None:
        self.lines.append((what, finding))


def check(task: str | None = None, *, direction: bool = True, **table: Unpack[TableOptions]) -> Checked:
    """Whether a data set is all there: rows, pictures that are missing, cannot be decoded or come twice, ratings,
    groups and splits; with `direction`, whether the ratings run as the shipped model sees the pictures. `table` is as
    for `TableOptions`. InputError where its table cannot be read at all.
    """
    name = source_name(task, **table)
    source = _table_task(name, find_source(name, **table))
    opened, found = open_table(source), Checked(name)
    rows = opened.rows
    say, problem = found.say, found.problems.append
    of = f" (the whole data set: {source.pictures} pictures)" if source.pictures else ""
    say("table", f"{opened.where}: {len(rows)} rows{of}")
    columns = find_columns(source, opened.where, [str(each) for each in rows])

    names, index = rows[columns["image"]].str.strip(), Folder(pictures_folder(source))
    files: dict[str, Path] = {}
    missing, ambiguous = [], []
    for each in dict.fromkeys(names):
        try:
            path = index.find(each)
        except InputError as error:
            ambiguous.append(str(error))
            continue
        if path is None:
            missing.append(each)
        else:
            files[each] = path
    if missing:
        problem(f"{len(missing)} of {names.nunique()} pictures are missing in {index.root}: {_some(missing)}")
    if ambiguous:
        problem(f"{len(ambiguous)} names could be several files: {ambiguous[0]}")
    sizes, broken = _decode(list(dict.fromkeys(files.values())))
    if broken:
        problem(f"{len(broken)} pictures cannot be decoded: {_some(broken)}")
    say("pictures", f"{len(files)} found, {len(missing)} missing, {len(broken)} unreadable{_extent(sizes)}")

    of_row = dict(zip(names.index, names, strict=True))
    scores = {row: to_number(text) for row, text in zip(names.index, rows[columns["score"]], strict=True)}
    _ratings(found, source, scores, of_row)
    if found.problems:
        return found

    rated = read_rated(source, splits=table.get("splits"))
    every = [*rated.records, *(rated.test or [])]
    groups = Counter(record.group for record in every)
    say("groups", f"{len(groups)}, of {min(groups.values())} to {max(groups.values())} pictures")
    if subsets := Counter(record.subset for record in every if record.subset):
        say("subsets", f"{len(subsets)}: {_some(sorted(subsets), 8)}")
    known = [what for what, of_ in (("deviations", "rating_std"), ("numbers of ratings", "votes")) if _has(every, of_)]
    say("agreement", f"{' and '.join(known) or 'neither deviations nor numbers of ratings'} known")
    _duplicates(found, every)
    say("split", _split(rated))
    if direction:
        _direction(found, rated)
    return found


@dataclass(frozen=True)
class Converted:
    """The ratings of a data set as a plain `table`, and the `options` of the command line that it is read with."""

    table: pd.DataFrame
    options: str


def convert(task: str | None = None, **table: Unpack[TableOptions]) -> Converted:
    """The ratings of a data set as a plain table, which `--labels` reads: image, from the root on, score, and what is
    known of group, prompt, scene, distortion, subset, std, count, alignment and part."""
    rated = read_source(source_name(task, **table), **table)
    source = _table_task(task or "csv", rated.source)
    root = (source.root or source.labels[0].parent).resolve()
    low, high = source.alignment_range or (0.0, 1.0)
    rows = []
    for part, records in (("train", rated.records), ("test", rated.test or [])):
        for record in records:
            path = record.path.resolve()
            rows.append(
                {
                    "image": (path.relative_to(root) if path.is_relative_to(root) else path).as_posix(),
                    "score": record.rating,
                    "group": record.group,
                    "prompt": record.prompt,
                    "scene": ";".join(record.scene) or None,
                    "distortion": record.distortion,
                    "subset": record.subset,
                    "std": record.rating_std,
                    "count": record.votes,
                    "alignment": None if record.alignment is None else low + record.alignment * (high - low),
                    "part": part if rated.test else None,
                }
            )
    options = [f"--root {shlex.quote(str(root))}"]
    options += [f"--range {source.range[0]:g},{source.range[1]:g}"] if source.range else []
    options += ["--lower-is-better"] if source.lower_is_better else []
    return Converted(pd.DataFrame(rows).dropna(axis="columns", how="all"), " ".join(options))


def split(out: str | Path, task: str | None = None, *, seeds: int = 10, **table: Unpack[TableOptions]) -> list[Path]:
    """Write splits by chance, of whole groups, a file of image, group and part for each seed from 0 on; the files.

    `--splits OUT` reads them.
    """
    name = source_name(task, **table)
    if table.get("test") is None:
        table["splits"] = RANDOM
    rated = read_source(name, **table)
    every = [*rated.records, *(rated.test or [])]
    folder, files = Path(out), []
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(seeds):
        _, test = split_by_group(every, rated.source.test, seed=seed)
        tested = {id(record) for record in test}
        rows = [(r.path, r.group, "test" if id(r) in tested else "train") for r in every]
        root = pictures_folder(_table_task(name, rated.source)).resolve()
        frame = pd.DataFrame(rows, columns=["image", "group", "part"])
        frame["image"] = [Path(path).resolve().relative_to(root).as_posix() for path in frame["image"]]
        files.append(folder / f"{name}-{seed}.csv")
        frame.to_csv(files[-1], index=False)
    return files


def _table_task(name: str, source: TableTask | SyntheticTask) -> TableTask:
    if isinstance(source, SyntheticTask):
        raise InputError(f"{name}: makes its own pictures and ratings; this is for tables of rated pictures")
    return source


def _some(names: Sequence[str], count: int = SHOWN) -> str:
    rest = len(names) - count
    return ", ".join(names[:count]) + (f" and {rest} more" if rest > 0 else "")


def _decode(files: Sequence[Path]) -> tuple[list[tuple[int, int]], list[str]]:
    """(width, height) of each file, and what is wrong with those that cannot be decoded."""

    def size(file: Path) -> tuple[int, int] | str:
        try:
            height, width = read_image(file).shape[-2:]
        except InputError as error:
            return str(error)
        return width, height

    with track("decoding", len(files)) as log:
        found = []
        for each in Parallel(-1, prefer="threads", return_as="generator")(delayed(size)(file) for file in files):
            found.append(each)
            log({})
    return [each for each in found if isinstance(each, tuple)], [each for each in found if isinstance(each, str)]


def _extent(sizes: Sequence[tuple[int, int]]) -> str:
    if not sizes:
        return ""
    low, high = (end(sizes, key=lambda size: size[0] * size[1]) for end in (min, max))
    return f"; {low[0]} x {low[1]} pixels" + ("" if low == high else f" to {high[0]} x {high[1]}")


def _ratings(found: Checked, source: TableTask, scores: Mapping[int, float], names: Mapping[int, str]) -> None:
    """What the ratings {row: rating} span, and what is wrong with them."""
    if wrong := [row for row, score in scores.items() if not math.isfinite(score)]:
        found.problems.append(f"{len(wrong)} ratings are no numbers: that of {names[wrong[0]]}, row {wrong[0]}")
    known = {row: score for row, score in scores.items() if math.isfinite(score)}
    if not known:
        return
    low, high = min(known, key=lambda row: known[row]), max(known, key=lambda row: known[row])
    good = "lower is better" if source.lower_is_better else "higher is better"
    stated = "no scale is stated"
    if source.range is not None:
        stated = f"on a scale from {source.range[0]:g} to {source.range[1]:g}"
        if outside := [row for row, score in known.items() if not source.range[0] <= score <= source.range[1]]:
            first = f"{known[outside[0]]:g} of {names[outside[0]]}"
            found.problems.append(f"{len(outside)} ratings lie outside of the scale: {first}")
    found.say("ratings", f"{known[low]:.4g} to {known[high]:.4g}, {stated}, {good}")
    best, worst = (low, high) if source.lower_is_better else (high, low)
    found.say("", f"best {names[best]} {known[best]:.4g}, worst {names[worst]} {known[worst]:.4g}")


def _has(records: Sequence[Record], name: str) -> bool:
    return any(getattr(record, name) is not None for record in records)


def _duplicates(found: Checked, records: Sequence[Record]) -> None:
    twins = same_content(record.path for record in records)
    if not twins:
        return found.say("duplicates", "none")
    again, shown = sum(len(each) - 1 for each in twins), " = ".join(path.name for path in twins[0])
    return found.say("duplicates", f"{again} pictures hold the same as another one: {shown}")


def _split(rated: Rated) -> str:
    if rated.splits:
        return f"{len(rated.splits)} files of splits"
    if rated.test is None:
        return f"by chance: {rated.source.test:.0%} of the groups are the test"
    shared = {r.group for r in rated.records} & {r.group for r in rated.test}
    apart = f"{len(shared)} groups are on both sides" if shared else "no group is on both sides"
    return f"the data set's own: {len(rated.records)} to learn from, {len(rated.test)} of the test; {apart}"


def _direction(found: Checked, rated: Rated) -> None:
    """Whether the ratings run as the shipped model sees the pictures."""
    source = rated.source
    records = sorted([*rated.records, *(rated.test or [])], key=lambda record: record.rating)
    some = [records[i * len(records) // SCORED] for i in range(SCORED)] if len(records) > SCORED else records
    predicted = load(SHIPPED).predict([record.path for record in some])["quality"]
    rated_ = [-r.rating if isinstance(source, TableTask) and source.lower_is_better else r.rating for r in some]
    agreed = srcc(predicted, rated_)
    found.say("direction", f"SRCC {agreed:.2f} of the shipped model with {len(some)} ratings")
    if agreed < AGAINST and len(some) >= SCORED:
        found.problems.append("the shipped model sees the ratings run the other way: is low good (--lower-is-better)?")
