"""Adaptation to one task by a few gradient steps: three engines that give the same parameters.

`func` is functional_call and autograd.grad; `higher` and `learn2learn` do it with those libraries, from the model's own
parameters. An engine leaves `params` as they are, and in second order its result is a differentiable function of them.
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
LEAST_SQUARE = 1e-30  # under the root of Adam's second moment, whose derivative is infinite at 0


@dataclass(frozen=True)
class Objective:
    """A model with the loss that it is to reduce; `bf16` computes in bfloat16 by autocast."""

    model: nn.Module
    loss: WeightedSum
    bf16: bool = False

    def __call__(self, batch: Batch, params: Params | None = None, form: nn.Module | None = None) -> Tensor:
        """The loss on `batch`, with `params` in the place of the model's own, or of another `form` of the model."""
        further = {"branches": self.loss.branches, "prompts": batch.prompts}
        device = next(self.model.parameters()).device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.bf16):
            if params is not None:
                output = functional_call(self.model, params, (batch.inputs,), further)
            else:
                output = (form or self.model)(batch.inputs, **further)
            return self.loss(output, batch.targets)


def adapt(
    learner: Objective,
    params: Params,
    batches: Sequence[Batch],
    spec: "MetaSpec",
    *,
    rates: Mapping[str, Tensor] | None = None,
    second_order: bool = False,
) -> tuple[Params, list[float]]:
    """One step of `spec.inner_optimizer` on each batch in turn, from `params`; the losses before each step.

    `rates` {name: ()} are learned learning rates, in the place of `spec.inner_lr`. In second order the attention of
    these forwards takes the math kernel, the only one that can be differentiated twice. Dropout is drawn step by step
    from torch's generator, the same for all engines.
    """
    draws = torch.randint(1 << 62, (len(batches),)).tolist() if learner.model.training else [0] * len(batches)
    job = InnerLoop(learner, params, batches, draws, spec, second_order)
    with sdpa_kernel(SDPBackend.MATH) if second_order else contextlib.nullcontext():
        match spec.engine:
            case "func":
                return _func(job, rates or {})
            case "higher":
                return _higher(job)
            case _:
                return _learn2learn(job)


@dataclass(frozen=True)
class InnerLoop:
    """What an engine is to do: a step on each of `batches`, dropout drawn from each of `draws`."""

    learner: Objective
    params: Params
    batches: Sequence[Batch]
    draws: Sequence[int]
    spec: "MetaSpec"
    second_order: bool


def _func(job: InnerLoop, rates: Mapping[str, Tensor]) -> tuple[Params, list[float]]:
    spec, params, second_order = job.spec, job.params, job.second_order
    names, losses = list(params), []
    lr = [rates.get(name, torch.tensor(spec.inner_lr, dtype=torch.float64)) for name in names]
    update = {"sgd": _sgd, "adam": _adam}[spec.inner_optimizer]

    def step(batch: Batch, t: int, draw: int, create_graph: bool, *carried: Tensor) -> tuple[Tensor, ...]:
        """Parameters, the optimiser's moments and the learning rates, one step on."""
        n = len(names)
        fast, moments, lr = carried[:n], carried[n:-n], carried[-n:]
        with scoped(draw, "dropout"):
            value = job.learner(batch, dict(zip(names, fast, strict=True)))
        gradients = torch.autograd.grad(value, fast, create_graph=create_graph, allow_unused=True)
        losses.append(value.item())
        return *update(fast, gradients, moments, lr, t), *lr

    carried = (*params.values(), *_moments(params, spec.inner_optimizer), *lr)
    for t, (batch, draw) in enumerate(zip(job.batches, job.draws, strict=True), start=1):
        if second_order and spec.recompute:
            carried = _Recomputed.apply(partial(step, batch, t, draw), *carried)
        else:
            carried = step(batch, t, draw, second_order, *carried)
    return dict(zip(names, carried, strict=False)), losses[: len(job.batches)]


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
            root = (v / (1 - BETA2**t)).clamp_min(LEAST_SQUARE).sqrt()
            value = value - rate * (m / (1 - BETA1**t)) / (root + EPSILON)
        values.append(value)
        kept += [m, v]
    return values + kept


class _Recomputed(torch.autograd.Function):
    """An inner step that keeps its arguments alone, and computes the rest again when it is differentiated.

    The memory of second order is then that of one inner step, however many there are.
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


def _higher(job: InnerLoop) -> tuple[Params, list[float]]:
    import higher

    model, losses = job.learner.model, []
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[job.spec.inner_optimizer]
    optimizer = kind(job.params.values(), lr=job.spec.inner_lr)
    with higher.innerloop_ctx(model, optimizer, copy_initial_weights=False, track_higher_grads=job.second_order) as (
        functional,
        inner,
    ):
        for batch, draw in zip(job.batches, job.draws, strict=True):
            with scoped(draw, "dropout"):
                value = job.learner(batch, form=functional)
            inner.step(value)
            losses.append(value.item())
        after = dict(zip(dict(model.named_parameters()), functional.parameters(), strict=True))
    return {name: after[name] for name in job.params}, losses


def _learn2learn(job: InnerLoop) -> tuple[Params, list[float]]:
    maml, losses = import_learn2learn().algorithms.MAML, []
    inner = maml(job.learner.model, job.spec.inner_lr, first_order=not job.second_order, allow_nograd=True).clone()
    for batch, draw in zip(job.batches, job.draws, strict=True):
        with scoped(draw, "dropout"):
            value = job.learner(batch, form=inner)
        inner.adapt(value)
        losses.append(value.item())
    after = dict(inner.module.named_parameters())
    return {name: after[name] for name in job.params}, losses


def import_learn2learn() -> Any:
    """The library; InputError, with the command that installs it, where it is missing."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):  # its gym says that it is old
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
