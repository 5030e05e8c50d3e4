"""Quality-aware gradient regularisation (QGR) of GRMP-IQA, arXiv 2409.05381."""

import re
from collections import defaultdict

import torch

from .types import Params


def project_gradient(task: Params, anchor: Params, strength: float, scope: str = "tensor") -> Params:
    """The task gradient without the part that only follows image semantics.

    With g_q = `task` and g_s = `anchor`, for each tensor, or each layer, or all as one vector (`scope`):

        g_q                                   where ⟨g_q, g_s⟩ ≤ 0
        g_q − λ · ⟨g_q, g_s⟩ / ‖g_s‖² · g_s   otherwise, λ = `strength`

    Gradients are keyed by parameter name; a name that `anchor` lacks has no semantic gradient and is kept. A layer is
    a block of a tower, or a module of its own.
    """
    parts: dict[str, list[str]] = defaultdict(list)
    for name in task:
        if name in anchor:
            parts[{"tensor": name, "layer": _layer(name), "global": ""}[scope]].append(name)
    result = dict(task)
    for names in parts.values():
        along, energy = _dot(task, anchor, names), _dot(anchor, anchor, names)
        if along > 0 and energy > 0:
            result |= {name: task[name] - strength * along / energy * anchor[name] for name in names}
    return result


def cosine(task: Params, anchor: Params) -> float:
    """Of the angle between two gradients as whole vectors, over the names that both have; 0 where either vanishes."""
    names = [name for name in task if name in anchor]
    if not names:
        return 0.0
    norms = (_dot(task, task, names) * _dot(anchor, anchor, names)).sqrt()
    return float(_dot(task, anchor, names) / norms) if norms > 0 else 0.0


def _dot(one: Params, two: Params, names: list[str]) -> torch.Tensor:
    return torch.stack([torch.sum(one[name] * two[name]) for name in names]).sum()


def _layer(name: str) -> str:
    block = re.match(r".*resblocks\.\d+", name)
    return block[0] if block else name.rpartition(".")[0]
