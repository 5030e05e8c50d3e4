"""A checkpoint is a folder: the resolved configuration, what differs from the base CLIP, and where it came from."""

import json
import re
from collections.abc import Mapping
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from .. import rng
from ..config import Config, dump
from ..errors import InputError
from ..resources import METATRAINED, SHIPPED, is_checkpoint
from . import formats
from .clip import shared_clip
from .formats import (
    CONFIG,
    PROVENANCE,
    WEIGHTS,
    digest,
    read_checked,
    read_checkpoint_config,
    read_provenance,
    trusted_config,
)
from .quality import QualityModel
from .storage import replace_files

STATE = "state.safetensors"  # of an unfinished training
STATE_LIMIT = 64 * 2**30  # bytes
provenance = read_provenance
SPARE = 2**30  # bytes that weights may have beyond twice a model's: the features of shots
HYPERPARAMETERS = "head.hyperparameters"  # a row for each that is likely, given the shots


def build(config: Config, device: str = "cpu", head: Any = None) -> QualityModel:
    """The model of a configuration, its prompts drawn from the configuration's seed, in evaluation mode.

    Its backbone shares the frozen tensors of the process. `head` is one given from Python. InputError where the views
    do not fit the CLIP.
    """
    clip = shared_clip(config.clip, device)
    clip.plain = config.plain
    if config.views.crop != clip.image_size:
        raise InputError(f"views.crop is {config.views.crop}, but {config.clip} reads {clip.image_size} pixels")
    with rng.scoped(config.seed, "init"):
        model = QualityModel(config.model, config.head, clip, head)
    return model.eval()


