"""What an optimiser remembers, by parameter name, for files that a killed run goes on from."""

import torch

from .types import Params

ADAM = ("step", "exp_avg", "exp_avg_sq")


def moments(optimizer: torch.optim.Optimizer, params: Params) -> Params:
    """The state of `optimizer` as {moment.name: tensor}."""
    return {
        f"{moment}.{name}": value
        for name, parameter in params.items()
        for moment, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, torch.Tensor)
    }


def restore_moments(optimizer: torch.optim.Optimizer, params: Params, state: Params) -> None:
    """Undo `moments` of Adam; `state` may hold more, and is copied: it may be a mapped file, which Windows keeps from
    being replaced."""
    for name, parameter in params.items():
        found = {moment: state[f"{moment}.{name}"] for moment in ADAM if f"{moment}.{name}" in state}
        if found:
            optimizer.state[parameter] = {
                m: v.clone() if m == "step" else v.to(parameter, copy=True) for m, v in found.items()
            }
