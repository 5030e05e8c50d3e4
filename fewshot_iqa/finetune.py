"""Few-shot adaptation by gradients, with quality-aware gradient regularisation."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from .errors import InputError
from .losses import Loss, distribution_cross_entropy, first_infinite, gradients_by_name
from .regularize import cosine, project_gradient
from .types import Batch, Params

if TYPE_CHECKING:
    from .config import AdaptSpec


def finetune(
    model: nn.Module,
    params: Params,
    batches: Iterable[Batch],
    loss: Loss,
    spec: "AdaptSpec",
    *,
    teacher: nn.Module | None = None,
    log: Callable[[Mapping[str, float]], None] = lambda _: None,
) -> None:
    """Train `params` of `model` in place, one step per batch, with one optimiser from first to last.

    With `spec.regularizer`, the part of the quality gradient that follows the scene distribution of `teacher`, plain
    CLIP, is projected away; both gradients are of one forward pass. The teacher is not asked where the targets of a
    batch have its logits, as `teacher`. `log` is called after each step with its `loss` and, with a regularizer, the
    `cosine` of the angle between the two. `model` stays in evaluation mode outside; dropout acts inside. InputError
    where the loss or a gradient is not finite: it names the step and the tensor, and `params` stay as before the step;
    and where a cosine schedule has no `spec.steps` to end at (`spec.of_steps(n)` sets them).
    """
    optimizer = _optimizer(params, spec)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, spec))
    model.train()
    try:
        for step, batch in enumerate(batches, start=1):
            logged, gradients = step_gradients(model, params, batch, loss, spec, teacher)
            _require_finite(step, logged["loss"], gradients, params, spec)
            for name, parameter in params.items():
                parameter.grad = gradients.get(name)
            optimizer.step()
            schedule.step()
            log(logged)
        if at_fault := first_infinite(params):
            raise InputError(f"the last step made {at_fault} infinite: lower adapt.lr (now {spec.lr:g})")
    finally:
        model.eval()


def step_gradients(
    model: nn.Module, params: Params, batch: Batch, loss: Loss, spec: "AdaptSpec", teacher: nn.Module | None
) -> tuple[dict[str, float], Params]:
    """What to log of a step, and its gradient; computed in bfloat16 where `spec.bf16` is true."""
    regularizer = spec.active_regularizer
    branches = [*loss.branches, *([regularizer.branch] if regularizer else [])]
    with torch.autocast(next(iter(params.values())).device.type, torch.bfloat16, enabled=bool(spec.bf16)):
        output = model(batch.inputs, branches=branches, prompts=batch.prompts)
        value = loss(output, batch.targets)
    if regularizer is None or not output.logits[regularizer.branch].requires_grad:  # no parameter changes it
        gradients = gradients_by_name(value, params)  # before the loss is read: a GPU is waited for once a step
        return {"loss": value.item()}, gradients
    seen = batch.targets.get("teacher")
    if seen is None:
        assert teacher is not None
        with torch.no_grad():
            seen = teacher(batch.inputs).logits[regularizer.branch]
    target = (seen / regularizer.temperature).softmax(dim=-1)
    semantic_loss = distribution_cross_entropy(output.logits[regularizer.branch], target, regularizer.temperature)
    quality = gradients_by_name(value, params, retain_graph=True)
    semantic = gradients_by_name(semantic_loss, params)
    logged = {"loss": value.item(), "cosine": cosine(quality, semantic)}
    return logged, project_gradient(quality, semantic, regularizer.strength, regularizer.scope)


def _require_finite(step: int, loss: float, gradients: Params, params: Params, spec: "AdaptSpec") -> None:
    """InputError, before the step is taken, where it would make parameters infinite."""
    name = first_infinite(gradients, max(1.0, spec.lr))
    if math.isfinite(loss) and name is None:
        return
    at_fault = first_infinite(params) or (name and f"the gradient of {name}")
    tensor = f", {at_fault} is not finite" if at_fault else ""
    started = step > 1 or math.isfinite(loss)
    hint = f"lower adapt.lr (now {spec.lr:g})" if started else "check the weights that it starts from"
    raise InputError(f"step {step} of adaptation: the loss is {loss:g}{tensor}: {hint}")


def _optimizer(params: Params, spec: "AdaptSpec") -> torch.optim.Optimizer:
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[spec.optimizer]
    return kind(params.values(), lr=spec.lr, weight_decay=spec.weight_decay)


def _rate(step: int, spec: "AdaptSpec") -> float:
    """What the learning rate is multiplied by."""
    if step < spec.warmup:
        return (step + 1) / (spec.warmup + 1)
    if spec.schedule == "constant":
        return 1.0
    if spec.steps is None:
        raise InputError("adapt.steps: a cosine schedule ends at the last step; give their number by spec.of_steps(n)")
    return (1 + math.cos(math.pi * (step - spec.warmup) / max(1, spec.steps - spec.warmup))) / 2
