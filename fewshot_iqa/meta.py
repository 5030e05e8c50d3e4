"""Meta-training of prompts across distortions: GRMP-IQA's bi-level update."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.func import functional_call

from .losses import WeightedSum
from .types import Batch, Episode, Params


def inner_adapt(
    model: nn.Module, params: Params, batches: Iterable[Batch], loss: WeightedSum, *, lr: float
) -> tuple[Params, list[float]]:
    """One Adam step on each batch in turn, from a copy of `params`; the losses before each step.

    `model` and `params` stay as they are, so that every task starts from the same parameters.
    """
    fast = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
    optimizer = torch.optim.Adam(fast.values(), lr=lr)
    losses = []
    for batch in batches:
        output = functional_call(model, fast, (batch.images,), {"branches": loss.branches})
        value = loss(output, batch.targets)
        gradients = torch.autograd.grad(value, list(fast.values()), allow_unused=True)
        for parameter, gradient in zip(fast.values(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        losses.append(value.item())
    return {name: value.detach() for name, value in fast.items()}, losses


def meta_gradient(
    model: nn.Module, params: Params, episodes: Iterable[Episode], loss: WeightedSum, *, lr: float
) -> tuple[Params, float]:
    """The mean over episodes of θ − θ_i, and the mean query loss.

    θ_i is reached from θ = `params` by one Adam step on the episode's support and one on its query.
    """
    total = {name: torch.zeros_like(value) for name, value in params.items()}
    losses = []
    for episode in episodes:
        adapted, (_, query_loss) = inner_adapt(model, params, (episode.support, episode.query), loss, lr=lr)
        for name, value in params.items():
            total[name] += value.detach() - adapted[name]
        losses.append(query_loss)
    return {name: value / len(losses) for name, value in total.items()}, sum(losses) / len(losses)


def outer_step(params: Params, gradient: Params, lr: float) -> None:
    """θ ← θ − β · gradient, in place, with β = `lr`."""
    with torch.no_grad():
        for name, value in params.items():
            value -= lr * gradient[name]
