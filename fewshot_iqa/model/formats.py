"""The files of a checkpoint, and earlier formats read as the present one. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Config, read_config, read_yaml
from ..config.heads import GaussianProcessSpec
from ..errors import InputError
from ..resources import CHECKPOINT_FILES, inside
from .named import recall
from .storage import read_file

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 2
CONFIG, WEIGHTS, PROVENANCE = CHECKPOINT_FILES
LIMIT = 64 * 2**20  # bytes of a configuration or a provenance
_WEIGHTS = {"head.inputs": "head.train_x", "head.quality": "head.train_y"}
_KINDS = {
    "base": str, "clip": str, "stage": str, "task": str, "method": str, "source": dict, "labels": dict, "scale": list,
    "tuned": list, "history": list, "step": int, "sha256": dict,
}  # fmt: skip


def require_checkpoint(folder: Path) -> None:
    """InputError unless `folder` holds a whole checkpoint."""
    for name in CHECKPOINT_FILES:
        if not inside(folder, name).is_file():
            raise InputError(f"{folder}: not a checkpoint: it holds no {name}")


def digest(name: str, content: bytes) -> str:
    """The SHA-256 of a file of a checkpoint; of a text with any ends of lines, which git changes on Windows."""
    return hashlib.sha256(content if name.endswith(".safetensors") else content.replace(b"\r\n", b"\n")).hexdigest()


def read_checked(folder: Path, name: str, provenance: Mapping[str, Any], limit: int) -> bytes:
    """A file of a checkpoint. InputError where it is not the one that `provenance` was written with."""
    content = read_file(folder, name, limit)
    if provenance.get("sha256", {}).get(name) not in (None, digest(name, content)):
        if read_provenance(folder) != provenance:
            raise InputError(f"{folder}: was replaced while it was read; repeat the command")
        raise InputError(
            f"{folder / name}: not readable as the file that {PROVENANCE} was written with (another SHA-256): "
            "damaged, changed, or copied in part"
        )
    return content


def weights_fingerprint(folder: Path) -> str:
    """A hash of the weights of a checkpoint."""
    require_checkpoint(folder)
    return digest(WEIGHTS, read_file(folder, WEIGHTS, sys.maxsize))[:16]


def read_checkpoint_config(folder: Path, overrides: Iterable[str] = ()) -> Config:
    """The configuration of a checkpoint, as it is written; `trusted_config` for one that a model is built from."""
    found = read_provenance(folder)
    read_checked(folder, CONFIG, found, LIMIT)
    return read_config(upgrade_config(read_yaml(inside(folder, CONFIG))), overrides, str(folder / CONFIG))


def trusted_config(folder: Path, overrides: Iterable[str] = ()) -> Config:
    """The configuration of a checkpoint, with a CLIP that the user has named: by `overrides`, or at any earlier time.

    The embedded one needs no name. InputError for all others: a checkpoint that was received could name any file or
    download.
    """
    overrides = list(overrides)
    config = read_checkpoint_config(folder, overrides)
    if config.clip == "tiny" or any(text.partition("=")[0].strip() == "clip" for text in overrides):
        return config
    name = recall(read_provenance(folder)["base"])
    if name is None:
        raise InputError(
            f"{folder}: made on the CLIP {config.clip!r}, which no command of yours has named so far; if you trust "
            "that, name it with --clip, as NAME:PRETRAINED or NAME:/path/to/weights (once: it is remembered)"
        )
    return config.model_copy(update={"clip": name})


def read_provenance(folder: Path) -> dict[str, Any]:
    """Where a checkpoint comes from: task, seeds, parent, metrics, base CLIP, versions.

    InputError where it is not readable, or a value has another type than it should.
    """
    require_checkpoint(folder)
    path = folder / PROVENANCE
    try:
        found = json.loads(read_file(folder, PROVENANCE, LIMIT), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable ({error})") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: not readable (expected keys and values)")
    if "base" not in found:
        raise InputError(f"{path}: lacks base, the fingerprint of its CLIP")
    try:
        found = upgrade_provenance(found)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None
    for key, kind in _KINDS.items():
        if not isinstance(found.get(key, kind()), kind):
            raise InputError(f"{path}: {key} is {found[key]!r:.40}, and should be of type {kind.__name__}")
    scale = found.get("scale", [0, 1])
    if (
        len(scale) != 2
        or not all(type(end) in (int, float) and math.isfinite(end) for end in scale)
        or scale[0] == scale[1]
    ):
        raise InputError(f"{path}: scale is {scale!r:.60}, and should be two different numbers")
    if not all(type(count) is int for count in found.get("labels", {}).values()):
        raise InputError(f"{path}: labels is {found['labels']!r:.60}, and should hold whole numbers")
    return found


def require_keys(provenance: Mapping[str, Any], folder: Path, *keys: str) -> None:
    """InputError where a provenance lacks what a command needs."""
    for key in keys:
        if key not in provenance:
            raise InputError(f"{folder / PROVENANCE}: lacks {key}")


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


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
                f"checkpoint of format {provenance['format']!r:.40}: this version reads up to {VERSION}; update it"
            )
        return provenance
    found = {key: value for key, value in provenance.items() if key != "sha256"}
    if "zero_step" in found:
        found["zero_shot"] = found.pop("zero_step")
    source = found.get("source")
    episodes = source.get("episodes") if isinstance(source, dict) else None
    if isinstance(source, dict) and isinstance(episodes, dict) and "count" in episodes:
        episodes = dict(episodes)
        episodes["tasks_per_step"] = episodes.pop("count")
        found["source"] = source | {"episodes": episodes}
    return found
