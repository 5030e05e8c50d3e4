"""Build a CLIP of open_clip and load its weights: embedded, by a pretrained tag, or from a file."""

import json
import logging
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import open_clip
import torch

from .. import resources
from ..errors import InputError, first_sentence, nearest
from .backbone import Backbone
from .named import remember
from .stem import ConvStem, has_stem
from .weights import read_weights, require_names


@torch.random.fork_rng(devices=[])  # the weights drawn first are replaced: nobody's random numbers depend on them
def load_clip(name: str) -> Backbone:
    """Build a CLIP and load its weights, in evaluation mode and frozen.

    `name` is `tiny` (embedded), `ARCHITECTURE:TAG` with one of open_clip's pretrained tags (downloaded on first use),
    or `ARCHITECTURE:PATH` with a safetensors file, a state dict or an OpenAI archive. An architecture is one of
    open_clip's names or the path of a JSON file.
    """
    if name == "tiny":
        return load_clip(f"{resources.asset('tiny_clip.json')}:{resources.asset('tiny_clip.safetensors')}")
    architecture, colon, pretrained = name.rpartition(":")
    if not colon:
        raise InputError(f"--clip {name}: give 'tiny', NAME:PRETRAINED or NAME:/path/to/weights")
    architecture = _architecture(architecture)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if pretrained in tags:
        clip = _download(architecture, pretrained)
    elif pretrained and Path(pretrained).exists():
        clip = _load_file(architecture, Path(pretrained))
    else:
        raise InputError(
            f"--clip {name}: '{pretrained}' is neither a file nor a pretrained tag of {architecture}."
            f"{nearest(pretrained, tags)} Tags: {', '.join(tags) or 'none'}"
        )
    return _freeze(clip, architecture)


@lru_cache(maxsize=4)
def _shared(name: str, device: str, files: tuple[tuple[int, int], ...]) -> Backbone:
    return load_clip(name).to(device)


def shared_clip(name: str, device: str = "cpu") -> Backbone:
    """The frozen backbone `name`, as for `load_clip`, on `device`: built, and its weights hashed, once a process.

    What is returned shares its tensors with all others of the process, and must not be changed in place. The name is
    remembered: checkpoints made on this CLIP are read from now on.
    """
    paths = [Path(part) for part in name.rpartition(":") if part and Path(part).is_file()]
    files = tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in paths)
    device = str(torch.empty(0, device=device).device)  # cuda is cuda:0
    clip = _shared(name, device, files).share()
    if name != "tiny":
        remember(name, clip.fingerprint)
    return clip


def create_clip(architecture: str, *, stem: bool = False) -> Backbone:
    """A CLIP with freshly drawn weights (from torch's generator), trainable, for pre-training."""
    architecture = _architecture(architecture)
    clip = _create(architecture)
    if stem:
        _add_stem(clip)
    return Backbone(clip, _context_length(architecture))


def _add_stem(clip: open_clip.CLIP) -> None:
    visual: Any = clip.visual
    mean, std = visual.image_mean or open_clip.OPENAI_DATASET_MEAN, visual.image_std or open_clip.OPENAI_DATASET_STD
    visual.conv1 = ConvStem(visual.conv1, tuple(mean), tuple(std))


def _create(architecture: str, tag: str | None = None) -> open_clip.CLIP:
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)  # open_clip warns that weights are missing, which here come later
    try:
        return open_clip.create_model(architecture, pretrained=tag)
    except Exception as error:
        if tag:
            raise
        raise InputError(f"--clip {architecture}: open_clip cannot build it ({first_sentence(error)})") from error
    finally:
        logging.disable(before)


def _freeze(clip: open_clip.CLIP, architecture: str) -> Backbone:
    backbone = Backbone(clip, _context_length(architecture))
    return backbone.float().eval().requires_grad_(False)


def _architecture(name: str) -> str:
    """The open_clip name for `name`, registering it first where it is the path of a JSON file."""
    if name.endswith(".json"):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"{name}: no such architecture file")
        _register(path)
        name = path.stem
    if ":" in name:  # hf-hub:, local-dir: and what else open_clip looks for on the network
        raise InputError(f"--clip: '{name}' is no architecture of open_clip's own; give NAME:/path/to/weights")
    config = open_clip.get_model_config(name)
    if config is None:
        raise InputError(f"--clip: open_clip knows no architecture '{name}'.{nearest(name, open_clip.list_models())}")
    for tower in ("vision_cfg", "text_cfg"):  # each of another library may be asked for on the network
        foreign = [key for key, value in config.get(tower, {}).items() if key.startswith(("timm_", "hf_")) and value]
        if foreign:
            raise InputError(
                f"--clip: '{name}' has a tower of another library ({foreign[0]}); only open_clip's are read"
            )
    text = config.get("text_cfg", {})
    if text.get("no_causal_mask") or text.get("pool_type", "argmax") != "argmax":
        raise InputError(f"--clip: the text tower of '{name}' is not read like CLIP's (another tokenizer or mask)")
    return name


def _register(path: Path) -> None:
    """Let open_clip know an architecture; InputError where it cannot, which open_clip would not forget."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except Exception as error:
        raise InputError(f"{path}: not readable as an architecture ({first_sentence(error)})") from None
    parts = ("vision_cfg", "text_cfg")
    if (
        not isinstance(found, dict)
        or "embed_dim" not in found
        or not all(isinstance(found.get(p), dict) for p in parts)
    ):
        raise InputError(f"{path}: not an architecture of open_clip, with embed_dim, vision_cfg and text_cfg")
    open_clip.add_model_config(path)


def _context_length(architecture: str) -> int:
    config = open_clip.get_model_config(architecture)
    assert config is not None
    return int(config["text_cfg"].get("context_length", 77))


def _quick_gelu(architecture: str) -> bool:
    config = open_clip.get_model_config(architecture)
    assert config is not None
    return bool(config.get("quick_gelu", False))


def _download(architecture: str, tag: str) -> open_clip.CLIP:
    wanted = open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu", False)
    _check_activation(architecture, bool(wanted), f"pretrained tag '{tag}'")
    try:
        return _create(architecture, tag)
    except Exception as error:  # the hub client raises many kinds; all of them mean that nothing came
        raise InputError(
            f"--clip {architecture}:{tag}: the weights could not be downloaded ({type(error).__name__}); "
            f"fetch them elsewhere and give --clip {architecture}:/path/to/weights"
        ) from error


def _load_file(architecture: str, path: Path) -> open_clip.CLIP:
    weights, quick_gelu = read_weights(path)
    clip = _create(architecture)
    if has_stem(weights):
        _add_stem(clip)
    if quick_gelu is not None:
        _check_activation(architecture, quick_gelu, str(path))
    elif not architecture.endswith("-quickgelu") and f"{architecture}-quickgelu" in open_clip.list_models():
        warnings.warn(
            f"{path} does not say whether it was trained with QuickGELU; OpenAI's weights were: for those use "
            f"{architecture}-quickgelu",
            stacklevel=2,
        )
    require_names(clip.state_dict(), weights, path, architecture)
    clip.load_state_dict(weights)
    return clip


def _check_activation(architecture: str, quick_gelu: bool, origin: str) -> None:
    if quick_gelu != _quick_gelu(architecture):
        other = architecture.removesuffix("-quickgelu") if not quick_gelu else f"{architecture}-quickgelu"
        raise InputError(
            f"{origin} was trained {'with' if quick_gelu else 'without'} QuickGELU, which {architecture} "
            f"{'lacks' if quick_gelu else 'has'}: its features would be wrong. Use {other}"
        )
