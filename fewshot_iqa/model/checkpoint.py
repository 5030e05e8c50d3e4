"""A checkpoint is a folder: the resolved configuration, what differs from the base CLIP, and where it came from."""

import json
import re
import shutil
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
from .formats import CONFIG, PROVENANCE, WEIGHTS, read_checkpoint_config, require_checkpoint
from .quality import QualityModel

STATE = "state.safetensors"  # of an unfinished training


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
) -> None:
    """Write a checkpoint: the prompts, what was tuned of the base CLIP, and the `state` that training goes on from.

    Written under a temporary name and renamed, so that a reader never sees half of one.
    """
    weights = {
        name: value.detach().cpu().contiguous()
        for name, value in model.state_dict().items()
        if not name.startswith("clip.") or name in model.tuned
    }
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    (part / CONFIG).write_text(dump(config), encoding="utf-8")
    (part / WEIGHTS).write_bytes(to_bytes(weights))  # save_file would hide it from other users
    if state:
        kept = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        (part / STATE).write_bytes(to_bytes(kept))
    whole = {"format": formats.VERSION, **provenance, "clip": config.clip, "base": model.clip.fingerprint}
    whole |= {"tuned": sorted(model.tuned), "versions": versions()}
    (part / PROVENANCE).write_text(json.dumps(whole, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    _replace(part, folder)


def load(folder: Path, device: str = "cpu", head: Any = None) -> tuple[QualityModel, Config, dict[str, Any]]:
    """The model, configuration and provenance of a checkpoint; InputError as for `overlay`."""
    settings = read_checkpoint_config(folder)
    model = build(settings, device, head)
    return model, settings, overlay(model, folder)


def state(folder: Path) -> dict[str, Tensor]:
    """What an unfinished training saved beside the weights."""
    path = folder / STATE
    return _read(path) if path.is_file() else {}


def recover(folder: Path) -> None:
    """Put a checkpoint back whose writer was killed while it was replacing it."""
    old = folder.with_name(folder.name + ".old")
    if not folder.exists() and old.is_dir():
        old.rename(folder)


def provenance(folder: Path) -> dict[str, Any]:
    """Where a checkpoint comes from: task, seeds, parent, metrics, base CLIP, versions."""
    require_checkpoint(folder)
    try:
        found = dict(json.loads((folder / PROVENANCE).read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(f"{folder / PROVENANCE}: not readable ({error})") from None
    return formats.upgrade_provenance(found)


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
    return same and provenance(folder)["base"] == shared_clip(settings.clip).fingerprint


def copy(source: Path, target: Path) -> None:
    """Put a whole checkpoint in the place of another."""
    require_checkpoint(source)
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part)
    _replace(part, target)


def overlay(model: QualityModel, folder: Path) -> dict[str, Any]:
    """Put a checkpoint's weights into `model` and return its provenance. A head of another kind is left as it is.

    InputError where the folder is no checkpoint, where it was made on another base CLIP, or where names or shapes
    are not the model's.
    """
    found, path = provenance(folder), folder / WEIGHTS
    if found.get("base") != model.clip.fingerprint:
        raise InputError(
            f"{folder}: made on another CLIP ({found.get('clip')}) than this one; give --clip its own, "
            "or begin anew (metatrain with this CLIP, or adapt --from none)"
        )
    config = read_checkpoint_config(folder)
    weights = formats.upgrade_weights(_read(path), config)
    if config.head.kind != model.head_spec.kind:
        weights = {name: value for name, value in weights.items() if not name.startswith("head.")}
    headed = any(name.startswith("head.") for name in weights)
    trained = [f"head.{name}" for name, _ in model.head.named_buffers() if name.startswith("train_")]
    if trained and set(trained) <= weights.keys():
        # as many shots as there were
        model.head.restore({name.removeprefix("head."): value for name, value in weights.items()})
    own = model.state_dict()
    learned = {name for name in own if not name.startswith("clip.")} | set(found.get("tuned", []))
    if model.head_spec.closed_form and not headed:  # prompts that a head is fitted on
        learned = {name for name in learned if not name.startswith("head.")}
    for name in sorted(weights.keys() - own.keys()):
        raise InputError(f"{path}: holds {name}, which this model has not: a checkpoint of another architecture")
    for name in sorted(learned - weights.keys()):
        raise InputError(f"{path}: lacks {name}, which this model has: a checkpoint of another architecture")
    for name, value in weights.items():
        if value.shape != own[name].shape:
            theirs, ours = tuple(value.shape), tuple(own[name].shape)
            raise InputError(f"{path}: {name} is {theirs}, this model's is {ours}: another architecture")
    model.own_parameters(weights)
    model.load_state_dict(weights, strict=False)
    model.head.is_fitted = model.head.is_fitted or (headed and not trained)
    return found


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_bytes(path.read_bytes())  # a mapped file could not be replaced on Windows
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not readable ({error})") from None


def _replace(part: Path, folder: Path) -> None:
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def versions() -> dict[str, str]:
    """The versions that a result depends on: this package's, and those of all that it requires."""
    required = [line for line in requires("fewshot-iqa") or [] if "extra ==" not in line]
    names = ["fewshot-iqa", *(re.split(r"[^\w.-]", line)[0] for line in required)]
    return {name: version(name) for name in names}
