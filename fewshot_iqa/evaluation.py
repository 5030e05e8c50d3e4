"""One honest pass over rated pictures."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from . import metrics
from .types import Batch, Features, Prediction

CORRELATIONS = ("srcc", "plcc", "plcc_logistic", "krcc", "alignment_srcc")
NINETY = 1.6449  # standard deviations on either side of the mean that hold 90 % of a normal distribution


@dataclass(frozen=True)
class Report:
    """Predicted and rated quality of each picture, in [0, 1], and their agreement.

    `predicted` and, where the model has it, `predicted_std`; `rated`. `metrics`: srcc, plcc, plcc_logistic, krcc, rmse;
    `coverage`, the share of ratings within the predicted 90 % intervals; `scene_accuracy` and the like, the share of
    labelled pictures whose likeliest phrase is one of their classes; `alignment_srcc`, or `alignment_auc` for ratings
    of 0 and 1. `within` each subset: the same. Where each subset has a scale of its own, `metrics` are their medians.
    """

    predicted: list[float]
    rated: list[float]
    metrics: dict[str, float | None]
    predicted_std: list[float] | None = None
    within: dict[str, dict[str, float | None]] = field(default_factory=dict)


def compare(
    prediction: Prediction,
    rated: Sequence[float],
    subsets: Sequence[str | None] = (),
    correct: Mapping[str, Sequence[bool | None]] = {},
    alignment: Sequence[float] = (),
    *,
    per_subset: bool = False,
) -> Report:
    """The report of predictions, whose means are clamped to [0, 1] as scores are.

    `subsets` holds the subset of each picture, where there are such, and `per_subset` is whether each has a scale of
    its own; `correct` {classes: whether the likeliest phrase
    of each picture is one of its classes, None where it has none}; `alignment` the rated one, nan where it is missing.
    """
    prediction = prediction.clamped()
    predicted = prediction.mean.tolist()
    std = None if prediction.std is None else prediction.std.tolist()
    matching = [] if prediction.alignment is None else prediction.alignment.tolist()

    def agreement(rows: Sequence[int]) -> dict[str, float | None]:
        found = metrics.report([predicted[i] for i in rows], [rated[i] for i in rows])
        if std:
            inside = [abs(predicted[i] - rated[i]) <= NINETY * std[i] for i in rows]
            found["coverage"] = sum(inside) / len(inside)
        for name, each in correct.items():
            if labelled := [each[i] for i in rows if each[i] is not None]:
                found[f"{name}_accuracy"] = labelled.count(True) / len(labelled)
        both = [i for i in rows if matching and math.isfinite(matching[i]) and math.isfinite(alignment[i])]
        if both:
            ours, theirs = ([side[i] for i in both] for side in (matching, alignment))
            name, measure = ("auc", metrics.auc) if set(theirs) == {0.0, 1.0} else ("srcc", metrics.srcc)
            value = measure(ours, theirs)
            found[f"alignment_{name}"] = None if math.isnan(value) else value
        return found

    within = {
        name: agreement([i for i, subset in enumerate(subsets) if subset == name])
        for name in sorted({name for name in subsets if name is not None})
    }
    whole = over_trials(list(within.values()))[0] if per_subset and within else agreement(range(len(rated)))
    return Report(predicted, list(rated), whole, std, within)


class Predictor(Protocol):
    """What can be evaluated: it encodes its prompts once, then predicts from images or features, also by further
    branches, and with the prompts that the images were generated from."""

    def encode_prompts(self) -> Any: ...

    def __call__(
        self, inputs: Tensor | Features, state: Any, branches: Sequence[str], prompts: Sequence[str | None], /
    ) -> Prediction: ...


@torch.inference_mode()
def evaluate_batches(
    model: Predictor,
    batches: Iterable[Batch],
    *,
    subsets: Sequence[str | None] = (),
    labels: Mapping[str, str] = {},
    alignment: Sequence[str] = (),
    per_subset: bool = False,
    log: Callable[[Mapping[str, float]], None] = lambda _: None,
) -> Report:
    """Predict every picture and compare with its rating, and the likeliest phrase of a branch with the classes of
    `labels` {classes: branch}; `alignment` names the branches that predict it. `log` is called once a batch."""
    outputs: list[Prediction] = []
    rated: list[float] = []
    matching: list[float] = []
    correct: dict[str, list[bool | None]] = {target: [] for target in labels}
    state = model.encode_prompts()
    for batch in batches:
        outputs.append(model(batch.inputs, state, [*labels.values(), *alignment], batch.prompts))
        rated += batch.targets["quality"].tolist()
        matching += batch.targets["alignment"].tolist() if alignment else []
        for target, branch in labels.items():
            likeliest, wanted = outputs[-1].logits[branch].argmax(dim=1), batch.targets[target]
            found = wanted.gather(1, likeliest[:, None])[:, 0] > 0
            correct[target] += [bool(hit) if row.any() else None for hit, row in zip(found, wanted, strict=True)]
        log({})
    whole = Prediction(
        torch.cat([output.mean for output in outputs]),
        _joined([output.std for output in outputs]),
        alignment=_joined([output.alignment for output in outputs]),
    )
    return compare(whole, rated, subsets, correct, matching, per_subset=per_subset)


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known) if known else None


def over_trials(entries: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(median, interquartile range) of the metrics of several trials, nested as they are.

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
