"""Pre-training of the embedded CLIP: captions, distortion names and human-calibrated quality, all through text."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..images import to_float
from ..losses import soft_cross_entropy
from ..moments import moments, restore_moments
from ..rng import generator

if TYPE_CHECKING:
    from ..config import PretrainSpec

ANTONYMS = (
    ("high quality.", "low quality."),
    ("good photo.", "bad photo."),
    ("a photo with high quality.", "a photo with low quality."),
    ("a sharp, clean, natural photo.", "a degraded, damaged photo."),
)
MAX_SCALE = math.log(100)
QUALITY_WEIGHT = 4.0
DECAY = 0.4  # share of the steps over which the learning rate falls


@dataclass(frozen=True)
class Lesson:
    """What texts mean to a sentence-embedding model: `embeddings` (T, E), L2-normalised, of `texts`; and the `weight`
    of learning it."""

    texts: Sequence[str]
    embeddings: Tensor
    weight: float


class CLIPPretrainer(nn.Module):
    """`clip` with linear maps that are dropped after training.

    A probe for quality and kind on the mean of the patch features shows the image tower the way, long before the text
    tower can. Where the tower has a stem, a pupil predicts the mean of its features from the image embedding, which so
    keeps what the stem knows of content. With a `lesson`, a speaker predicts what a text means from its embedding, and
    from that of an image that it describes. `kinds` are the names of the distortions.
    """

    mean: Tensor
    std: Tensor
    meaning: Tensor

    def __init__(self, clip: Any, kinds: Sequence[str], lesson: Lesson | None = None) -> None:
        super().__init__()
        self.clip = clip
        self.kinds = [f"a photo with {kind}" for kind in kinds]
        self.probe = nn.Linear(clip.vision_width, len(kinds) + 2)
        self.pupil = nn.Linear(clip.visual.output_dim, clip.stem.width) if clip.stem else None
        self.speaker = nn.Linear(clip.visual.output_dim, lesson.embeddings.shape[1]) if lesson else None
        self.rows = {text: i for i, text in enumerate(lesson.texts)} if lesson else {}
        self.weight = lesson.weight if lesson else 0.0
        self.register_buffer("meaning", lesson.embeddings if lesson else torch.empty(0), persistent=False)
        self.register_buffer("mean", torch.tensor(clip.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(clip.std).view(3, 1, 1), persistent=False)

    def pixels(self, images: Tensor) -> Tensor:
        """uint8 images as the tower wants them."""
        return (to_float(images) - self.mean) / self.std

    def forward(self, batch: Any, corner: tuple[int, int]) -> dict[str, Tensor]:
        """The terms of the loss for a `CaptionedBatch`.

        `contrast`: CLIP's symmetric cross-entropy, all crops of a photograph matching its caption; `quality`: soft
        cross-entropy of each antonym pair to the human mean; `kind`: cross-entropy over the kinds' names; `probe`:
        the last two without text; `stem`: mean squared error of the pupil to the batch-normalised features;
        `language`: 1 minus the cosine of what the speaker says and what is meant, of texts and of pictures.
        """
        device, crops = self.mean.device, len(batch.images) // len(batch.captions)
        quality = batch.quality.float().repeat_interleave(crops).to(device)
        kind = batch.kind.repeat_interleave(crops).to(device)
        pixels = self.pixels(batch.images.to(device))
        stem = self.clip.stem.features(pixels) if self.clip.stem else None
        features, patches = self.clip.encode_image(pixels, corner=corner, features=stem)
        summary = F.layer_norm(patches.mean(dim=1), patches.shape[-1:])
        probe = self.probe(summary)
        known, named = quality.isfinite(), kind >= 0
        seen = (
            _over(known, soft_cross_entropy, probe[:, :2], quality),
            _over(named, F.cross_entropy, probe[:, 2:], kind),
        )
        picture = self.clip.logit_scale.exp() * F.normalize(features, dim=-1)
        captions = picture @ self._encode(batch.captions).T
        owner = torch.arange(len(batch.captions), device=device).repeat_interleave(crops)
        to_image = -captions.T.log_softmax(-1)[owner, torch.arange(len(owner), device=device)].mean()
        fixed = picture @ self._encode([phrase for pair in ANTONYMS for phrase in pair] + self.kinds).T
        pairs, names = fixed[:, : 2 * len(ANTONYMS)].unflatten(1, (-1, 2)), fixed[:, 2 * len(ANTONYMS) :]
        told = torch.stack([_over(known, soft_cross_entropy, pair, quality) for pair in pairs.unbind(1)]).mean()
        terms = {
            "contrast": (F.cross_entropy(captions, owner) + to_image) / 2,
            "quality": QUALITY_WEIGHT * told,
            "kind": _over(named, F.cross_entropy, names, kind),
            "probe": QUALITY_WEIGHT * seen[0] + seen[1],
        }
        if stem is not None:
            assert self.pupil is not None
            target = F.batch_norm(stem.mean(dim=(2, 3)), None, None, training=True)
            terms["stem"] = F.mse_loss(self.pupil(features), target)
        if self.speaker is not None:
            pictures = F.normalize(features, dim=-1).unflatten(0, (-1, crops))
            terms["language"] = self.weight * self._language(batch, pictures)
        return terms

    def _language(self, batch: Any, pictures: Tensor) -> Tensor:
        """Of the contents and sentences of a batch, and of its pictures (B, crops, D)."""
        assert self.speaker is not None
        shown = [i for i, content in enumerate(batch.contents) if content]
        texts = [batch.contents[i] for i in shown] + batch.sentences
        meant = self.meaning[[self.rows[text] for text in texts]].float()
        text = 1 - F.cosine_similarity(self.speaker(self._encode(texts)), meant).mean()
        if not shown:
            return text
        seen = self.speaker(pictures[shown])
        return text + 1 - F.cosine_similarity(seen, meant[: len(shown), None], dim=-1).mean()

    def _encode(self, phrases: list[str]) -> Tensor:
        return F.normalize(self.clip.encode_text(self.clip.tokenize(phrases).to(self.mean.device)), dim=-1)


def pretrain(
    learner: CLIPPretrainer,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Any],
    spec: "PretrainSpec",
    *,
    first: int,
    log: Callable[[Mapping[str, float]], None],
) -> None:
    """Train on `batches`, numbered from step `first` of all stages, with one learning-rate schedule over them all."""
    clip, total = learner.clip, sum(stage.steps for stage in spec.stages)
    for step, batch in enumerate(batches, start=first):
        for group in optimizer.param_groups:
            group["lr"] = spec.lr * _schedule(step, total, spec.warmup)
        free = (clip.image_size - batch.images.shape[-1]) // clip.patch_size + 1
        corner = torch.randint(free, (2,), generator=generator(spec.seed, "corner", step)).tolist()
        with torch.autocast(learner.mean.device.type, torch.bfloat16, enabled=spec.bf16):
            terms = learner(batch, corner)
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            clip.logit_scale.clamp_(0, MAX_SCALE)
        log({"loss": loss.item(), **{name: term.item() for name, term in terms.items()}})


@torch.no_grad()
def whiten_patches(clip: Any, pixels: Tensor, noise: torch.Generator) -> None:
    """Start the patch embedding from cosines, each scaled to unit variance over `pixels` (B, 3, H, W).

    Random filters see little but the mean colour of a patch; quality lives in the faint high frequencies. Two thirds
    of the filters read luminance, the others the two colour differences; frequencies are drawn with `noise`.
    """
    linear = clip.stem.linear if clip.stem else clip.visual.conv1
    width, _, side, _ = linear.weight.shape
    grid = (torch.arange(side) + 0.5) * math.pi / side
    waves = torch.cos(torch.arange(side)[:, None] * grid)  # (frequency, place)
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


def make_optimizer(learner: nn.Module, spec: "PretrainSpec") -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only."""
    named = {name: p for name, p in learner.named_parameters() if p.requires_grad}
    decay = [p for n, p in named.items() if p.ndim >= 2 and "embedding" not in n]
    rest = [p for n, p in named.items() if p.ndim < 2 or "embedding" in n]
    groups = [{"params": decay, "weight_decay": spec.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=spec.lr, betas=(0.9, 0.98))


def training_state(learner: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights and optimiser moments by name, for a file that a killed run goes on from."""
    weights = {f"weights.{name}": value.contiguous() for name, value in learner.state_dict().items()}
    return weights | moments(optimizer, dict(learner.named_parameters()))


def weights_in(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a `training_state`, by their own names."""
    return {name.removeprefix("weights."): v for name, v in state.items() if name.startswith("weights.")}


def restore(learner: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Tensor]) -> None:
    """Undo `training_state`."""
    learner.load_state_dict(weights_in(state))
    restore_moments(optimizer, dict(learner.named_parameters()), state)


def _over(rows: Tensor, loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor) -> Tensor:
    """The loss of some rows (B,); 0 where there are none."""
    return loss(logits[rows], target[rows]) if rows.any() else 0 * logits.sum()


def _schedule(step: int, total: int, warmup: int) -> float:
    """Up over `warmup` steps, level, and straight down over the last 40 %."""
    return min((step + 1) / warmup, (total - step) / (DECAY * total), 1.0)
