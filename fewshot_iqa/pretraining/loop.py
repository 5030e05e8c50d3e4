"""The training loop of the embedded CLIP, with its optimiser, its start, and its resumable state."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..moments import moments, restore_moments
from ..rng import generator
from .pretrainer import MAX_LOGIT_SCALE, CLIPPretrainer

if TYPE_CHECKING:
    from ..config import PretrainSpec
    from .captions import CaptionedBatch

DECAY = 0.4  # share of the steps over which the learning rate falls


def train(
    pretrainer: CLIPPretrainer,
    optimizer: torch.optim.Optimizer,
    batches: Iterable["CaptionedBatch"],
    spec: "PretrainSpec",
    *,
    first: int,
    log: Callable[[Mapping[str, float]], None],
) -> None:
    """One optimiser step on each of `batches`, the first of which is step `first` of all stages.

    One learning-rate schedule runs over all stages. `log` receives the loss and its terms after each step. InputError
    where a loss, a gradient or, at the end, a weight is not finite.
    """
    clip, total = pretrainer.clip, sum(stage.steps for stage in spec.stages)
    for step, batch in enumerate(batches, start=first):
        for group in optimizer.param_groups:
            group["lr"] = spec.lr * _schedule(step, total, spec.warmup)
        free = (clip.image_size - batch.images.shape[-1]) // clip.patch_size + 1
        row, column = torch.randint(free, (2,), generator=generator(spec.seed, "corner", step)).tolist()
        with torch.autocast(pretrainer.mean.device.type, torch.bfloat16, enabled=spec.bf16):
            terms = pretrainer(batch, (row, column))
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(pretrainer.parameters(), 1.0)
        if not (loss.isfinite() and norm.isfinite()):
            raise InputError(f"step {step + 1} has no finite loss or gradient: lower lr (now {spec.lr:g})")
        optimizer.step()
        with torch.no_grad():
            clip.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
        log({"loss": loss.item(), **{name: term.item() for name, term in terms.items()}})
    require_finite(pretrainer.state_dict(), spec)


def require_finite(weights: Mapping[str, Tensor], spec: "PretrainSpec") -> None:
    """InputError where a weight is NaN or infinite, and so should not be saved."""
    for name, value in weights.items():
        if not value.isfinite().all():
            raise InputError(f"{name} is no longer finite: lower lr (now {spec.lr:g}); nothing of that was saved")


@torch.no_grad()
def whiten_patches(clip: Any, pixels: Tensor, noise: torch.Generator) -> None:
    """Initialise the patch embedding with cosines, each scaled to unit variance over `pixels` (B, 3, H, W).

    Random filters respond to little but the mean colour of a patch, while quality lies in the faint high frequencies.
    Two thirds of the filters are of luminance, the others of the two colour differences; `noise` draws the frequencies.
    """
    linear = clip.stem.linear if clip.stem else clip.visual.conv1
    width, _, side, _ = linear.weight.shape
    grid = (torch.arange(side) + 0.5) * math.pi / side
    waves = torch.cos(torch.arange(side)[:, None] * grid)  # (frequency, position)
    colours = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [0.5, 0.5, -1.0]])
    filters = []
    for colour, count in zip(colours, (width - 2 * (width // 6), width // 6, width // 6), strict=True):
        low = [i * side + j for i in range(4) for j in range(4)]
        drawn = [i for i in torch.randperm(side * side, generator=noise).tolist() if i not in low]
        for i in (low + drawn)[:count]:
            filters.append(colour[:, None, None] * torch.outer(waves[i // side], waves[i % side]))
    bank = torch.stack(filters).to(pixels)
    response = F.conv2d(pixels, bank, stride=side)
    linear.weight.copy_(bank / response.std(dim=(0, 2, 3))[:, None, None, None])


def make_optimizer(pretrainer: nn.Module, spec: "PretrainSpec") -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only: not on biases, norms and embeddings."""
    named = {name: p for name, p in pretrainer.named_parameters() if p.requires_grad}
    decay = [p for n, p in named.items() if p.ndim >= 2 and "embedding" not in n]
    rest = [p for n, p in named.items() if p.ndim < 2 or "embedding" in n]
    groups = [{"params": decay, "weight_decay": spec.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=spec.lr, betas=(0.9, 0.98))


def training_state(pretrainer: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The weights and the optimiser's moments by name: what a file needs for an interrupted run to resume."""
    weights = {f"weights.{name}": value.contiguous() for name, value in pretrainer.state_dict().items()}
    return weights | moments(optimizer, dict(pretrainer.named_parameters()))


def weights_in(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a `training_state`, by their names in the module."""
    return {name.removeprefix("weights."): v for name, v in state.items() if name.startswith("weights.")}


def restore(pretrainer: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Tensor]) -> None:
    """Load a `training_state` into the module and the optimiser."""
    pretrainer.load_state_dict(weights_in(state))
    restore_moments(optimizer, dict(pretrainer.named_parameters()), state)


def _schedule(step: int, total: int, warmup: int) -> float:
    """The factor of the learning rate: linear warm-up, constant, and a linear decay over the last 40 %."""
    return min((step + 1) / warmup, (total - step) / (DECAY * total), 1.0)
