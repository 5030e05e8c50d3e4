"""Heads: from features to a quality. A kind is one class here, its keys in `config.heads`, and one row of `HEADS`."""

from typing import Any

from ...config import ModelSpec
from ...config.heads import HeadSpec
from ...errors import InputError
from .antonym import AntonymHead, antonym_quality
from .base import Head
from .custom import CustomHead
from .fusion import FusionHead
from .gaussian_process import GaussianProcessHead
from .linear import LinearHead, RidgeHead

__all__ = [
    "HEADS",
    "AntonymHead",
    "CustomHead",
    "FusionHead",
    "GaussianProcessHead",
    "Head",
    "LinearHead",
    "RidgeHead",
    "antonym_quality",
    "make_head",
]

HEADS: dict[str, Any] = {
    "antonym": AntonymHead,
    "linear": LinearHead,
    "ridge": RidgeHead,
    "gp": GaussianProcessHead,
    "fusion": FusionHead,
}


def make_head(spec: HeadSpec, model: ModelSpec, clip: Any, given: Any = None) -> Head:
    """The head of a specification, for the prompts of `model` on the backbone `clip`; or the one `given` from Python,
    an object with `fit` and `predict`."""
    if given is None and spec.kind == "custom":
        raise InputError(f"head: this model was fitted with the head {spec.name}; give it, as head={spec.name}()")
    if given is not None:
        branch = model.branches.get(model.quality)
        return CustomHead(given, branch.visual or "" if branch else "", clip.visual.output_dim)
    return HEADS[spec.kind](spec, model, clip)
