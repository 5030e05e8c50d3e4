"""The losses that train the embedded CLIP: captions, names of distortions, and quality calibrated to human ratings."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..images import to_float
from ..losses import soft_cross_entropy

if TYPE_CHECKING:
    from .captions import CaptionedBatch

ANTONYMS = (
    ("high quality.", "low quality."),
    ("good photo.", "bad photo."),
    ("a photo with high quality.", "a photo with low quality."),
    ("a sharp, clean, natural photo.", "a degraded, damaged photo."),
)
MAX_LOGIT_SCALE = math.log(100)
QUALITY_WEIGHT = 4.0


@dataclass(frozen=True)
class SentenceEmbeddings:
    """The targets of language distillation: `embeddings` (T, E), L2-normalised, that a sentence-embedding model gives
    `texts`; and the `weight` of that loss term."""

    texts: Sequence[str]
    embeddings: Tensor
    weight: float


class CLIPPretrainer(nn.Module):
    """`clip` with auxiliary linear heads, which are dropped after training.

    `probe` predicts quality and distortion from the mean of the patch features: it gives the image tower a useful
    gradient long before the text tower can. `stem_head`, where the tower has a frozen convolutional stem, regresses the
    mean of the stem's features from the image embedding, so that the embedding keeps what the stem knows of content.
    `language_head`, with `sentences`, predicts the sentence embedding of a text from its CLIP embedding, and from the
    embedding of an image that it describes. `kinds` are the names of the distortion classes, "no distortion" first.
    """

    mean: Tensor
    std: Tensor
    sentence_embeddings: Tensor

    def __init__(self, clip: Any, kinds: Sequence[str], sentences: SentenceEmbeddings | None = None) -> None:
        super().__init__()
        self.clip = clip
        self.kind_phrases = [f"a photo with {kind}" for kind in kinds]
        width = clip.visual.output_dim
        self.probe = nn.Linear(clip.vision_width, len(kinds) + 2)
        self.stem_head = nn.Linear(width, clip.stem.width) if clip.stem else None
        self.language_head = nn.Linear(width, sentences.embeddings.shape[1]) if sentences else None
        self.row_of_text = {text: i for i, text in enumerate(sentences.texts)} if sentences else {}
        self.language_weight = sentences.weight if sentences else 0.0
        embeddings = sentences.embeddings if sentences else torch.empty(0)
        self.register_buffer("sentence_embeddings", embeddings, persistent=False)
        self.register_buffer("mean", torch.tensor(clip.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(clip.std).view(3, 1, 1), persistent=False)

    def pixels(self, images: Tensor) -> Tensor:
        """uint8 images (B, 3, H, W) as normalised floats, the input of the image tower."""
        return (to_float(images) - self.mean) / self.std

    def forward(self, batch: "CaptionedBatch", corner: tuple[int, int]) -> dict[str, Tensor]:
        """The weighted terms of the loss for a batch, scalars by name; their sum is the loss.

        `contrast`: CLIP's symmetric cross-entropy, all crops of a photograph matching its caption.
        `quality`: soft cross-entropy of each antonym pair to the quality.
        `kind`: cross-entropy over the phrases of the distortion classes.
        `probe`: the two terms above by the linear probe, without text.
        `stem`: mean squared error of `stem_head` to the batch-normalised mean features of the stem.
        `language`: 1 minus the cosine between the output of `language_head` and the sentence embedding, of texts and of
        images.

        `corner` (row, column) is where the crops lie in the grid of position embeddings. Images of unknown quality
        (nan), or of no single distortion class, have no part in the terms that need it.
        """
        device, crops = self.mean.device, len(batch.images) // len(batch.captions)
        quality = batch.quality.float().repeat_interleave(crops).to(device)
        kind = batch.kind.repeat_interleave(crops).to(device)
        has_quality, has_kind = quality.isfinite(), kind >= 0
        pixels = self.pixels(batch.images.to(device))
        stem_features = self.clip.stem.features(pixels) if self.clip.stem else None
        features, patches = self.clip.encode_image(pixels, corner=corner, features=stem_features)
        terms = {}

        scaled = self.clip.logit_scale.exp() * F.normalize(features, dim=-1)
        logits = scaled @ self._encode(batch.captions).T
        owner = torch.arange(len(batch.captions), device=device).repeat_interleave(crops)
        to_image = -logits.T.log_softmax(-1)[owner, torch.arange(len(owner), device=device)].mean()
        terms["contrast"] = (F.cross_entropy(logits, owner) + to_image) / 2

        logits = scaled @ self._encode([phrase for pair in ANTONYMS for phrase in pair] + self.kind_phrases).T
        pairs, names = logits[:, : 2 * len(ANTONYMS)].unflatten(1, (-1, 2)), logits[:, 2 * len(ANTONYMS) :]
        by_pair = [_masked(has_quality, soft_cross_entropy, pair, quality) for pair in pairs.unbind(1)]
        terms["quality"] = QUALITY_WEIGHT * torch.stack(by_pair).mean()
        terms["kind"] = _masked(has_kind, F.cross_entropy, names, kind)

        probed = self.probe(F.layer_norm(patches.mean(dim=1), patches.shape[-1:]))
        terms["probe"] = QUALITY_WEIGHT * _masked(has_quality, soft_cross_entropy, probed[:, :2], quality)
        terms["probe"] = terms["probe"] + _masked(has_kind, F.cross_entropy, probed[:, 2:], kind)

        if stem_features is not None and self.stem_head is not None:
            target = F.batch_norm(stem_features.mean(dim=(2, 3)), None, None, training=True)
            terms["stem"] = F.mse_loss(self.stem_head(features), target)
        if self.language_head is not None:
            embeddings = F.normalize(features, dim=-1).unflatten(0, (-1, crops))
            terms["language"] = self.language_weight * self._language_loss(batch, embeddings, self.language_head)
        return terms

    def _language_loss(self, batch: "CaptionedBatch", images: Tensor, head: nn.Module) -> Tensor:
        """Of a batch's texts, and of its image embeddings (B, crops, D) whose content is known."""
        named = [i for i, content in enumerate(batch.contents) if content]
        texts = [batch.contents[i] for i in named] + batch.sentences
        targets = self.sentence_embeddings[[self.row_of_text[text] for text in texts]].float()
        of_texts = 1 - F.cosine_similarity(head(self._encode(texts)), targets).mean()
        if not named:
            return of_texts
        return of_texts + 1 - F.cosine_similarity(head(images[named]), targets[: len(named), None], dim=-1).mean()

    def _encode(self, phrases: list[str]) -> Tensor:
        return F.normalize(self.clip.encode_text(self.clip.tokenize(phrases).to(self.mean.device)), dim=-1)


def _masked(rows: Tensor, loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor) -> Tensor:
    """The loss over the rows that a mask (B,) selects; 0 where it selects none."""
    return loss(logits[rows], target[rows]) if rows.any() else 0 * logits.sum()
