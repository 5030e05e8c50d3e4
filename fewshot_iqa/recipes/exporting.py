"""The recipe that exports a checkpoint to ONNX, and compares the result with it before it is kept."""

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..config import ViewSpec
from ..data.synthetic import wheel_photograph
from ..errors import InputError
from ..files import writing
from ..images import fixed_views, prepared_size, read_image
from ..model import checkpoint
from ..model.formats import read_checkpoint_config, weights_fingerprint
from ..model.quality import QualityModel
from ..predicting import Opened
from ..runtime import INPUT, KEY, LOGITS, MEAN, STD, SUFFIX, load_exported
from .loading import EXPORTED, explained_branches

OPSET = 20
BATCHES = (1, 2, 7)  # numbers of pictures that the export is compared at
TOLERANCE = {False: 1e-4, True: 0.03}  # of quality, in float32 and in int8
SMALLEST = 64  # a weight with fewer rows or columns stays in float32: phrases, and heads
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "china", "flower", "grace_hopper")


@dataclass(frozen=True)
class Exported:
    """The file, its bytes, and the greatest `difference` of quality on so many `photographs`."""

    path: Path
    size: int
    difference: float
    photographs: int


def export(
    folder: str | Path, path: str | Path | None = None, *, int8: bool = False, clip: str | None = None
) -> Exported:
    """Write a checkpoint as ONNX: encoded prompts, tower and head, from views (B, V, 3, crop, crop) to quality.

    `path` is a .onnx file; by default `model.onnx` inside the checkpoint, where `fsiqa score` finds it. With `int8` the
    linear layers of the tower compute in 8 bit. It is compared with the checkpoint on 1, 2 and 7 photographs at a time.
    An earlier export is replaced. `clip` is as for `load`. InputError where quality differs by more than 1e-4 (int8:
    0.03), where the method cannot be exported, or where `path` holds something else.

    Examples:
        >>> export("runs/adapt", "model.onnx").difference < 1e-4  # doctest: +SKIP
        True
    """
    folder = Path(folder)
    named, path = path is not None, folder / EXPORTED if path is None else Path(path)
    if path.suffix.lower() != SUFFIX:
        raise InputError(f"{path}: name a {SUFFIX} file")
    if named and path.is_file():
        try:
            load_exported(path)
        except InputError as error:
            raise InputError(f"{error}; it is not replaced: name another file, or delete it") from None
    if read_checkpoint_config(folder).head.kind == "custom":
        raise InputError(f"{folder}: a head from Python cannot be exported")
    model, settings, provenance = checkpoint.load(folder, clip=clip)
    model.requires_grad_(False)
    branches = explained_branches(settings, provenance)
    graph = _Graph(model, branches)
    about = {
        "views": settings.views.model_dump(),
        "scale": provenance.get("scale"),
        "phrases": {name: list(settings.model.branches[name].phrases) for name in branches},
        "weights": weights_fingerprint(folder),
        "int8": int8,
        "prompts": model.head.learned_from_prompts,
    }
    views = _photographs(settings.views)
    content = _onnx(graph, views, about, int8)
    with writing(path, "wb") as file:
        file.write(content)
        file.flush()
        difference = _difference(graph, Path(file.name), views)
        if not difference <= TOLERANCE[int8]:
            raise InputError(f"{folder}: the exported model differs by {difference:.2g} in quality; nothing was kept")
    return Exported(path, path.stat().st_size, difference, len(views))


