"""The recipe of rerun: a run again from what its checkpoint tells of it, compared with the checkpoint."""

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from ..errors import InputError
from ..model import checkpoint
from ..resources import CHECKPOINT_FILES
from .adaptation import adapt
from .metatraining import metatrain
from .results import PICTURES

COMMANDS: dict[str, Callable[..., Any]] = {"adapt": adapt, "metatrain": metatrain}
MEASURED = {"seconds", "peak_mb", "versions", "run"}  # what differs between equal runs


def rerun(folder: str | Path, *, out: str | Path | None = None) -> dict[str, str]:
    """Run `adapt` or `metatrain` again as the checkpoint in `folder` was made, into `out` or a folder that is removed
    afterwards, and compare: {what differs: how}, empty where weights, metrics and predictions are the same bit by bit.

    Inputs and packages that have changed are told first. InputError where the checkpoint does not tell how it was made:
    it is of an earlier version, or was made from Python with objects in the place of names and paths.

    Examples:
        >>> rerun("runs/adapt")  # doctest: +SKIP
        {}
    """
    folder = Path(folder).resolve()
    before = checkpoint.provenance(folder)
    run = before.get("run")
    if not run or run["command"] not in COMMANDS:
        raise InputError(f"{folder}: does not tell how it was made: an earlier version made it, or Python with objects")
    with tempfile.TemporaryDirectory() as scratch:
        again = Path(scratch) / "again" if out is None else Path(out).resolve()
        if again == folder:
            raise InputError(f"--out {out}: is the checkpoint that is compared; name another folder")
        with _inside(Path(run["folder"])):
            COMMANDS[run["command"]](out=again, **run["options"])
        return _differences(folder, again, before, checkpoint.provenance(again))


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """In the working directory `folder`, which relative paths of the run begin from."""
    if not folder.is_dir():
        raise InputError(f"{folder}: the folder that it was run in is gone; its relative paths begin there")
    here = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)


def _differences(one: Path, other: Path, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    packages = (before.get("versions", {}), after["versions"])
    changed = [name for name in packages[1] if packages[0].get(name) != packages[1][name]]
    if changed:
        found["packages"] = ", ".join(f"{name} {packages[0].get(name)} -> {packages[1][name]}" for name in changed)
    for name in sorted((before.keys() | after.keys()) - MEASURED):
        if not _same(before.get(name), after.get(name)):
            found[name] = f"{_short(before.get(name))} -> {_short(after.get(name))}"
    weights = [load_file(folder / CHECKPOINT_FILES[1]) for folder in (one, other)]
    if weights[0].keys() != weights[1].keys():
        found["weights"] = "other names"
    else:
        changes = [(weights[1][name] - value).abs().max().item() for name, value in weights[0].items() if value.numel()]
        most = max(changes, default=0)
        found |= {"weights": f"by {most:.2g} at most"} if most else {}
    tables = [folder / PICTURES for folder in (one, other)]
    predictions = [table.read_bytes() if table.is_file() else None for table in tables]
    if predictions[0] != predictions[1]:
        found["predictions"] = f"{PICTURES} differs"
    return found


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(_same(one.get(name), other.get(name)) for name in (one.keys() | other.keys()) - MEASURED)
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
