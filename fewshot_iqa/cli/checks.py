"""What a command checks before it imports anything heavy: a mistyped name is refused at once."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import require_room
from ..lock import require_no_writer
from ..printing import echo, nearby
from ..resources import CHECKPOINT_FILES, is_checkpoint


@contextmanager
def from_extra(extra: str, command: str) -> Iterator[None]:
    """Around the import of what an extra brings: InputError where it is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(f"{command} needs {error.name}: pip install 'fewshot-iqa[{extra}]'") from None


def check_checkpoint(folder: Path) -> None:
    """InputError where a folder is no checkpoint."""
    if not is_checkpoint(folder):
        raise InputError(f"{folder}: not a checkpoint (`fsiqa adapt` makes one, in runs/adapt)")


def check_run(
    methods: Iterable[str | Path],
    overrides: Iterable[str],
    *,
    shots: Iterable[str],
    start: str | None,
    task: str | None,
    table: dict[str, Any],
    clip: str | None = None,
) -> None:
    """Of a run on rated pictures: the methods, the number of shots, the start and the table."""
    from ..config import split_overrides
    from ..recipes.sources import find_source, read_source
    from ..recipes.starts import find_start, read_settings
    from ..types import Shots

    for_task = split_overrides(overrides)[1]
    wanted = [Shots.parse(count) for count in shots]
    find_start(start)
    for method in methods:
        read_settings(method, clip, None, overrides)
    source = find_source(task, for_task, **table)
    if source.kind == "table":
        rated = read_source(task, for_task, **table)
        for count in wanted:
            if count.count is not None and count.count > len(rated.records):
                raise InputError(f"--shots {count.text}: the table has only {len(rated.records)} pictures")


def check_folder(out: Path, *, resume: bool = False) -> None:
    """Of the folder of a checkpoint: that it can be written. Prints a line on the one that will be replaced."""
    require_room(out)
    require_no_writer(out)
    if not resume and (replaced := describe(out)):
        echo(f"will replace {nearby(out)} ({replaced})", err=True)


def describe(folder: Path) -> str | None:
    """A few words on a checkpoint: its method, its ratings, its date; None where the folder holds none."""
    file = folder / CHECKPOINT_FILES[-1]
    try:
        provenance = json.loads(file.read_text(encoding="utf-8"))
        made = datetime.fromtimestamp(file.stat().st_mtime)
    except (OSError, ValueError):
        return None
    known = provenance if isinstance(provenance, dict) else {}
    ratings = f"{known['shots']} ratings" if "shots" in known else ""
    parts = [str(known.get("method", "")), ratings, f"made {made:%Y-%m-%d %H:%M}"]
    return ", ".join(part for part in parts if part)
