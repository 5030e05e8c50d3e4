"""What the recipes have in common: settings, device, model, one reading of every picture, one honest test."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from .. import rng
from ..config import Config, load_config
from ..data.labels import labelled
from ..data.loading import Loader
from ..errors import InputError
from ..evaluate import Report, evaluate
from ..model import checkpoint
from ..model.backbone import portable
from ..model.quality import QualityModel
from ..progress import say, track
from ..types import Record


@dataclass(frozen=True)
class Result:
    """What a training command found: the checkpoint's folder, its provenance with all figures, and what adapt tells of
    each of the `pictures`."""

    out: Path
    facts: dict[str, Any]
    pictures: pd.DataFrame | None = None


def read_settings(
    config: str, clip: str | None, seed: int | None, overrides: Iterable[str]
) -> tuple[Config, list[str]]:
    """The method's configuration, and the overrides that were for the task (`task.*`)."""
    overrides = list(overrides)
    mine = [text for text in overrides if not text.startswith("task.")]
    mine += [f"clip={json.dumps(clip)}"] if clip else []
    mine += [f"seed={seed}"] if seed is not None else []
    settings = load_config(config, mine)
    for_task = [text.removeprefix("task.") for text in overrides if text.startswith("task.")]
    return settings.model_copy(update={"clip": portable(settings.clip)}), for_task


def choose_device(name: str | None) -> str:
    """The named device, or a GPU where there is one; InputError where it is not available."""
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: not available here ({str(error).splitlines()[0]})") from None
    return name


def build_model(settings: Config) -> QualityModel:
    """A fresh model of a method, its prompts drawn from the method's seed."""
    with rng.scoped(settings.seed, "init"):
        return checkpoint.build(settings)


def read_all(loader: Loader, records: Sequence[Record]) -> None:
    """Read every picture once, so that a broken file is found before anything is trained."""
    each = list({record.path: record for record in records}.values())
    with track("reading", len(each)) as log:
        for record in each:
            loader.source(record)
            log({})


def count_labels(methods: Iterable[Config], records: Collection[Record]) -> dict[str, int]:
    """{target: how many pictures have it}, of the terms of the losses that need labels; says what is missing."""
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
    device: str,
    title: str = "validating",
    labels: Mapping[str, str] = {},
    alignment: Sequence[str] = (),
) -> Report:
    with track(title, -(-len(records) // loader.views.at_once)) as log:
        batches = (batch.to(device) for batch in loader.fixed_batches(records))
        subsets = [record.subset for record in records]
        return evaluate(model, batches, subsets=subsets, labels=labels, alignment=alignment, log=log)
