"""What the recipes have in common: device, model, one reading of every picture, one honest test."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..config import Config
from ..data.labels import labelled
from ..data.loading import Loader
from ..errors import InputError, first_sentence
from ..evaluation import Report, evaluate_batches
from ..images import content_hash
from ..model import checkpoint
from ..model.quality import QualityModel
from ..progress import say, track
from ..types import Record
from .starts import read_settings


@dataclass(frozen=True)
class Result:
    """A training command's checkpoint folder, and its provenance with all metrics."""

    out: Path
    provenance: dict[str, Any] = field(repr=False)


def choose_device(name: str | None) -> str:
    """The named device, or a GPU where there is one; InputError where it is not available."""
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=name).item()  # meta has a place for tensors, but no values
    except Exception as error:  # each kind of device has its own
        kind = name.partition(":")[0]
        why = f" ({first_sentence(error)})" if kind == "cuda" else ""
        hint = "" if kind in ("cpu", "cuda", "mps") else "; give cpu, cuda, cuda:1 or mps"
        raise InputError(f"--device {name}: not available here{why}{hint}") from None
    return name


def create_model(
    config: str | Path,
    *,
    clip: str | None = None,
    seed: int | None = None,
    device: str | None = None,
    overrides: Iterable[str] = (),
) -> QualityModel:
    """The model of a method with fresh prompts, a torch module: `model(images)` returns a `Prediction`.

    `config` is a method from `fsiqa configs` or a .yaml file, `clip` in the place of its CLIP, `overrides` are
    "dotted.key=value". Images are (B, 3, H, W), uint8 or float in [0, 1], H = W = the CLIP's input size.

    Examples:
        >>> import torch
        >>> model = create_model("grmp")
        >>> model(torch.rand(2, 3, 224, 224)).mean.shape
        torch.Size([2])
    """
    settings, _ = read_settings(config, clip, seed, overrides)
    return checkpoint.build(settings, choose_device(device))


def read_all(loader: Loader, records: Sequence[Record]) -> None:
    """Read every picture once, so that a broken file is found before anything is trained; `loader` keeps those that are
    not distorted first."""
    each = list({record.path: record for record in records}.values())
    with track("reading", len(each)) as log:
        for record in each:
            (loader.source if record.apply else loader.picture)(record)
            log({})


def count_labels(methods: Iterable[Config], records: Collection[Record]) -> dict[str, int]:
    """{target: how many pictures have it}, of the terms of the losses that need labels; says which are missing."""
    wanted = dict.fromkeys(term.target for settings in methods for term in settings.loss if term.target)
    counts = {str(target): sum(labelled(record, target) for record in records) for target in wanted}
    for target, count in counts.items():
        if not count:
            hint = " (a table has it with task.alignment_range)" if target == "alignment" else ""
            say(f"no picture has a known label of its {target}{hint}: learning without that term of the loss")
        elif count < len(records):
            say(f"{count} of {len(records)} pictures have a known label of their {target}")
    return counts


def evaluate_on(
    model: QualityModel,
    loader: Loader,
    records: Sequence[Record],
    title: str = "validating",
    labels: Mapping[str, str] = {},
    alignment: Sequence[str] = (),
) -> Report:
    with track(title, -(-len(records) // loader.at_once)) as log:
        batches = (batch.to(str(model.device)) for batch in loader.fixed_batches(records))
        subsets = [record.subset for record in records]
        options: dict[str, Any] = {"labels": labels, "alignment": alignment, "per_subset": loader.scale.per_subset}
        return evaluate_batches(model, batches, subsets=subsets, log=log, **options)


def run_of(command: str, **options: Any) -> dict[str, Any] | None:
    """What repeats a run: its command, the working directory, and the options that were given; None where one is an
    object of Python that no file can hold."""
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    try:
        return {"command": command, "folder": str(Path.cwd()), "options": json.loads(json.dumps(plain))}
    except TypeError:
        return None


def ratings_hash(records: Iterable[Record]) -> str:
    """Of rated pictures: their rows, and the content of the files."""
    rows = [{**vars(record), "path": record.path.name, "content": content_hash(record.path)} for record in records]
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]
