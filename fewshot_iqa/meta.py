"""Meta-training across tasks of one distortion each: GRMP-IQA's bi-level update, Reptile, FOMAML and MAML."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from .errors import InputError
from .inner import Objective, adapt
from .losses import WeightedSum, first_infinite, gradients_by_name
from .types import Episode, Params

if TYPE_CHECKING:
    from .config import MetaSpec

RATE = "log_rate."  # prefix of a parameter's name: the logarithm of its learned learning rate


def learned_rates(params: Params, spec: "MetaSpec") -> Params:
    """Meta-SGD's learned learning rates: {"log_rate." + name: logarithm (scalar)}, one for each tensor, starting at
    `spec.inner_lr`; empty without `spec.learn_lr`."""
    if not spec.learn_lr:
        return {}
    start = torch.tensor(spec.inner_lr, dtype=torch.float64).log()
    return {RATE + name: start.to(value).requires_grad_() for name, value in params.items()}


def meta_gradient(
    model: nn.Module, params: Params, episodes: Iterable[Episode], loss: WeightedSum, spec: "MetaSpec"
) -> tuple[Params, float]:
    """The meta-gradient at θ = `params`: the mean of the episodes' directions by name, and their mean loss.

    The inner steps of every episode i start from θ, do not change it, and end at θ_i. With Q_i the loss on the query,
    the direction of an episode is, for each `spec.algorithm`:

        bilevel   θ − θ_i, after `inner_steps` on the support and one on the query (GRMP-IQA)
        reptile   θ − θ_i, after `inner_steps` on support and query together (Nichol et al., 2018)
        fomaml    ∇Q_i at θ_i, after `inner_steps` on the support (Finn et al., 2017, first order)
        maml      ∇Q_i(θ_i(θ)) through those steps (Finn et al., 2017)
        joint     the gradient at θ of the loss on support and query: no meta-learning, on the same pictures

    `params` may include learned learning rates (`learned_rates`; Meta-SGD, Li et al., 2017), which get gradients too.
    Names of parameters without a gradient are absent.
    """
    total: Params = {}
    losses = []
    for episode in episodes:
        direction, query_loss = _direction(model, params, episode, loss, spec)
        for name, value in direction.items():
            total[name] = total[name] + value if name in total else value
        losses.append(query_loss)
    return {name: value / len(losses) for name, value in total.items()}, sum(losses) / len(losses)


def _direction(
    model: nn.Module, params: Params, episode: Episode, loss: WeightedSum, spec: "MetaSpec"
) -> tuple[Params, float]:
    start = {name: value for name, value in params.items() if not name.startswith(RATE)}
    rates = {name.removeprefix(RATE): value.exp() for name, value in params.items() if name.startswith(RATE)}
    second_order = spec.algorithm == "maml"
    outer = Objective(model, loss, bf16=bool(spec.bf16))
    inner = replace(outer, bf16=outer.bf16 and not second_order)
    support, query = [episode.support] * spec.inner_steps, episode.query
    match spec.algorithm:
        case "joint":
            value = outer(episode.together, start)
            return gradients_by_name(value, start), value.item()
        case "bilevel" | "reptile":
            steps = [*support, query] if spec.algorithm == "bilevel" else [episode.together] * spec.inner_steps
            end, losses = adapt(inner, start, steps, spec)
            return {name: (value - end[name]).detach() for name, value in start.items()}, losses[-1]
        case _:
            end, _ = adapt(inner, start, support, spec, rates=rates, second_order=second_order)
            value = outer(query, end)
            learned = {name: value for name, value in params.items() if name.startswith(RATE)}
            return gradients_by_name(value, (start if second_order else end) | learned), value.item()


def require_finite(step: int, query_loss: float, direction: Params, spec: "MetaSpec") -> None:
    """InputError, which names the tensor, where the step (from 1 on) that is to be taken has no finite loss or
    direction."""
    name = first_infinite(direction, max(1.0, spec.outer_lr))
    if not math.isfinite(query_loss) or name:
        tensor = f", the direction of {name} is not finite" if name else ""
        rates = f"meta.inner_lr (now {spec.inner_lr:g}) or meta.outer_lr (now {spec.outer_lr:g})"
        raise InputError(f"step {step} of meta-training: the loss is {query_loss:g}{tensor}: lower {rates}")


def make_optimizer(params: Params, spec: "MetaSpec") -> torch.optim.Optimizer:
    """The outer optimiser of `spec`; `sgd` is GRMP-IQA's θ ← θ − β · direction, with β = `spec.outer_lr`."""
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[spec.outer_optimizer]
    return kind(params.values(), lr=spec.outer_lr)


def outer_step(optimizer: torch.optim.Optimizer, params: Params, direction: Params, spec: "MetaSpec") -> None:
    """One step of the outer optimiser along `direction`, clipped to the norm `spec.clip_norm` over all tensors."""
    for name, value in params.items():
        value.grad = direction.get(name)
    if spec.clip_norm is not None:
        nn.utils.clip_grad_norm_(params.values(), spec.clip_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
