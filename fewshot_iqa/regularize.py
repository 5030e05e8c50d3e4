"""Quality-aware gradient regularisation (QGR) of GRMP-IQA, arXiv 2409.05381."""

import torch

from .types import Params


def remove_component(task: Params, anchor: Params, strength: float) -> Params:
    """The task gradient without the part that only follows image semantics, tensor by tensor.

    With g_q = `task[name]` and g_s = `anchor[name]`:

        g_q                                   where ⟨g_q, g_s⟩ ≤ 0
        g_q − λ · ⟨g_q, g_s⟩ / ‖g_s‖² · g_s   otherwise, λ = `strength`

    Gradients are keyed by parameter name; a name that `anchor` lacks has no semantic gradient and is kept.
    """
    return {name: _remove(gradient, anchor.get(name), strength) for name, gradient in task.items()}


def _remove(task: torch.Tensor, anchor: torch.Tensor | None, strength: float) -> torch.Tensor:
    if anchor is None:
        return task
    along = torch.sum(task * anchor)
    energy = torch.sum(anchor * anchor)
    if along <= 0 or energy == 0:
        return task
    return task - strength * along / energy * anchor
