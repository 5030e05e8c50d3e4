"""What the recipes have in common: settings, device, one reading of every picture, one honest test."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..config import Config, load_config, split_overrides
from ..data.loading import Loader
from ..data.targets import labelled
from ..errors import InputError
from ..evaluation import Report, evaluate_batches
from ..model.formats import read_checkpoint_config
from ..model.quality import QualityModel
from ..progress import say, track
from ..resources import is_checkpoint, portable
from ..types import Record


@dataclass(frozen=True)
class Result:
    """A training command's checkpoint folder, and its provenance with all metrics."""

    out: Path
    provenance: dict[str, Any]


def read_settings(
    config: str | Path, clip: str | None, seed: int | None, overrides: Iterable[str]
) -> tuple[Config, list[str]]:
    """The configuration of a method, or of a checkpoint, and the overrides that were for the task (`task.*`)."""
    own, for_task = split_overrides(overrides)
    own += [f"clip={json.dumps(clip)}"] if clip else []
    own += [f"seed={seed}"] if seed is not None else []
    folder = Path(config)
    settings = read_checkpoint_config(folder, own) if is_checkpoint(folder) else load_config(str(config), own)
    return settings.model_copy(update={"clip": portable(settings.clip)}), for_task


def choose_device(name: str | None) -> str:
    """The named device, or a GPU where there is one; InputError where it is not available."""
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: not available here ({str(error).splitlines()[0]})") from None
    return name


def read_all(loader: Loader, records: Sequence[Record]) -> None:
    """Read every picture once, so that a broken file is found before anything is trained."""
    each = list({record.path: record for record in records}.values())
    with track("reading", len(each)) as log:
        for record in each:
            loader.source(record)
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
    with track(title, -(-len(records) // loader.views.at_once)) as log:
        batches = (batch.to(str(model.device)) for batch in loader.fixed_batches(records))
        subsets = [record.subset for record in records]
        return evaluate_batches(model, batches, subsets=subsets, labels=labels, alignment=alignment, log=log)
