"""One honest pass over rated pictures."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from . import metrics
from .types import Batch, Output

CORRELATIONS = ("srcc", "plcc", "plcc_logistic", "krcc", "alignment_srcc")
NINETY = 1.6449  # standard deviations on either side of the mean that hold 90 % of a normal distribution


@dataclass(frozen=True)
class Report:
    """Qualities of each picture, `predicted`, with the standard deviation where the model tells it (`spread`), and
    `rated`, and their agreement: `metrics` of all (srcc, plcc, plcc_logistic, krcc, rmse; `coverage`, the share of
    ratings within the predicted 90 % intervals, where the model has such; `scene_accuracy` and the like, the share of
    labelled pictures whose likeliest phrase is a label of theirs; `alignment_srcc`, or `alignment_auc` for ratings of
    yes and no, where alignment is told and rated), and `within` each subset."""

    predicted: list[float]
    spread: list[float] | None
    rated: list[float]
    metrics: dict[str, float | None]
    within: dict[str, dict[str, float | None]]


def compare(
    output: Output,
    rated: Sequence[float],
    subsets: Sequence[str | None] = (),
    right: Mapping[str, Sequence[bool | None]] = {},
    alignment: Sequence[float] = (),
) -> Report:
    """The report of predictions; `subsets` says which one each picture is of, where there are such, and `right` for
    each kind of label whether the likeliest phrase of a picture is one of its labels, None where it has none.
    `alignment` is as rated, nan where it is not."""
    predicted = output.quality.tolist()
    spread = None if output.std is None else output.std.tolist()
    matching = [] if output.alignment is None else output.alignment.tolist()

    def agreement(rows: Sequence[int]) -> dict[str, float | None]:
        found = metrics.report([predicted[i] for i in rows], [rated[i] for i in rows])
        if spread:
            inside = [abs(predicted[i] - rated[i]) <= NINETY * spread[i] for i in rows]
            found["coverage"] = sum(inside) / len(inside)
        for name, each in right.items():
            if labelled := [each[i] for i in rows if each[i] is not None]:
                found[f"{name}_accuracy"] = labelled.count(True) / len(labelled)
        both = [i for i in rows if matching and math.isfinite(matching[i]) and math.isfinite(alignment[i])]
        if both:
            told, wanted = ([side[i] for i in both] for side in (matching, alignment))
            name, measure = ("auc", metrics.auc) if set(wanted) == {0.0, 1.0} else ("srcc", metrics.srcc)
            value = measure(told, wanted)
            found[f"alignment_{name}"] = None if math.isnan(value) else value
        return found

    within = {
        name: agreement([i for i, subset in enumerate(subsets) if subset == name])
        for name in sorted({name for name in subsets if name is not None})
    }
    return Report(predicted, spread, list(rated), agreement(range(len(rated))), within)


class Judge(Protocol):
    """What can be evaluated: it encodes its prompts once, then judges images (B, ...), also by further branches, and
    with the prompts that they were made from."""

    def encode_prompts(self) -> Any: ...

    def __call__(
        self, images: Tensor, state: Any, branches: Sequence[str], prompts: Sequence[str | None], /
    ) -> Output: ...


@torch.inference_mode()
def evaluate(
    model: Judge,
    batches: Iterable[Batch],
    *,
    subsets: Sequence[str | None] = (),
    labels: Mapping[str, str] = {},
    alignment: Sequence[str] = (),
    log: Callable[[Mapping[str, float]], None] = lambda _: None,
) -> Report:
    """Score every picture and compare with the ratings, and the likeliest phrase of a branch with the target of
    `labels` {target: branch}; `alignment` names the branches that tell it. `log` is called once a batch."""
    outputs: list[Output] = []
    rated: list[float] = []
    matching: list[float] = []
    right: dict[str, list[bool | None]] = {target: [] for target in labels}
    state = model.encode_prompts()
    for batch in batches:
        outputs.append(model(batch.images, state, [*labels.values(), *alignment], batch.prompts))
        rated += batch.targets["quality"].tolist()
        matching += batch.targets["alignment"].tolist() if alignment else []
        for target, branch in labels.items():
            likeliest, wanted = outputs[-1].logits[branch].argmax(dim=1), batch.targets[target]
            found = wanted.gather(1, likeliest[:, None])[:, 0] > 0
            right[target] += [bool(hit) if row.any() else None for hit, row in zip(found, wanted, strict=True)]
        log({})
    whole = Output(
        torch.cat([output.quality for output in outputs]),
        std=_joined([output.std for output in outputs]),
        alignment=_joined([output.alignment for output in outputs]),
    )
    return compare(whole, rated, subsets, right, matching)


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known) if known else None


def over_trials(entries: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(median, interquartile range) of the figures of several trials, nested as they are.

    What a trial lacks is left out, and None where all lack it; but a prediction without a correlation (a constant)
    counts as 0 where others have one.
    """
    median: dict[str, Any] = {}
    iqr: dict[str, Any] = {}
    for name in dict.fromkeys(name for entry in entries for name in entry):
        values = [entry[name] for entry in entries if entry.get(name) is not None]
        if values and isinstance(values[0], Mapping):
            median[name], iqr[name] = over_trials(values)
        elif values:
            constant = sum(name in entry and entry[name] is None for entry in entries) if name in CORRELATIONS else 0
            low, middle, high = np.quantile([*values, *[0.0] * constant], (0.25, 0.5, 0.75))
            median[name], iqr[name] = float(middle), float(high - low)
        else:
            median[name] = iqr[name] = None
    return median, iqr
