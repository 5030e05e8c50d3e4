"""The recipes of data: ratings and splits of a data set as plain tables."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ..config import SyntheticTask, TableTask
from ..data.readers import pictures_folder, root_of
from ..data.split_files import RANDOM, shared_groups
from ..data.splits import split_by_group
from ..errors import InputError
from ..files import reason, write_csv
from .sources import TableOptions, read_source, source_name

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class Converted:
    """The ratings of a data set as a plain `table`, the `options` of the command line that it is read with, and whether
    its column part `is_split`, which `--splits` reads: no group is on both sides."""

    table: pd.DataFrame
    options: str
    is_split: bool


def convert(task: str | None = None, **table: Unpack[TableOptions]) -> Converted:
    """The ratings of a data set as a plain table, which `--labels` reads: image, from the root on, score, and what is
    known of group, prompt, scene, distortion, subset, std, count, alignment and part."""
    name = source_name(task or "csv", **table)
    rated = read_source(name, **table)
    source = table_task(name, rated.source)
    root = root_of(source)
    low, high = source.alignment_range or (0.0, 1.0)
    rows = []
    for part, records in (("train", rated.records), ("test", rated.test or [])):
        for record in records:
            rows.append(
                {
                    "image": _inside(root, record.path),
                    "score": record.rating,
                    "group": record.group,
                    "prompt": record.prompt,
                    "scene": ";".join(record.scene) or None,
                    "distortion": record.distortion,
                    "subset": record.subset,
                    "std": record.rating_std,
                    "count": None if source.std_of_mean else record.votes,
                    "alignment": None if record.alignment is None else low + record.alignment * (high - low),
                    "part": part if rated.test else None,
                }
            )
    options = [f"--root {shlex.quote(str(root.resolve()))}"]
    options += [f"--range {source.range[0]:g},{source.range[1]:g}"] if source.range else []
    options += ["--lower-is-better"] if source.lower_is_better else []
    options += [f"--set 'task.alignment_range=[{low:g}, {high:g}]'"] if source.alignment_range else []
    options += ["--set task.pooled=false"] if not source.pooled else []
    options += ["--set task.std_of_mean=true"] if source.std_of_mean else []
    apart = not shared_groups(rated.records, rated.test or ())
    frame = pd.DataFrame(rows).dropna(axis="columns", how="all")
    return Converted(frame, " ".join(options), bool(rated.test) and apart)


def split(out: str | Path, task: str | None = None, *, seeds: int = 10, **table: Unpack[TableOptions]) -> list[Path]:
    """Write splits by chance, of whole groups, a file of image, group and part for each seed from 0 on; the files.

    `--splits OUT` reads them.
    """
    for option in ("splits", "folds"):
        if table.get(option) is not None:
            raise InputError(f"--{option}: this command draws splits by chance, with --test SHARE in the test")
    name = source_name(task or "csv", **table)
    if table.get("test") is None:
        table["splits"] = RANDOM
    rated = read_source(name, **table)
    every, folder, files = rated.every, Path(out), []
    root = pictures_folder(table_task(name, rated.source))
    names = [_inside(root, record.path) for record in every]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({reason(error)})") from None
    for seed in range(seeds):
        _, test = split_by_group(every, rated.source.test, seed=seed)
        tested = {id(record) for record in test}
        rows = [(image, r.group, "test" if id(r) in tested else "train") for image, r in zip(names, every, strict=True)]
        files.append(folder / f"{name}-{seed}.csv")
        write_csv(files[-1], pd.DataFrame(rows, columns=["image", "group", "part"]))
    return files


def _inside(root: Path, path: Path) -> str:
    """A path from the root on, where it lies inside, links left as they are."""
    whole, base = (Path(os.path.abspath(each)) for each in (path, root))
    return (whole.relative_to(base) if whole.is_relative_to(base) else whole).as_posix()


def table_task(name: str, source: TableTask | SyntheticTask) -> TableTask:
    if isinstance(source, SyntheticTask):
        raise InputError(f"{name}: makes its own pictures and ratings; this is for tables of rated pictures")
    return source
