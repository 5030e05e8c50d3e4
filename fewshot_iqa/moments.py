"""What an optimiser remembers, by parameter name, for files that a killed run goes on from."""

import torch

from .types import Params


def moments(optimizer: torch.optim.Optimizer, params: Params) -> Params:
    """The state of `optimizer` as {moment.name: tensor}."""
    return {
        f"{moment}.{name}": value
        for name, parameter in params.items()
        for moment, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, torch.Tensor)
    }


def restore_moments(optimizer: torch.optim.Optimizer, params: Params, state: Params) -> None:
    """Undo `moments`; `state` may hold more."""
    for name, parameter in params.items():
        found = {key.removesuffix(f".{name}"): value for key, value in state.items() if key.endswith(f".{name}")}
        found = {moment: value for moment, value in found.items() if moment in ("step", "exp_avg", "exp_avg_sq")}
        if found:
            optimizer.state[parameter] = {
                moment: value if moment == "step" else value.to(parameter) for moment, value in found.items()
            }
