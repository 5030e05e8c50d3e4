"""What a picture shows and what is wrong with it, as targets to learn: tensors over the classes of `config.labels`."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..config import CLASSES
from ..types import Record
from .labels import classes_of


def distributions(records: Sequence[Record], target: str) -> Tensor:
    """(R, P): even over the classes of each picture, all zero where it has none."""
    rows = torch.zeros(len(records), len(CLASSES[target]))
    for row, record in zip(rows, records, strict=True):
        if of := classes_of(record, target):
            row[of] = 1 / len(of)
    return rows


def label_targets(records: Sequence[Record]) -> dict[str, Tensor]:
    """`distributions` of scene and distortion, and `alignment` (R,), nan where it is not known."""
    alignment = torch.tensor([math.nan if record.alignment is None else record.alignment for record in records])
    return {"alignment": alignment} | {target: distributions(records, target) for target in CLASSES}
