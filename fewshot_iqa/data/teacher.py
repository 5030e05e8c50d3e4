"""A network whose embedding the pre-training distils, run beside the data loader."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError


class Teacher:
    """A TensorFlow Lite network that embeds uint8 RGB crops.

    Crops smaller than its input are continued by their mirror images: enlarging them would change their sharpness.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such file of a teacher network")
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise InputError("a teacher needs LiteRT: pip install 'fewshot-iqa[pretrain]'") from None
        self._network = Interpreter(str(path), num_threads=1)
        self._input, self._output = self._network.get_input_details()[0], self._network.get_output_details()[0]
        self._count = 0

    def __call__(self, images: Tensor) -> Tensor:
        """The embedding (N, T), float32, of uint8 crops (N, 3, s, s)."""
        _, height, width, _ = self._input["shape"]
        below, right = height - images.shape[2], width - images.shape[3]
        pixels = np.pad(images.permute(0, 2, 3, 1).numpy(), ((0, 0), (0, below), (0, right), (0, 0)), mode="symmetric")
        if len(pixels) != self._count:
            self._network.resize_tensor_input(self._input["index"], pixels.shape)
            self._network.allocate_tensors()
            self._count = len(pixels)
        self._network.set_tensor(self._input["index"], pixels)
        self._network.invoke()
        scale, zero = self._output["quantization"]
        values = self._network.get_tensor(self._output["index"]).reshape(len(images), -1)
        return torch.from_numpy((values.astype(np.float32) - zero) * np.float32(scale))
