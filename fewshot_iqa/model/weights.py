"""Read CLIP weights from a file without running any code that it holds."""

import hashlib
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import InputError, first_sentence
from ..files import replacing, require_regular
from .archives import OPENAI_MARKS, flattened, is_torchscript, read_zip


def read_weights(path: Path) -> tuple[dict[str, Tensor], bool | None]:
    """The float32 state dict in `path`, and whether it was trained with QuickGELU (None: the file does not say).

    Reads safetensors, a torch state dict, and OpenAI's TorchScript archive; the archive is converted once, to
    safetensors in the user's cache folder. InputError where the file is none of them.
    """
    require_regular(path, "no such file of weights")
    try:
        return _read(path)
    except Exception as error:  # readers meet other files with errors of every kind
        raise InputError(
            f"{path}: not readable as safetensors, state dict or OpenAI archive ({first_sentence(error)})"
        ) from None


def _read(path: Path) -> tuple[dict[str, Tensor], bool | None]:
    """By what the file begins with, whatever its name."""
    with path.open("rb") as file:
        start = file.read(64)
    if start[8:9] == b"{":
        return _read_safetensors(path)
    if zipfile.is_zipfile(path):
        return _read_archive(path) if is_torchscript(path) else _clean(_state_dict(read_zip(path)))
    if start[:1] == b"\x80":  # as torch wrote before 1.6
        return _clean(_state_dict(_load_old(path)))
    shown = start.decode("utf-8-sig", errors="replace").strip().partition("\n")[0][:24].strip()
    what = "a page, not weights" if shown[:1] == "<" else "no weights"
    raise ValueError(f"it begins with '{shown}': {what}" if shown.isprintable() and shown else "it is cut or empty")


def _load_old(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch advises to let the file run code
        raise ValueError("it holds more than tensors, or is damaged") from None


def _state_dict(found: Any) -> dict[str, Tensor]:
    """The tensors of a saved state dict, or of a checkpoint that holds one."""
    found = found.get("state_dict", found) if isinstance(found, dict) else None
    if not isinstance(found, dict) or not found:
        raise ValueError("it holds no state dict")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"it holds no state dict of tensors: {name!r} is {type(value).__name__}")
    return dict(found)


def require_names(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], path: Path, architecture: str) -> None:
    """InputError unless the weights in `path` have the names and shapes of the model's own."""
    missing = sorted(own.keys() - weights.keys())
    extra = sorted(weights.keys() - own.keys())
    shapes = [k for k in own.keys() & weights.keys() if own[k].shape != weights[k].shape]
    for fault, names in (("lacks", missing), ("has the unknown", extra), ("differs in the shape of", sorted(shapes))):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise InputError(f"{path}: not weights of {architecture}: it {fault} {names[0]}{more}")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], bool | None]:
    with safe_open(path, framework="pt") as file:
        said = (file.metadata() or {}).get("quick_gelu")
    weights, marked = _clean(load_file(path))
    return weights, marked if said is None else said == "true"


def _clean(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool | None]:
    openai = all(mark in weights for mark in OPENAI_MARKS)
    kept = {k.removeprefix("module."): v.float() for k, v in weights.items() if k not in OPENAI_MARKS}
    return kept, True if openai else None


def _read_archive(path: Path) -> tuple[dict[str, Tensor], bool | None]:
    """OpenAI's archive, or what was made of it before."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    target = Path.home() / ".cache" / "fewshot_iqa" / f"{digest.hexdigest()[:16]}.safetensors"
    with suppress(OSError, SafetensorError):  # absent, or damaged
        return _read_safetensors(target)
    weights, quick_gelu = _clean(flattened(read_zip(path)))
    with suppress(OSError, SafetensorError):  # without a writable cache it is converted again next time
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target, "wb") as file:
            save_file(weights, file.name, {"quick_gelu": "true"} if quick_gelu else None)
    return weights, quick_gelu