def save(
    folder: Path,
    model: QualityModel,
    config: Config,
    provenance: Mapping[str, Any],
    state: Mapping[str, Tensor] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Write a checkpoint: the prompts, what was tuned of the base CLIP, and the `state` that training goes on from;
    `files` are others that belong to it, by name.

    All of them appear together, as `replace_files` has it, and the provenance names the SHA-256 of each. What the
    folder holds beside them stays. InputError where it cannot be written; an earlier checkpoint stays then.
    """
    contents = {CONFIG: dump(config).encode(), WEIGHTS: to_bytes(_stored(own_weights(model)))}
    contents |= {STATE: to_bytes(_stored(state))} if state else {}
    contents |= files or {}
    whole = {"format": formats.VERSION, **provenance, "clip": config.clip, "base": model.clip.fingerprint}
    whole |= {"tuned": sorted(model.tuned), "versions": versions()}
    whole["sha256"] = {name: digest(name, content) for name, content in contents.items()}
    contents[PROVENANCE] = (json.dumps(whole, indent=2, allow_nan=False) + "\n").encode()
    replace_files(folder, contents)


def own_weights(model: QualityModel) -> dict[str, Tensor]:
    """The tensors of a model that its base CLIP has not: prompts, head, and what was tuned; the model's own memory."""
    own = model.state_dict()
    return {name: value for name, value in own.items() if not name.startswith("clip.") or name in model.tuned}


def load(
    folder: Path, device: str = "cpu", head: Any = None, clip: str | None = None
) -> tuple[QualityModel, Config, dict[str, Any]]:
    """The model, configuration and provenance of a checkpoint; InputError as for `trusted_config` and `overlay`.

    `clip` is the name of the CLIP that it is made on.
    """
    settings = trusted_config(folder, [f"clip={json.dumps(clip)}"] if clip else [])
    before = read_provenance(folder)
    model = build(settings, device, head)
    if (found := overlay(model, folder)) != before:
        raise InputError(f"{folder}: was replaced while it was read; repeat the command")
    return model, settings, found


def state(folder: Path) -> dict[str, Tensor]:
    """What an unfinished training saved beside the weights; {} where there is nothing that belongs to them."""
    found = read_provenance(folder)
    if STATE not in found.get("sha256", {}):
        return {}
    return to_tensors(read_checked(folder, STATE, found, STATE_LIMIT), folder / STATE)


def default_start(settings: Config) -> Path | None:
    """The first of `runs/metatrain` and the shipped prompts that fits a method with a meta stage; None for fresh
    prompts."""
    if settings.meta is None:
        return None
    return next((folder for folder in (METATRAINED, SHIPPED) if fits(folder, settings)), None)


def fits(folder: Path, settings: Config) -> bool:
    """Whether `folder` is a checkpoint of a method's prompts on its CLIP."""
    if not is_checkpoint(folder):
        return False
    found = read_checkpoint_config(folder)
    same = found.model == settings.model and (found.head == settings.head or not settings.head.needs_gradients)
    return same and read_provenance(folder)["base"] == shared_clip(settings.clip).fingerprint


def overlay(model: QualityModel, folder: Path) -> dict[str, Any]:
    """Put a checkpoint's weights into `model` and return its provenance. A head of another kind is left as it is.

    InputError where the folder is no checkpoint, where it was made on another base CLIP, where its weights are not
    those that it was written with, or where names, shapes, types or values are none of the model's.
    """
    found, path = read_provenance(folder), folder / WEIGHTS
    if found["base"] != model.clip.fingerprint:
        raise InputError(
            f"{folder}: made on another CLIP ({found.get('clip')!r}) than this one; give --clip its own, "
            "or begin anew (metatrain with this CLIP, or adapt --from none)"
        )
    config, own = read_checkpoint_config(folder), model.state_dict()
    limit = SPARE + 2 * sum(value.nbytes for value in own.values())
    stored = to_tensors(read_checked(folder, WEIGHTS, found, limit), path)
    try:
        weights = formats.upgrade_weights(stored, config)
    except (KeyError, IndexError, RuntimeError, ValueError, TypeError):
        raise InputError(f"{path}: not the weights of a head of kind {config.head.kind}") from None
    if config.head.kind != model.head_spec.kind:
        weights = {name: value for name, value in weights.items() if not name.startswith("head.")}
    headed = any(name.startswith("head.") for name in weights)
    trained = [f"head.{name}" for name, _ in model.head.named_buffers() if name.startswith("train_")]
    learned = {name for name in own if not name.startswith("clip.")} | set(found.get("tuned", []))
    if model.head_spec.closed_form and not headed:  # prompts that a head is fitted on
        learned = {name for name in learned if not name.startswith("head.")}
    for name in sorted(weights.keys() - own.keys()):
        raise InputError(f"{path}: holds {name}, which this model has not: a checkpoint of another architecture")
    for name in sorted(learned - weights.keys()):
        raise InputError(f"{path}: lacks {name}, which this model has: a checkpoint of another architecture")
    of_shots = {*trained, HYPERPARAMETERS}
    for name, value in weights.items():
        _require_fit(value, own[name], name, path, sized=name in of_shots, custom=config.head.kind == "custom")
    if len({len(weights[name]) for name in trained if name in weights}) > 1:
        raise InputError(f"{path}: {', '.join(trained)} are of different numbers of shots")
    if trained and set(trained) <= weights.keys():
        model.head.restore({name.removeprefix("head."): value for name, value in weights.items()})
    model.own_parameters(weights)
    model.load_state_dict(weights, strict=False)
    model.head.is_fitted = model.head.is_fitted or (headed and not trained)
    return found


def _require_fit(value: Tensor, own: Tensor, name: str, path: Path, *, sized: bool, custom: bool) -> None:
    """InputError unless `value` can take the place of a model's `own` tensor; of one that is `sized` by the shots, but
    for its rows, and in a `custom` head's for all its sides."""
    theirs, ours = tuple(value.shape), tuple(own.shape)
    if len(theirs) != len(ours) or (theirs[sized:] != ours[sized:] and not (sized and custom)):
        raise InputError(f"{path}: {name} is {theirs}, this model's is {ours}: another architecture")
    if value.is_complex() or value.is_floating_point() != own.is_floating_point():
        raise InputError(f"{path}: {name} holds {value.dtype}, this model's {own.dtype}: another architecture")
    if not value.double().isfinite().all():
        raise InputError(f"{path}: {name} holds NaN or infinity: damaged, or its training went wrong")


def to_tensors(content: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file that was read; InputError where it is none."""
    try:
        return load_bytes(content)
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise InputError(f"{path}: not readable ({error})") from None


def _stored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def versions() -> dict[str, str]:
    """The versions that a result depends on: this package's, and those of all that it requires."""
    required = [line for line in requires("fewshot-iqa") or [] if "extra ==" not in line]
    names = ["fewshot-iqa", *(re.split(r"[^\w.-]", line)[0] for line in required)]
    return {name: version(name) for name in names}
