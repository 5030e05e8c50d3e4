"""Quality-aware gradient regularisation (QGR) of GRMP-IQA, arXiv 2409.05381."""

import re
from collections import defaultdict

import torch

from .errors import InputError
from .types import Params


def project_gradient(quality: Params, semantic: Params, strength: float = 1.0, scope: str = "tensor") -> Params:
    """The gradient of the quality loss without its component along the semantic gradient, where the two agree.

    With g_q = `quality`, g_s = `semantic` and λ = `strength`, the result is

        g_q                                    where ⟨g_q, g_s⟩ ≤ 0
        g_q − λ · ⟨g_q, g_s⟩ / ‖g_s‖² · g_s    otherwise

    for each tensor ("tensor"), each layer ("layer": a block of a tower, or a module), or all of them as one vector
    ("global"): that is `scope`. λ = 1 makes a corrected part orthogonal to the semantic gradient; a part that is not
    corrected keeps its negative inner product. Gradients are dictionaries by parameter name; a name that `semantic`
    lacks is kept as it is.

    >>> import torch
    >>> project_gradient({"w": torch.tensor([2.0, 1.0])}, {"w": torch.tensor([3.0, 0.0])}, strength=1.0)
    {'w': tensor([0., 1.])}
    """
    if scope not in ("tensor", "layer", "global"):
        raise InputError(f"scope {scope}: expected tensor, layer or global")
    parts: dict[str, list[str]] = defaultdict(list)
    for name in quality:
        if name in semantic:
            parts[{"tensor": name, "layer": _layer(name), "global": ""}[scope]].append(name)
    result = dict(quality)
    for names in parts.values():
        inner_product, squared_norm = _dot(quality, semantic, names), _dot(semantic, semantic, names)
        agree = (inner_product > 0) & (squared_norm > 0)
        factor = torch.where(agree, strength * inner_product / squared_norm, 0)  # `if` would wait for a GPU
        result |= {name: quality[name] - factor * semantic[name] for name in names}
    return result


def cosine(quality: Params, semantic: Params) -> float:
    """The cosine of the angle between two gradients, each as one vector over the names that both have; 0 where either
    has norm 0 or no name is common."""
    names = [name for name in quality if name in semantic]
    if not names:
        return 0.0
    norms = (_dot(quality, quality, names) * _dot(semantic, semantic, names)).sqrt()
    return float(_dot(quality, semantic, names) / norms) if norms > 0 else 0.0


def _dot(one: Params, two: Params, names: list[str]) -> torch.Tensor:
    return torch.stack([torch.sum(one[name] * two[name]) for name in names]).sum()


def _layer(name: str) -> str:
    block = re.match(r".*resblocks\.\d+", name)
    return block[0] if block else name.rpartition(".")[0]
