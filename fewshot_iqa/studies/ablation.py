"""Ablations: variants of one method, adapted on the same draws of shots."""

from collections.abc import Iterable
from typing import Any

from ..config import AblationSpec, load_experiment
from ..errors import InputError
from ..recipes.curve import curve, srcc_difference


def ablation(plan: str, *, shots: str | int = "20%", overrides: Iterable[str] = (), **options: Any) -> dict[str, Any]:
    """Adapt with each variant of an `AblationSpec`, the plan; equal variants are computed once.

    `overrides` apply to all variants; `options` are those of `curve`. Each trial is a file in the folder `out`, and
    existing files are not computed again. In the result, `tables` is {table: {variant: {"median", "iqr", "trials",
    "count", "over_first"}}}, where `over_first` is the paired difference of SRCC from the first variant of the table.
    """
    spec, overrides = load_experiment(plan, kind=AblationSpec), list(overrides)
    _check(spec, overrides)
    label_of: dict[tuple[str, ...], str] = {}
    for table, variants in spec.tables.items():
        for variant, changes in variants.items():
            label_of.setdefault(tuple(changes), f"{table}, {variant}")
    arms = {label: (spec.config, changes) for changes, label in label_of.items()}
    result = curve(arms, shots=[shots], start=spec.start, overrides=overrides, **options)
    (count,) = next(iter(result["curve"].values()))
    tables = {
        table: _over_first(
            {variant: result["curve"][label_of[tuple(changes)]][count] for variant, changes in variants.items()}
        )
        for table, variants in spec.tables.items()
    }
    return {"tables": tables} | {name: result[name] for name in ("task", "plan", "methods", "versions")}


def _over_first(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    first = next(iter(found.values()))["trials"]
    return {variant: cell | {"over_first": srcc_difference(cell["trials"], first)} for variant, cell in found.items()}


def _check(spec: AblationSpec, overrides: Iterable[str]) -> None:
    """InputError where an override sets the key of a variant: the variants would not differ."""
    for override in overrides:
        key = override.partition("=")[0].strip()
        for table, variants in spec.tables.items():
            for variant, changes in variants.items():
                if any(f"{key}.".startswith(change.partition("=")[0].strip() + ".") for change in changes):
                    raise InputError(f"--set {override}: {table}, '{variant}' sets this itself; write your own --plan")
