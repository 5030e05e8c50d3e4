"""Features of pictures, computed once: in memory, and on disk where a folder is given."""

import hashlib
import json
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from .errors import InputError, InputWarning
from .files import remove_leftovers, replacing
from .memory import release_memory
from .types import Features

T = TypeVar("T")
MEMORY, DISK = 2 << 30, 10 << 30  # bytes
OVERHEAD = 1280  # bytes that one picture's objects take beside the numbers
_JSON = json.JSONEncoder(default=str)
DECODING = 3  # raised where equal files are decoded or reduced to other pixels


class FeatureCache:
    """What an encoder computes of a picture, by a key of the picture's content, its views and the encoder.

    The least recently used go first where `memory` or `disk` bytes are exceeded. Files in `folder` are written under a
    temporary name and renamed, so that several processes may share it, and mapped into memory when they are read. A
    file that cannot be read counts as absent.
    """

    def __init__(self, folder: str | Path | None = None, *, memory: int = MEMORY, disk: int = DISK) -> None:
        self.folder = None if folder is None else Path(folder)
        self._kept: OrderedDict[str, Features] = OrderedDict()
        self.memory, self._room, self._limit = memory, memory, disk
        self._written = 0
        self._lock = threading.Lock()
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"--cache {folder}: cannot be written ({error.strerror})") from None
            for each in self.folder.glob("??"):
                remove_leftovers(each)
            self._written = sum(size for _, size, _ in self._files())

    def __getstate__(self) -> dict[str, Any]:
        """Another process reads from the folder, where there is one."""
        kept = OrderedDict() if self.folder is not None else self._kept
        return {name: value for name, value in vars(self).items() if name != "_lock"} | {"_kept": kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    def get(self, key: str) -> Features | None:
        """The features of one picture, B = 1. Threads may ask."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        found = self._read(key) if self.folder is not None else None
        if found is not None:
            self._keep(key, found)
        return found

    def put(self, key: str, features: Features) -> None:
        """Keep the pooled features of one picture, or those of a trunk."""
        tokens = features.tokens if features.layers is not None else {}
        features = Features(features.dim, features.pooled, tokens, layers=features.layers).to("cpu")
        self._keep(key, features)
        if self.folder is not None and self._limit:
            self._write(key, features)

    def _keep(self, key: str, features: Features) -> None:
        with self._lock:
            if key in self._kept:
                self._room += self._kept.pop(key).nbytes + OVERHEAD
            self._kept[key] = features
            self._room -= features.nbytes + OVERHEAD
            while self._room < 0 and len(self._kept) > 1:
                self._room += self._kept.popitem(last=False)[1].nbytes + OVERHEAD

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / key[:2] / f"{key}.safetensors"

    def _read(self, key: str) -> Features | None:
        path = self._path(key)
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                parts: dict[str, dict[str, Tensor]] = {"pooled": {}, "tokens": {}}
                for name in file.keys():  # noqa: SIM118
                    part, _, visual = name.partition(".")
                    parts[part][visual] = file.get_tensor(name)
                layers = int(about["layers"]) if "layers" in about else None
                found = Features(int(about["dim"]), parts["pooled"], parts["tokens"], layers=layers)
        except (OSError, SafetensorError, KeyError, ValueError):
            return None
        with suppress(OSError):  # a folder that can be read only
            os.utime(path)
        return found

    def _write(self, key: str, features: Features) -> None:
        path = self._path(key)
        about = {"dim": str(features.dim)} | ({} if features.layers is None else {"layers": str(features.layers)})
        tensors = {f"pooled.{name}": value.contiguous() for name, value in features.pooled.items()}
        tensors |= {f"tokens.{name}": value.contiguous() for name, value in features.tokens.items()}
        try:
            path.parent.mkdir(exist_ok=True)
            with replacing(path, "wb", forced=False) as file:  # one that is not whole counts as absent
                file.write(to_bytes(tensors, about))
        except (OSError, SafetensorError) as error:
            warnings.warn(f"{self.folder}: nothing more is kept there ({error})", InputWarning, stacklevel=2)
            self._limit = 0
            return
        self._written += features.nbytes
        if self._written > self._limit:
            self._shrink()

    def _files(self) -> list[tuple[float, int, Path]]:
        """(time of last use, bytes, path) of each file."""
        assert self.folder is not None
        found = []
        for path in self.folder.glob("??/*.safetensors"):
            try:
                state = path.stat()
            except OSError:  # another process removed it
                continue
            found.append((state.st_mtime, state.st_size, path))
        return found

    def _shrink(self) -> None:
        """Remove what was not used for longest, down to nine tenths of the limit."""
        files = sorted(self._files())
        self._written = sum(size for _, size, _ in files)
        for _, size, path in files:
            if self._written <= 0.9 * self._limit:
                break
            path.unlink(missing_ok=True)
            self._written -= size


def picture_key(content: str, *further: Any) -> str:
    """The key of a picture: the hash of its content, and what is done to it before it is encoded."""
    return hashlib.sha256(_JSON.encode([DECODING, content, *further]).encode()).hexdigest()[:32]


class Encodes(Protocol):
    """An encoder with prompts, as `QualityModel` is."""

    def encode_prompts(self) -> Any: ...

    def encode(self, views: Any, state: Any, /) -> Features: ...

    def fingerprint(self) -> str: ...

    @property
    def device(self) -> torch.device: ...


@torch.no_grad()  # not inference_mode: what is kept is trained on
def encode_cached(
    model: Encodes,
    pictures: Sequence[T],
    key: Callable[[T], str],
    views: Callable[[Sequence[T]], Iterable[Tensor | Features]],
    cache: FeatureCache,
    *,
    log: Callable[[Mapping[str, float]], None] = lambda _: None,
) -> list[Features]:
    """The features of each picture, B = 1, on the CPU.

    `key` is that of a picture, and `views` gives batches (B, V, 3, H, W) of those that the cache lacks, in order, or
    their trunks. `log` is called once a picture that is encoded.
    """
    encoder = model.fingerprint()
    keys = [picture_key(key(picture), encoder) for picture in pictures]
    found = {name: cache.get(name) for name in keys}
    missing = {name: picture for name, picture in zip(keys, pictures, strict=True) if found[name] is None}
    if missing:
        state, names = model.encode_prompts(), iter(missing)
        for number, batch in enumerate(views(list(missing.values()))):
            if number % 4 == 3:  # in each it would cost a twentieth of the time
                release_memory()
            features = model.encode(batch.to(model.device), state).to("cpu")
            for i in range(len(features)):
                name, encoded = next(names), features[i : i + 1].map(torch.clone)
                found[name] = encoded
                cache.put(name, encoded)
                log({})
    return [one for name in keys if (one := found[name]) is not None]
