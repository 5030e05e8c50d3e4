"""The inner loop of meta-learning: adaptation to one task by a few gradient steps.

Three engines give the same result: `func` uses torch.func.functional_call and autograd.grad; `higher` and `learn2learn`
use those libraries. No engine changes the parameters that it starts from; in second order the result is a
differentiable function of them.
"""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from .errors import InputError
from .losses import WeightedSum
from .rng import scoped
from .types import Batch, Params

if TYPE_CHECKING:
    from .config import MetaSpec

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # torch.optim.Adam's
MIN_SQUARE = 1e-30  # lower bound under the root of Adam's second moment: the derivative is infinite at 0


@dataclass(frozen=True)
class Objective:
    """A model with the loss to minimise; `bf16` computes in bfloat16 by autocast."""

    model: nn.Module
    loss: WeightedSum
    bf16: bool = False

    def __call__(self, batch: Batch, params: Params | None = None, form: nn.Module | None = None) -> Tensor:
        """The loss on `batch`: of the model with `params` in place of its own, or of a library's copy `form` of it."""
        further = {"branches": self.loss.branches, "prompts": batch.prompts}
        device = next(self.model.parameters()).device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.bf16):
            if params is not None:
                output = functional_call(self.model, params, (batch.inputs,), further)
            else:
                output = (form or self.model)(batch.inputs, **further)
            return self.loss(output, batch.targets)


def adapt(
    objective: Objective,
    params: Params,
    batches: Sequence[Batch],
    spec: "MetaSpec",
    *,
    rates: Mapping[str, Tensor] | None = None,
    second_order: bool = False,
) -> tuple[Params, list[float]]:
    """One step of `spec.inner_optimizer` on each batch in turn, starting from `params`.

    Returns the adapted parameters by name, and the loss before each step. `rates` {name: scalar} are learned learning
    rates that replace `spec.inner_lr`. In `second_order` attention uses the math kernel, the only one that can be
    differentiated twice. Dropout masks depend on torch's global generator, and are the same for all engines.
    """
    dropout = objective.model.training
    seeds = torch.randint(1 << 62, (len(batches),)).tolist() if dropout else [0] * len(batches)
    loop = InnerLoop(objective, params, batches, seeds, spec, second_order)
    with sdpa_kernel(SDPBackend.MATH) if second_order else contextlib.nullcontext():
        match spec.engine:
            case "func":
                return _func(loop, rates or {})
            case "higher":
                return _higher(loop)
            case _:
                return _learn2learn(loop)


@dataclass(frozen=True)
class InnerLoop:
    """The input of an engine: a step on each of `batches`, with the seed of its dropout from `dropout_seeds`."""

    objective: Objective
    params: Params
    batches: Sequence[Batch]
    dropout_seeds: Sequence[int]
    spec: "MetaSpec"
    second_order: bool


def _func(loop: InnerLoop, rates: Mapping[str, Tensor]) -> tuple[Params, list[float]]:
    spec, params, second_order = loop.spec, loop.params, loop.second_order
    names, losses = list(params), []
    lr = [rates.get(name, torch.tensor(spec.inner_lr, dtype=torch.float64)) for name in names]
    update = {"sgd": _sgd, "adam": _adam}[spec.inner_optimizer]

    def step(batch: Batch, t: int, seed: int, create_graph: bool, *carried: Tensor) -> tuple[Tensor, ...]:
        """The parameters, the optimiser's moments and the learning rates after one step."""
        n = len(names)
        fast, moments, lr = carried[:n], carried[n:-n], carried[-n:]
        with scoped(seed, "dropout"):
            value = loop.objective(batch, dict(zip(names, fast, strict=True)))
        gradients = torch.autograd.grad(value, fast, create_graph=create_graph, allow_unused=True)
        losses.append(value.item())
        return *update(fast, gradients, moments, lr, t), *lr

    carried = (*params.values(), *_moments(params, spec.inner_optimizer), *lr)
    for t, (batch, seed) in enumerate(zip(loop.batches, loop.dropout_seeds, strict=True), start=1):
        if second_order and spec.recompute:
            carried = _Recomputed.apply(partial(step, batch, t, seed), *carried)
        else:
            carried = step(batch, t, seed, second_order, *carried)
    return dict(zip(names, carried, strict=False)), losses[: len(loop.batches)]


