"""An optimiser's state by parameter name, for the files from which an interrupted run resumes."""

import torch

from .types import Params

ADAM = ("step", "exp_avg", "exp_avg_sq")


def moments(optimizer: torch.optim.Optimizer, params: Params) -> Params:
    """The state of `optimizer` for `params`, {name: parameter}, as {moment.name: tensor}."""
    return {
        f"{moment}.{name}": value
        for name, parameter in params.items()
        for moment, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, torch.Tensor)
    }


def restore_moments(optimizer: torch.optim.Optimizer, params: Params, state: Params) -> None:
    """Load what `moments` returned into an Adam optimiser; other entries of `state` are ignored.

    Values are copied: `state` may be a mapped file, which Windows keeps from being replaced.
    """
    for name, parameter in params.items():
        found = {moment: state[f"{moment}.{name}"] for moment in ADAM if f"{moment}.{name}" in state}
        if found:
            optimizer.state[parameter] = {
                m: v.clone() if m == "step" else v.to(parameter, copy=True) for m, v in found.items()
            }
