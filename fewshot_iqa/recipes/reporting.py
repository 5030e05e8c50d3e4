"""The findings of a report on an adapted model: from its checkpoint, which holds the table of its pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from .. import metrics
from ..config import Config, TableTask, with_overrides
from ..errors import InputError
from ..features import FeatureCache
from ..model import checkpoint
from ..model.formats import require_keys, trusted_config
from ..progress import track
from ..resources import inside
from ..types import Record
from .common import choose_device
from .draws import draw_of
from .loading import load
from .results import PICTURES, agreement, by_picture, read_pictures_table, tested
from .starts import read_settings
from .trial import Memory, Method, read_pictures, run_trial

BASELINES = ("ridge", "clip_iqa")
EXPLAINED = 200  # pictures at most whose likeliest phrases are counted


@dataclass(frozen=True)
class Findings:
    """Of a checkpoint: its `settings` and `provenance`, the rated and predicted `pictures`, and the `methods`, a row
    for the model itself and each baseline on the same pictures and folds, with srcc and its 95 % interval, low
    and high; what the model is `ahead` of a baseline in SRCC, ahead_low and ahead_high; plcc, rmse, coverage; and over
    the `draws` the median and iqr of srcc. `notes` say what is left out; `phrases` are {branch: {phrase: pictures of
    which it is the likeliest}}."""

    settings: Config
    provenance: dict[str, Any]
    pictures: pd.DataFrame
    methods: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    phrases: dict[str, dict[str, int]] = field(default_factory=dict)


def find_report(
    folder: str | Path,
    baselines: Sequence[str] = BASELINES,
    *,
    device: str | None = None,
    cache: str | Path | None = None,
) -> Findings:
    """The findings on the checkpoint in `folder`; `baselines` learn from the same pictures, out of the same folds.

    InputError where the folder is no checkpoint of `adapt`.
    """
    folder, notes = Path(folder), []
    provenance, settings = checkpoint.provenance(folder), trusted_config(folder)
    path = inside(folder, PICTURES)
    if provenance.get("stage") != "adapt":
        raise InputError(f"{folder}: learned from no ratings; `fsiqa adapt` makes a model that a report is of")
    if not path.is_file():
        raise InputError(f"{folder}: holds no {PICTURES}, which `fsiqa adapt` of this version writes; adapt once more")
    require_keys(provenance, folder, "method", "source")
    pictures = read_pictures_table(path) if path.stat().st_size > 1 else pd.DataFrame()
    if pictures.empty or tested(pictures).empty:
        raise InputError(f"{folder}: its ratings were not tested on any picture; there is nothing to report")
    found = {str(provenance["method"]): pictures}
    others = {name: read_settings(name, settings.clip, settings.seed, [])[0] for name in baselines if name not in found}
    memory, source = Memory(FeatureCache(cache)), provenance["source"]
    if source["kind"] != "table":
        notes.append("no baselines: the pictures of a synthetic task are not files")
    try:
        for name, own in others.items() if source["kind"] == "table" else ():
            own = with_overrides(own, views=own.views.model_copy(update={"crop": settings.views.crop}))
            method = Method(own, checkpoint.default_start(own), choose_device(device))
            found[name] = _predicted_by(method, pictures, TableTask.model_validate(source), memory)
    except InputError as error:  # of a picture that is gone or broken
        notes.append(f"no baselines: {error}")
    phrases = {}
    if any(settings.label_branches.values()) and not notes:
        phrases = _likeliest(folder, tested(pictures)["image"].drop_duplicates().to_list()[:EXPLAINED], device)
    return Findings(
        settings, provenance, pictures, _compared(found, per_subset=not source.get("pooled", True)), notes, phrases
    )


def _predicted_by(method: Method, pictures: pd.DataFrame, source: TableTask, memory: Memory) -> pd.DataFrame:
    """The same pictures as another method predicts them, having learned from the same ones."""
    whole, drawn = pictures if "fold" in pictures else pictures.assign(fold=0), []
    for _, rows in whole.fillna({"fold": 0}).groupby(["seed", "fold"]):
        seed, test, shots = int(rows["seed"].iloc[0]), tested(rows), rows[rows["part"] == "shot"]
        if shots.empty:  # all the others
            shots = whole[(whole["seed"] == seed) & ~whole.index.isin(rows.index)]
        drawn.append(draw_of(source, seed, _records(shots), _records(test)))
    read_pictures(method, drawn, memory)
    predicted = [by_picture(draw, run_trial(method, draw, memory).report, shots=False) for draw in drawn]
    return pd.DataFrame([row for rows in predicted for row in rows])


def _records(rows: pd.DataFrame) -> list[Record]:
    optional = [name for name in ("distortion", "subset") if name in rows]
    return [
        Record(
            Path(row["image"]),
            row["rating"],
            str(row["group"]),
            **{name: row[name] for name in optional if pd.notna(row[name])},
        )
        for row in rows.to_dict("records")
    ]


def _compared(found: dict[str, pd.DataFrame], *, per_subset: bool) -> pd.DataFrame:
    """A row for each method, the first the model itself. Intervals are of the first draw."""
    rows: list[dict[str, Any]] = []
    ours = next(iter(found.values()))
    for name, pictures in found.items():
        draws = [rows_.dropna(axis="columns", how="all") for _, rows_ in pictures.groupby("seed")]
        agreed = [agreement(draw, per_subset=per_subset) for draw in draws]
        first = agreed[0]
        row = {"method": name, "srcc": first["srcc"], **_ends("", first["srcc_interval"])}
        row |= _ahead(ours, pictures) if rows else {}
        row |= {"plcc": first["plcc"], "rmse": first["rmse"], "coverage": first.get("coverage")}
        each = pd.Series([one["srcc"] for one in agreed], dtype=float)
        quartiles = each.quantile([0.25, 0.5, 0.75]).tolist()
        rows.append(row | {"draws": len(each), "median": quartiles[1], "iqr": quartiles[2] - quartiles[0]})
    return pd.DataFrame(rows)


def _ends(name: str, interval: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{name}low": low, f"{name}high": high}


def _ahead(ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, float | None]:
    """What the first draw of ours is ahead in SRCC, on the same pictures."""
    seed, key = ours["seed"].min(), [name for name in ("image", "distortion", "level") if name in ours]
    rows = [tested(each[each["seed"] == seed]) for each in (ours, theirs)]
    both = rows[0].merge(rows[1], on=[name for name in key if name in rows[1]])

    def difference(predicted: Any, rated: Any) -> float:
        return metrics.srcc(predicted[:, 0], rated) - metrics.srcc(predicted[:, 1], rated)

    predicted = both[["predicted_rating_x", "predicted_rating_y"]].to_numpy()
    rated, groups = both["rating_x"].to_numpy(), both["group_x"].to_numpy()
    interval = metrics.bootstrap_interval(difference, predicted, rated, groups)
    return {"ahead": difference(predicted, rated), **_ends("ahead_", interval)}


def _likeliest(folder: Path, images: Sequence[str], device: str | None) -> dict[str, dict[str, int]]:
    """How often each phrase of a branch that learned classes is the likeliest one."""
    scorer = load(folder, device=device)
    if not scorer.predictor.phrases:
        return {}
    counts: dict[str, Counter[str]] = {branch: Counter() for branch in scorer.predictor.phrases}
    with track("explaining", len(images)) as log:
        for score in scorer.stream([(name, Path(name)) for name in images], explain=True):
            for branch, phrase in score.likeliest.items():
                counts[branch][phrase] += 1
            log({})
    return {branch: dict(found.most_common()) for branch, found in counts.items()}