def _moments(params: Params, optimizer: str) -> list[Tensor]:
    return [torch.zeros_like(value) for value in params.values() for _ in range(2)] if optimizer == "adam" else []


def _sgd(
    fast: Sequence[Tensor], gradients: Sequence[Tensor | None], _: Sequence[Tensor], lr: Sequence[Tensor], t: int
) -> Iterator[Tensor]:
    for value, gradient, rate in zip(fast, gradients, lr, strict=True):
        yield value if gradient is None else value - rate * gradient


def _adam(
    fast: Sequence[Tensor], gradients: Sequence[Tensor | None], moments: Sequence[Tensor], lr: Sequence[Tensor], t: int
) -> list[Tensor]:
    """torch.optim.Adam's formula: θ − α · m̂ / (√v̂ + ε)."""
    values, kept = [], []
    for value, gradient, m, v, rate in zip(fast, gradients, moments[::2], moments[1::2], lr, strict=True):
        if gradient is not None:
            m = BETA1 * m + (1 - BETA1) * gradient
            v = BETA2 * v + (1 - BETA2) * gradient**2
            root = (v / (1 - BETA2**t)).clamp_min(MIN_SQUARE).sqrt()
            value = value - rate * (m / (1 - BETA1**t)) / (root + EPSILON)
        values.append(value)
        kept += [m, v]
    return values + kept


class _Recomputed(torch.autograd.Function):
    """An inner step that stores only its arguments, and recomputes the rest when it is differentiated.

    The memory of second order is then that of one inner step, for any number of steps.
    """

    @staticmethod
    def forward(ctx: Any, step: Callable[..., tuple[Tensor, ...]], *carried: Tensor) -> tuple[Tensor, ...]:
        ctx.step = step
        ctx.save_for_backward(*carried)
        with torch.enable_grad():
            after = step(False, *(value.detach().requires_grad_() for value in carried))
        return tuple(value.detach() for value in after)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        carried = [value.detach().requires_grad_() for value in ctx.saved_tensors]
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            after = ctx.step(True, *carried)
            return None, *torch.autograd.grad(after, carried, cotangents, allow_unused=True)


def _higher(loop: InnerLoop) -> tuple[Params, list[float]]:
    import higher

    model, losses = loop.objective.model, []
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[loop.spec.inner_optimizer]
    optimizer = kind(loop.params.values(), lr=loop.spec.inner_lr)
    with higher.innerloop_ctx(model, optimizer, copy_initial_weights=False, track_higher_grads=loop.second_order) as (
        functional,
        inner,
    ):
        for batch, seed in zip(loop.batches, loop.dropout_seeds, strict=True):
            with scoped(seed, "dropout"):
                value = loop.objective(batch, form=functional)
            inner.step(value)
            losses.append(value.item())
        after = dict(zip(dict(model.named_parameters()), functional.parameters(), strict=True))
    return {name: after[name] for name in loop.params}, losses


def _learn2learn(loop: InnerLoop) -> tuple[Params, list[float]]:
    maml, losses = import_learn2learn().algorithms.MAML, []
    inner = maml(loop.objective.model, loop.spec.inner_lr, first_order=not loop.second_order, allow_nograd=True).clone()
    for batch, seed in zip(loop.batches, loop.dropout_seeds, strict=True):
        with scoped(seed, "dropout"):
            value = loop.objective(batch, form=inner)
        inner.adapt(value)
        losses.append(value.item())
    after = dict(inner.module.named_parameters())
    return {name: after[name] for name in loop.params}, losses


def import_learn2learn() -> Any:
    """The library; InputError, with the command that installs it, where it is missing."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),
    ):  # its dependency gym prints that it is unmaintained
        warnings.simplefilter("ignore")
        try:
            import learn2learn
        except ImportError as error:
            raise InputError(
                f"meta.engine: learn2learn is not installed ({error}). Install it by `make learn2learn`, or by: "
                "pip install gym requests tqdm && pip install --no-deps learn2learn==0.2.0 "
                '--config-settings="--build-option=build_ext"'
            ) from None
    return learn2learn