class _Graph(nn.Module):
    """What is exported: a model with its prompts encoded."""

    def __init__(self, model: QualityModel, branches: Sequence[str]) -> None:
        super().__init__()
        self.model, self.branches = model, branches
        with torch.no_grad():
            self.state = model.encode_prompts()
        self.eval()

    def forward(self, views: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():  # without gradients the tower would cut the batch in pieces of fixed size
            prediction = self.model(views, self.state, self.branches).clamped()
        std = () if prediction.std is None else (prediction.std,)
        return (prediction.mean, *std, *(prediction.logits[name] for name in self.branches))


def _photographs(views: ViewSpec) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Views of photographs to compare on, as many of each."""
    pictures = [read_image(wheel_photograph(name), size=partial(prepared_size, views)) for name in PHOTOGRAPHS]
    cut = [fixed_views(picture, views) for picture in pictures]
    return np.stack([each[: min(map(len, cut))] for each in cut])


def _onnx(graph: _Graph, views: Any, about: dict[str, Any], int8: bool) -> bytes:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"export: needs {error.name}: pip install 'fewshot-iqa[fast]'") from None
    example = torch.from_numpy(np.repeat(views[:2], 2, axis=1))  # sizes of 1 would be taken for constants
    with torch.no_grad():
        std = len(graph(example)) - 1 > len(graph.branches)
    names = [MEAN, *([STD] if std else []), *(LOGITS + name for name in graph.branches)]
    with _silenced(), tempfile.TemporaryDirectory() as place:
        options: dict[str, Any] = {"dynamo": True, "opset_version": OPSET, "verbose": False}
        options["dynamic_shapes"] = ({0: torch.export.Dim("pictures"), 1: torch.export.Dim("views")},)
        try:
            program = torch.onnx.export(graph, (example,), input_names=[INPUT], output_names=names, **options)
        except torch.onnx.OnnxExporterError as error:
            raise InputError(f"export: torch cannot export this model ({str(error).splitlines()[0]})") from error
        assert program is not None
        raw, folded = Path(place, "raw.onnx"), Path(place, "folded.onnx")
        program.save(str(raw))
        session = onnxruntime.SessionOptions()
        session.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        session.optimized_model_filepath = str(folded)
        onnxruntime.InferenceSession(str(raw), session, providers=["CPUExecutionProvider"])
        if int8:
            _quantize(folded)
        found = onnx.load(folded)
    _store_as_half(found)
    entry = found.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(about)
    return found.SerializeToString()


@contextmanager
def _silenced() -> Iterator[None]:
    """Without the warnings of exporters to their own developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _quantize(path: Path) -> None:
    """8-bit weights, and activations quantised as they come, for the linear layers with large weights.

    Weights take 7 of the 8 bits: processors without VNNI add products in 16 bit, which overflow otherwise.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(path).graph
    large = {each.name for each in graph.initializer if len(each.dims) == 2 and min(each.dims) >= SMALLEST}
    nodes = [node.name for node in graph.node if node.op_type in ("MatMul", "Gemm") and node.input[1] in large]
    quantize_dynamic(
        path, path, nodes_to_quantize=nodes, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True
    )


def _store_as_half(found: Any) -> None:
    """Store weights that are numbers of float16, as those of most CLIPs are, in half the bytes; equal when loaded."""
    import onnx
    from onnx import numpy_helper

    casts = []
    for weight in found.graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT or np.prod(weight.dims) < 1000:
            continue
        values = numpy_helper.to_array(weight)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if np.array_equal(half.astype(np.float32), values):
            name = weight.name
            weight.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
            casts.append(onnx.helper.make_node("Cast", [weight.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = list(found.graph.node)
    del found.graph.node[:]
    found.graph.node.extend([*casts, *nodes])


def _difference(graph: _Graph, path: Path, views: Any) -> float:
    """The greatest difference of quality and its deviation; nan where one is not a number."""
    predictor, found = load_exported(path).predictor, []
    for count in BATCHES:
        ours = predictor.predict([Opened("", "", each) for each in views[:count]])
        with torch.no_grad():
            mean, *rest = graph(torch.from_numpy(views[:count]))
        found.append(np.abs(ours.mean - mean.numpy()))
        if ours.std is not None:
            found.append(np.abs(ours.std - rest[0].numpy()))
    return float(np.concatenate(found).max())
