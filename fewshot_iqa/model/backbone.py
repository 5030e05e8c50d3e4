"""The adapter over open_clip: two ViT-CLIP towers, walked block by block so that prompts can enter anywhere."""

import hashlib
from collections.abc import Sequence
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from ..errors import InputError
from .stem import ConvStem
from .tower import run_layer, run_layers, run_layers_plainly

DEEP = 16  # pixels, the stride of a level
FEWEST = 4  # rows of a product: libraries add up fewer in another order, which changes the last bits
PLACEHOLDER = "X"  # its token is replaced by a learned context vector


class Backbone(nn.Module):
    """The towers of an open_clip CLIP; parameter names are open_clip's (and OpenAI's) own, but for a stem's.

    `vision_width` Wv, `text_width` Wt, `vision_layers`, `image_size`, `mean`, `std`; `stem` where the image tower is
    a hybrid; `pooled_width` S of the features that `encode` returns; `fingerprint`, a hash of the weights
    before any tuning. `plain` ones run the layers as open_clip does, and
    the stem on all images at once.
    """

    plain = False

    def __init__(self, clip: open_clip.CLIP, context_length: int) -> None:
        super().__init__()
        if not isinstance(clip, open_clip.CLIP) or not isinstance(clip.visual, VisionTransformer):
            raise InputError("only CLIP models with a ViT image tower of open_clip's own are supported")
        self.visual: Any = clip.visual
        self.transformer = clip.transformer
        self.token_embedding = clip.token_embedding
        self.positional_embedding = clip.positional_embedding
        self.ln_final = clip.ln_final
        self.text_projection = clip.text_projection
        self.logit_scale = clip.logit_scale
        self.context_length = context_length
        self.patch_size: int = self.visual.patch_size[0]
        self.vision_width: int = self.visual.positional_embedding.shape[1]
        self.vision_layers = len(self.visual.transformer.resblocks)
        self.text_width = self.token_embedding.embedding_dim
        self.image_size: int = self.visual.image_size[0]
        self.mean: tuple[float, ...] = tuple(self.visual.image_mean or open_clip.OPENAI_DATASET_MEAN)
        self.std: tuple[float, ...] = tuple(self.visual.image_std or open_clip.OPENAI_DATASET_STD)
        self.pooled_width = self.visual.output_dim + self.vision_width + (self.stem.width if self.stem else 0)
        self.fingerprint = _fingerprint(self)

    @property
    def pools_cls(self) -> bool:
        """Whether the embedding is that of the first token, as in OpenAI's towers."""
        return self.visual.attn_pool is None and self.visual.pool_type == "tok"

    @property
    def deep_groups(self) -> list[slice]:
        """The groups of pooled features from which a prior mean is predicted: the embedding, the patches, and each
        level of the stem of stride 16 or more. Shallower levels fall with blur and rise with noise."""
        ends = [0, self.visual.output_dim, self.visual.output_dim + self.vision_width]
        groups = [slice(*ends[:2]), slice(*ends[1:])]
        if self.stem is not None:
            start = ends[-1]
            for channels, stride in self.stem.levels:
                groups += [slice(start, start + channels)] if stride >= DEEP else []
                start += channels
        return groups

    @property
    def stem(self) -> ConvStem | None:
        return self.visual.conv1 if isinstance(self.visual.conv1, ConvStem) else None

    def encode_image(
        self,
        images: Tensor,
        prompts: Tensor | None = None,
        end_norm: nn.Module | None = None,
        at_end: bool = False,
        corner: tuple[int, int] = (0, 0),
        features: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """CLS features (B, D) and patch features (B, patches, Wv), not normalised, of `images` (B, 3, H, W).

        `prompts` are as for `run_layers`; `end_norm` acts on all tokens after the last layer. Images smaller than the
        tower take their positional embeddings from a window of its grid, whose upper left patch is `corner` (row,
        column). `features` are those of the stem, where they are known.
        """
        x = self.run_layers(self._embed(images, corner, features), prompts, at_end)
        x = end_norm(x) if end_norm is not None else x
        return self.visual._pool(x)[0] @ self.visual.proj, x[:, 1:]

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """The tokens that enter the first layer, CLS and the patches (B, 1 + patches, Wv), of `images` (B, 3, H, W);
        and the mean of the stem's features, where there is one."""
        features = self.stem.features(images, self.plain) if self.stem else None
        tokens = self._embed(images, (0, 0), features)
        return tokens, None if features is None else features.mean(dim=(2, 3))

    def run_layers(
        self,
        tokens: Tensor,
        prompts: Tensor | None = None,
        at_end: bool = False,
        *,
        first: int = 0,
        last: int | None = None,
        read: int | None = None,
    ) -> Tensor:
        """`tokens` behind the layers from `first` on, up to `last`; the first `read` of them.

        `prompts` (depth, N, Wv) enter beside them at each of the first `depth` layers, in the place of those of the
        layer before; the first of them behind `ln_pre`, or `at_end`, before it.
        """
        entering = [] if prompts is None else list(prompts)
        if entering and at_end:
            entering[0] = self.visual.ln_pre(entering[0])
        blocks = list(self.visual.transformer.resblocks)[first:last]
        if self.plain and not first:
            return run_layers_plainly(blocks, tokens, entering)[:, :read]
        return run_layers(blocks, tokens, entering, first=first, read=read)

    def pool(self, tokens: Tensor, stem: Tensor | None = None) -> Tensor:
        """Pooled features (B, S) of the `tokens` behind the last layer: the L2-normalised embedding (D), the mean of
        the patch features, layer-normalised (Wv), and `stem`; of CLS alone, the embedding alone."""
        embedding = F.normalize(_project(self.visual._pool(tokens)[0], self.visual.proj), dim=-1)
        if tokens.shape[1] == 1:
            return embedding
        mean = tokens[:, 1:].mean(dim=1)
        parts = [embedding, F.layer_norm(mean, mean.shape[-1:])]
        return torch.cat([*parts, *([] if stem is None else [stem])], dim=-1)

    def share(self) -> "Backbone":
        """A backbone on the same memory; what is moved, converted or replaced in it stays as it is in this one."""
        return _shared_copy(self, {})

    def _embed(self, images: Tensor, corner: tuple[int, int], features: Tensor | None) -> Tensor:
        tower = self.visual
        patches = tower.conv1(images) if features is None else tower.conv1(images, features)
        (rows, columns), (top, left) = patches.shape[-2:], corner
        positions = tower.positional_embedding[1:].unflatten(0, tower.grid_size)
        window = positions[top : top + rows, left : left + columns].flatten(0, 1)
        cls = (tower.class_embedding + tower.positional_embedding[0]).expand(images.shape[0], 1, -1)
        return tower.ln_pre(torch.cat([cls, patches.flatten(2).mT + window], dim=1))

    def encode_text(self, tokens: Tensor, context: Tensor | None = None, deeper: Tensor | None = None) -> Tensor:
        """Features (P, D), not normalised, of `tokens` (P, length), read at each row's end-of-text token.

        `context` (L, Wt) replaces the embeddings of the L tokens after start-of-text, and `deeper` (depth, L, Wt) what
        stands there at the next layers. The causal mask lets `length` stop at the last end-of-text.
        """
        x = self.token_embedding(tokens)
        if context is not None:
            x = _replaced(x, context)
        x = x + self.positional_embedding[: tokens.shape[1]]
        for i, block in enumerate(self.transformer.resblocks):
            if deeper is not None and 0 < i <= len(deeper):
                x = _replaced(x, deeper[i - 1])
            x = run_layer(block, x, causal=True)
        x = self.ln_final(x)[torch.arange(len(x)), tokens.argmax(dim=-1)]
        return x @ self.text_projection

    def tokenize(self, phrases: Sequence[str], context: int = 0, *, truncate: bool = False) -> Tensor:
        """Token ids (P, length), cut behind the longest phrase's end-of-text.

        `context` placeholder tokens stand before each phrase. Where one does not fit, InputError, or with `truncate` it
        loses its end.
        """
        placeholders = [PLACEHOLDER] * context
        rows = [_tokenizer().encode(" ".join([*placeholders, phrase])) for phrase in phrases]
        if truncate:
            rows = [row[: self.context_length - 2] for row in rows]
        for phrase, row in zip(phrases, rows, strict=True):
            if len(row) + 2 > self.context_length:
                raise InputError(
                    f"phrase '{phrase[:60]}' with {context} context tokens is {len(row) + 2} tokens long; "
                    f"this CLIP reads {self.context_length}"
                )
        return pad_tokens(rows)

    @torch.no_grad()
    def nearest_tokens(self, vectors: Tensor, count: int) -> list[list[str]]:
        """The `count` tokens whose embeddings are nearest to each of `vectors` (L, Wt) by cosine, the nearest first."""
        cosine = F.normalize(vectors, dim=-1) @ F.normalize(self.token_embedding.weight, dim=-1).T
        nearest = cosine.topk(min(count, cosine.shape[1]), dim=-1).indices.tolist()
        return [[_tokenizer().decode([token]).strip() for token in row] for row in nearest]


def _shared_copy(value: Any, known: dict[int, Any]) -> Any:
    """A module, parameter or buffer on the same memory. As copy.deepcopy would make it, but quicker."""
    if value is None or id(value) in known:
        return known.get(id(value))
    if isinstance(value, nn.Module):
        copied = known[id(value)] = object.__new__(type(value))
        attributes = vars(value)
        copied.__dict__ |= {name: _own(one) if isinstance(one, dict) else one for name, one in attributes.items()}
        for part in ("_parameters", "_buffers", "_modules"):
            copied.__dict__[part] = {name: _shared_copy(one, known) for name, one in attributes[part].items()}
    elif isinstance(value, nn.Parameter):
        known[id(value)] = nn.Parameter(value.detach(), value.requires_grad)
    else:
        known[id(value)] = value.detach()
    return known[id(value)]


def _own(given: dict[str, Any]) -> dict[str, Any]:
    return given.copy() if given else type(given)()  # most hold no hooks, and to copy an OrderedDict takes long


def _project(rows: Tensor, weight: Tensor) -> Tensor:
    """`rows` (B, Wv) @ `weight` (Wv, D), the same of a picture whatever others are with it."""
    return (F.pad(rows, (0, 0, 0, FEWEST - 1)) @ weight)[: 1 - FEWEST]


def _replaced(x: Tensor, tokens: Tensor) -> Tensor:
    """`x` (B, length, W) with `tokens` (N, W) in the place of those that follow the first."""
    return torch.cat([x[:, :1], tokens.expand(x.shape[0], -1, -1).to(x.dtype), x[:, 1 + len(tokens) :]], dim=1)


def _fingerprint(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def pad_tokens(rows: Sequence[Sequence[int]]) -> Tensor:
    """Start- and end-of-text around each row, zeros behind: (P, longest)."""
    start, end = _tokenizer().sot_token_id, _tokenizer().eot_token_id
    framed = [torch.tensor([start, *row, end]) for row in rows]
    return nn.utils.rnn.pad_sequence(framed, batch_first=True)


def _tokenizer() -> open_clip.SimpleTokenizer:
    return open_clip.tokenizer._tokenizer
