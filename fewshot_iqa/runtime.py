"""An exported model: the same predictions by ONNX Runtime. Imports no torch."""

import json
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .config import ViewSpec
from .errors import InputError
from .predicting import Opened
from .score import Scorer
from .types import Prediction, Scale

SUFFIX = ".onnx"
KEY = "fewshot_iqa"  # of the metadata that `fsiqa export` writes
INPUT, MEAN, STD, LOGITS = "views", "quality", "quality_std", "logits."  # the names in the graph


def has_runtime() -> bool:
    """Whether ONNX Runtime is installed."""
    return find_spec("onnxruntime") is not None


def load_exported(path: Path) -> Scorer:
    """A file of `fsiqa export`, ready to score. InputError where it is none, or the runtime is not installed."""
    model = ExportedModel(path)
    scale = model.about["scale"]
    return Scorer(model, ViewSpec(**model.about["views"]), Scale(*scale) if scale else None)


class ExportedModel:
    """A graph from views (B, V, 3, crop, crop) uint8 to quality (B,), its standard deviation where the head has one,
    and the logits of the branches that learned phrases. `about` is what the export wrote of it."""

    reads_prompts = predicts_alignment = keeps = False

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such file; `fsiqa export CHECKPOINT {path}` makes one")
        if not has_runtime():
            raise InputError(f"{path}: an exported model needs ONNX Runtime: pip install 'fewshot-iqa[fast]'")
        self.path = path
        self.session = _session(path.read_bytes(), path)
        found = self.session.get_modelmeta().custom_metadata_map.get(KEY)
        if found is None:
            raise InputError(f"{path}: not from `fsiqa export`: views and scale of the ratings are not in it")
        self.about: dict[str, Any] = json.loads(found)
        self.phrases: Mapping[str, Sequence[str]] = self.about["phrases"]
        self.learned_from_prompts: bool = self.about.get("prompts", False)

    def prepared(self, branches: Sequence[str], prompts: Mapping[str, str] | None) -> "ExportedModel":
        if prompts is not None:
            raise InputError(f"{self.path}: an exported model reads no prompts; give the checkpoint for --prompts")
        return self

    def recall(self, key: str) -> None:
        return None

    def predict(self, pictures: Sequence[Opened]) -> Prediction:
        names = [output.name for output in self.session.get_outputs()]
        views = np.stack([each.views for each in pictures])
        found = dict(zip(names, self.session.run(names, {INPUT: views}), strict=True))
        logits = {name.removeprefix(LOGITS): value for name, value in found.items() if name.startswith(LOGITS)}
        return Prediction(found[MEAN], found.get(STD), logits)

    def features(self, pictures: Sequence[Opened]) -> NDArray[np.float32]:
        raise InputError(f"{self.path}: an exported model gives no features; load its checkpoint")

    def attention(self, tiles: NDArray[np.uint8]) -> tuple[str, int, NDArray[np.float32]]:
        raise InputError(f"{self.path}: an exported model draws no map; give the checkpoint for --map")

    def nearest_words(self, branch: str | None, count: int) -> list[list[str]]:
        raise InputError(f"{self.path}: an exported model keeps no prompts; load its checkpoint")


def _session(graph: bytes, path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)  # as torch; 0: as many as cores
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common base but this
        raise InputError(f"{path}: not a model that ONNX Runtime reads ({str(error).splitlines()[0]})") from None
