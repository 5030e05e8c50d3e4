"""Read CLIP weights from a file without running any code that it holds."""

import hashlib
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import InputError

_OPENAI_MARKS = ("input_resolution", "context_length", "vocab_size")  # stored beside OpenAI's weights only


def read_weights(path: Path) -> tuple[dict[str, Tensor], bool | None]:
    """The float32 state dict in `path`, and whether it was trained with QuickGELU (None: the file does not say).

    Reads safetensors, a torch state dict, and OpenAI's TorchScript archive; the archive is converted once, to
    safetensors in the user's cache folder. InputError where the file is none of them.
    """
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        if _is_torchscript(path):
            return _read_archive(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, RuntimeError, KeyError) as error:
        raise InputError(f"{path}: not readable as safetensors, state dict or OpenAI archive ({error})") from None
    weights = weights.get("state_dict", weights) if isinstance(weights, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise InputError(f"{path}: holds no state dict of tensors")
    return _clean(weights)


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
    openai = all(mark in weights for mark in _OPENAI_MARKS)
    kept = {k.removeprefix("module."): v.float() for k, v in weights.items() if k not in _OPENAI_MARKS}
    return kept, True if openai else None


# --- TorchScript archives, as OpenAI released CLIP ---


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_archive(path: Path) -> tuple[dict[str, Tensor], bool | None]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    target = Path.home() / ".cache" / "fewshot_iqa" / f"{digest[:16]}.safetensors"
    if target.is_file():
        return _read_safetensors(target)
    weights, quick_gelu = _clean(_read_torchscript(path))
    with suppress(OSError):  # without a writable cache it is converted again next time
        target.parent.mkdir(parents=True, exist_ok=True)
        save_file(weights, target.with_suffix(".part"), {"quick_gelu": "true"} if quick_gelu else None)
        target.with_suffix(".part").replace(target)
    return weights, quick_gelu


class _Module:
    """Stands for any scripted class in the archive: it only keeps the attributes."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.attributes = state


class _Unpickler(pickle.Unpickler):
    """Rebuilds tensors and attribute dictionaries, and refuses everything else."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(archive.open(f"{root}/data.pkl"))
        self.archive, self.root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Module
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch" and name.endswith("Storage"):
            return name
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise pickle.UnpicklingError(f"the archive asks for {module}.{name}, which weights do not need")

    def persistent_load(self, pid: Any) -> Tensor:
        _, kind, key, _, numel = pid
        dtype = {"HalfStorage": torch.half, "FloatStorage": torch.float, "LongStorage": torch.long}.get(kind)
        if dtype is None:
            raise pickle.UnpicklingError(f"unexpected {kind}")
        data = bytearray(self.archive.read(f"{self.root}/data/{key}"))
        return torch.frombuffer(data, dtype=dtype, count=numel)


def _rebuild(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset).clone()


def _read_torchscript(path: Path) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as archive:
        root = next(name.split("/")[0] for name in archive.namelist() if name.endswith("/constants.pkl"))
        module = _Unpickler(archive, root).load()
    weights: dict[str, Tensor] = {}
    _flatten(module, "", weights)
    return weights


def _flatten(module: _Module, prefix: str, into: dict[str, Tensor]) -> None:
    for name, value in module.attributes.items():
        if isinstance(value, _Module):
            _flatten(value, f"{prefix}{name}.", into)
        elif isinstance(value, Tensor):
            into[prefix + name] = value
        elif not prefix and name in _OPENAI_MARKS:
            into[name] = torch.tensor(value)
