"""The files of a checkpoint, and earlier formats read as the present one. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Config, read_config, read_yaml
from ..config.heads import GaussianProcessSpec
from ..errors import InputError
from ..resources import CHECKPOINT_FILES

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 2
CONFIG, WEIGHTS, PROVENANCE = CHECKPOINT_FILES
_WEIGHTS = {"head.inputs": "head.train_x", "head.quality": "head.train_y"}


def require_checkpoint(folder: Path) -> None:
    """InputError unless `folder` holds a whole checkpoint."""
    for name in CHECKPOINT_FILES:
        if not (folder / name).is_file():
            raise InputError(f"{folder}: not a checkpoint: it holds no {name}")


def weights_fingerprint(folder: Path) -> str:
    """A hash of the weights of a checkpoint."""
    require_checkpoint(folder)
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()[:16]


def read_checkpoint_config(folder: Path, overrides: Iterable[str] = ()) -> Config:
    """The configuration of a checkpoint."""
    require_checkpoint(folder)
    path = folder / CONFIG
    return read_config(upgrade_config(read_yaml(path)), overrides, str(path))


def upgrade_config(data: Any) -> Any:
    """The keys and values of a configuration; those of format 1 kept the head in `model`, `ridge` and `gp`."""
    if not isinstance(data, dict) or "head" in data or not isinstance(data.get("model"), dict):
        return data
    data, model = dict(data), dict(data["model"])
    kind, weight, fusion = model.pop("head", "antonym"), model.pop("prior", 0), model.pop("fusion", None)
    ridge, process = data.pop("ridge", None), data.pop("gp", None)
    head: dict[str, Any] = {"kind": kind}
    if kind == "gp" and process is not None:
        head |= {("lengthscale" if key == "length" else key): value for key, value in process.items()}
        head["prompt_mean_weight"] = weight
    elif kind == "fusion":
        head |= fusion or {}
    elif ridge is not None:
        head = {"kind": "ridge", **ridge}
    return data | {"model": model, "head": head}


def upgrade_weights(weights: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The weights under their present names. A Gaussian process had one row of hyperparameters, or one prior mean, and
    kept what this left of the shots' quality."""
    found = {_WEIGHTS.get(name, name): value for name, value in weights.items()}
    rows = found.get("head.hyperparameters")
    if rows is None or not isinstance(config.head, GaussianProcessSpec):
        return found
    shots = found["head.train_x"]
    for name in ("head.train_match", "head.train_noise"):
        found.setdefault(name, shots.new_zeros(len(shots)))
    found.setdefault("head.match_moments", rows.new_tensor([0.0, 1.0]))
    if "head.train_p" in found:
        return found
    if rows.ndim == 1:
        rows = rows.new_tensor([[1.0, *rows.tolist()]])
        found["head.prior_weight"], found["head.prior_bias"] = rows.new_zeros(shots.shape[1]), rows.new_zeros(())
    prompt, synthetic = (sum(of) for of in (config.head.prompt_mean_weight, config.head.synthetic_mean_weight))
    synthetic *= bool(found["head.prior_weight"].any())
    present = rows.new_empty(len(rows), 7)
    present[:, 0], present[:, 3:] = rows[:, 0], rows[:, 1:]
    present[:, 1:3] = rows.new_tensor([prompt, synthetic])
    found["head.hyperparameters"] = present
    linear = shots.double() @ found["head.prior_weight"] + found["head.prior_bias"]
    # the share of the phrases stays taken off, and `train_p` takes off nothing more
    found["head.train_y"] = (found["head.train_y"] + synthetic * linear).to(shots)
    found["head.train_p"] = shots.new_zeros(len(shots))
    return found


def upgrade_provenance(provenance: dict[str, Any]) -> dict[str, Any]:
    """Format 1 has no `format`; its episodes counted their tasks by `count`, and `zero_step` were the metrics before
    any shot."""
    if "format" in provenance:
        if provenance["format"] != VERSION:
            raise InputError(
                f"checkpoint of format {provenance['format']}: this version reads up to {VERSION}; update it"
            )
        return provenance
    found = dict(provenance)
    if "zero_step" in found:
        found["zero_shot"] = found.pop("zero_step")
    source = found.get("source")
    if isinstance(source, dict) and "count" in source.get("episodes", {}):
        episodes = dict(source["episodes"])
        episodes["tasks_per_step"] = episodes.pop("count")
        found["source"] = source | {"episodes": episodes}
    return found
