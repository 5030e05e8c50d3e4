"""The recipe of data check: whether a data set is all there, and means what it should."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from joblib import Parallel, delayed

from ..config import TableTask, with_overrides
from ..data.columns import find_columns
from ..data.duplicates import same_content
from ..data.folder import Folder
from ..data.readers import complete, open_table, pictures_folder, root_of
from ..data.split_files import shared_groups
from ..data.tables import to_numbers
from ..errors import InputError
from ..images import read_image
from ..metrics import srcc
from ..progress import track
from ..resources import SHIPPED
from ..types import Record
from .datasets import table_task
from .loading import load
from .sources import Rated, TableOptions, as_frame, find_source, read_source, source_name

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
    name = source_name(task or "csv", **table)
    source = table_task(name, find_source(name, **table))
    found = Checked(name)
    tables = [source]
    if source.test_labels is not None:
        tables.append(with_overrides(source, labels=source.test_labels, root=root_of(source)))
    for each in tables:
        _check_rows(found, each, as_frame(table.get("labels")))
    if found.problems:
        return found
    try:
        rated = read_source(name, **table)
    except InputError as error:
        found.problems.append(str(error))
        return found
    every = rated.every
    groups = Counter(record.group for record in every)
    found.say("groups", f"{len(groups)}, of {min(groups.values())} to {max(groups.values())} pictures")
    if len(groups) < 2:
        found.problems.append("all pictures are of one group: there is nothing to test on")
    if subsets := Counter(record.subset for record in every if record.subset):
        found.say("subsets", f"{len(subsets)}: {_some(sorted(subsets), 8)}")
    std, votes = (sum(getattr(record, what) is not None for record in every) for what in ("rating_std", "votes"))
    counted = "those of means" if source.std_of_mean else f"numbers of votes of {votes}"
    found.say("agreement", f"deviations are known of {std} pictures, {counted}")
    _duplicates(found, every)
    found.say("split", _split(rated, table))
    if direction:
        _direction(found, rated)
    return found


def _check_rows(found: Checked, source: TableTask, frame: pd.DataFrame | None) -> None:
    """The rows of one table, their pictures and ratings."""
    opened = open_table(source, frame)
    if source.skip_incomplete:
        opened = complete(source, opened)
    rows, columns = opened.rows, find_columns(source, opened.where, [str(each) for each in opened.rows])
    of = f" (the whole data set: {source.pictures} pictures)" if source.pictures else ""
    found.say("table", f"{opened.where}: {len(rows)} rows{of}")
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
        found.problems.append(
            f"{len(missing)} of {names.nunique()} pictures are missing in {index.root}: {_some(missing)}"
        )
    if ambiguous:
        found.problems.append(f"{len(ambiguous)} names could be several files: {ambiguous[0]}")
    sizes, broken = _decode(list(dict.fromkeys(files.values())))
    if broken:
        found.problems.append(f"{len(broken)} pictures cannot be decoded: {_some(broken)}")
    found.say("pictures", f"{len(files)} found, {len(missing)} missing, {len(broken)} unreadable{_extent(sizes)}")
    of_row = dict(zip(names.index, names, strict=True))
    _ratings(found, source, to_numbers(rows[columns["score"]]), of_row)


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


def _duplicates(found: Checked, records: Sequence[Record]) -> None:
    twins = same_content(record.path for record in records)
    if not twins:
        return found.say("duplicates", "none")
    again, shown = sum(len(each) - 1 for each in twins), " = ".join(path.name for path in twins[0])
    return found.say("duplicates", f"{again} pictures hold the same as another one: {shown}")


def _split(rated: Rated, table: TableOptions) -> str:
    if rated.splits:
        return f"{len(rated.splits)} files of splits"
    if (folds := table.get("folds")) is not None:
        return f"{folds} folds of the groups"
    if rated.test is None:
        return f"by chance: {rated.source.test:.0%} of the groups are the test"
    shared = shared_groups(rated.records, rated.test)
    apart = f"{len(shared)} groups are on both sides" if shared else "no group is on both sides"
    return f"the data set's own: {len(rated.records)} to learn from, {len(rated.test)} of the test; {apart}"


def _direction(found: Checked, rated: Rated) -> None:
    """Whether the ratings run as the shipped model sees the pictures."""
    source = rated.source
    records = sorted(rated.every, key=lambda record: record.rating)
    if isinstance(source, TableTask) and not source.pooled:  # of the subset with the most pictures
        (most, _), *_ = Counter(record.subset for record in records).most_common(1)
        records = [record for record in records if record.subset == most]
    some = [records[i * len(records) // SCORED] for i in range(SCORED)] if len(records) > SCORED else records
    predicted = load(SHIPPED).predict([record.path for record in some])["quality"]
    rated_ = [-r.rating if isinstance(source, TableTask) and source.lower_is_better else r.rating for r in some]
    agreed = srcc(predicted, rated_)
    found.say("direction", f"SRCC {agreed:.2f} of the shipped model with {len(some)} ratings")
    if agreed < AGAINST and len(some) >= SCORED:
        found.problems.append("the shipped model sees the ratings run the other way: is low good (--lower-is-better)?")
