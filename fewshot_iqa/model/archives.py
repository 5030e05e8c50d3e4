"""The zip files of torch -> tensors: `torch.save`, and TorchScript as OpenAI released CLIP.

Nothing that a file holds is run, and nothing is believed that it says of sizes: a tensor is no larger than its storage,
a storage no larger than its entry, and all entries together not much larger than the file.
"""

import math
import pickle
import zipfile
from collections import OrderedDict
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

OPENAI_MARKS = ("input_resolution", "context_length", "vocab_size")  # stored beside OpenAI's weights only
MOST_TIMES = 4  # the size of the file: all entries unpacked, and all tensors together
SLACK = 1_000_000  # bytes that a small file may unpack to besides
STORAGES = {
    "HalfStorage": torch.half,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float,
    "DoubleStorage": torch.double,
    "LongStorage": torch.long,
    "IntStorage": torch.int,
    "ShortStorage": torch.short,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def is_torchscript(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_zip(path: Path) -> Any:
    """What is pickled in a zip file of torch: dictionaries, numbers and tensors. ValueError, and others of pickle and
    zip, where it is damaged or holds anything else."""
    most = MOST_TIMES * path.stat().st_size + SLACK
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > most:
            raise ValueError("it unpacks to many times its size")
        roots = [name.removesuffix("/data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ValueError("it is a zip file, but not one of torch")
        return _Unpickler(archive, roots[0], most).load()


class Scripted:
    """Stands for any scripted class in an archive: it only keeps the attributes."""

    attributes: dict[str, Any]

    def __new__(cls, *_: Any) -> "Scripted":
        found = super().__new__(cls)
        found.attributes = {}
        return found

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise ValueError("a module has no attributes")
        self.attributes = state


class _Unpickler(pickle._Unpickler):
    """Rebuilds tensors and dictionaries, and refuses everything else. The one written in Python: the other one takes
    as much memory as a file asks for."""

    def __init__(self, archive: zipfile.ZipFile, root: str, most: int) -> None:
        super().__init__(BytesIO(archive.read(f"{root}/data.pkl")))
        self.archive, self.root, self.left = archive, root, most
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return Scripted
        if module == "torch" and name in STORAGES:
            return name
        if module == "torch" and isinstance(found := getattr(torch, name, None), torch.dtype):
            return found
        known = {
            "torch._utils._rebuild_tensor_v2": self._rebuild,
            "torch._utils._rebuild_parameter": _rebuild_parameter,
            "torch.Size": tuple,
            "collections.OrderedDict": OrderedDict,
        }
        if (full := f"{module}.{name}") in known:
            return known[full]
        whole = ": save the state_dict() of a model" if module.startswith("torch.nn") else ""
        raise pickle.UnpicklingError(f"it asks for {full}, which weights do not need{whole}")

    def persistent_load(self, pid: Any) -> Tensor:
        _, kind, key, _, count = pid
        if key not in self.storages:
            content = bytearray(self.archive.read(f"{self.root}/data/{key}"))
            dtype = STORAGES[kind]
            if count * dtype.itemsize > len(content):
                raise ValueError("a tensor claims more bytes than are stored")
            self.storages[key] = torch.frombuffer(content, dtype=dtype, count=count) if count else torch.empty(0)
        return self.storages[key]

    def _rebuild(self, storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
        count = math.prod(size)
        self.left -= count * storage.element_size()
        if count > storage.numel() or self.left < 0:
            raise ValueError("a tensor claims more values than are stored")
        return storage.as_strided(size, stride, offset).clone()


def _rebuild_parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def flattened(archive: Any) -> dict[str, Tensor]:
    """{dotted name: tensor} of a scripted module, and OpenAI's marks."""
    if not isinstance(archive, Scripted):
        raise ValueError("it holds no module")
    weights: dict[str, Tensor] = {}
    seen: set[int] = set()

    def flatten(module: Scripted, prefix: str) -> None:
        if id(module) in seen:  # one that is its own part, or is part of many, would have names without end
            return
        seen.add(id(module))
        for name, value in module.attributes.items():
            if isinstance(value, Scripted):
                flatten(value, f"{prefix}{name}.")
            elif isinstance(value, Tensor):
                weights[prefix + name] = value
            elif not prefix and name in OPENAI_MARKS:
                weights[name] = torch.tensor(value)

    flatten(archive, "")
    if not weights:
        raise ValueError("it holds no weights")
    return weights
