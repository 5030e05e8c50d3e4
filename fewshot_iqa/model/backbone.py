"""The one adapter over open_clip: two ViT-CLIP towers, walked block by block so that prompts can enter anywhere."""

import hashlib
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from .. import resources
from ..errors import InputError, nearest
from .heads import summarize
from .stem import ConvStem, has_stem
from .weights import read_weights, require_names

PLACEHOLDER = "X"  # its token is replaced by a learned context vector


class Backbone(nn.Module):
    """The towers of an open_clip CLIP; parameter names are open_clip's (and OpenAI's) own, but for a stem's.

    `vision_width` Wv, `text_width` Wt, `vision_layers`, `image_size`, `mean`, `std`; `stem` where the image tower is
    a hybrid; `summary_width` S of what `summarize` returns; `fingerprint` of the weights as they were built.
    """

    attn_mask: Tensor

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
        self.register_buffer("attn_mask", clip.attn_mask, persistent=False)
        self.context_length = context_length
        self.patch_size: int = self.visual.patch_size[0]
        self.vision_width: int = self.visual.positional_embedding.shape[1]
        self.vision_layers = len(self.visual.transformer.resblocks)
        self.text_width = self.token_embedding.embedding_dim
        self.image_size: int = self.visual.image_size[0]
        self.mean: tuple[float, ...] = tuple(self.visual.image_mean or open_clip.OPENAI_DATASET_MEAN)
        self.std: tuple[float, ...] = tuple(self.visual.image_std or open_clip.OPENAI_DATASET_STD)
        self.summary_width = self.visual.output_dim + self.vision_width + (self.stem.width if self.stem else 0)
        self.fingerprint = _fingerprint(self)

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

        `prompts` (depth, N, Wv) enter after CLS, behind `ln_pre`, or `at_end`, after the patches and before it, and are
        replaced at each of the first `depth` layers; `end_norm` acts on all tokens after the last, and patch features
        are those behind it. Images smaller than the tower take their positional embeddings from a window of its grid,
        whose upper left patch is `corner` (row, column). `features` are those of the stem, where they are known.
        """
        x = self._walk(self._embed(images, corner, features), prompts, end_norm, at_end)
        pooled, _ = self.visual._pool(x)
        return pooled @ self.visual.proj, x[:, 1:]

    def encode_tokens(
        self,
        images: Tensor,
        prompts: Tensor | None = None,
        end_norm: nn.Module | None = None,
        at_end: bool = False,
    ) -> Tensor:
        """CLS and the patches behind `ln_post` (B, 1 + patches, Wv); times `visual.proj`, CLS is what `encode_image`
        gives with the same prompts."""
        return self.visual.ln_post(self._walk(self._embed(images, (0, 0), None), prompts, end_norm, at_end))

    def _walk(self, x: Tensor, prompts: Tensor | None, end_norm: nn.Module | None, at_end: bool) -> Tensor:
        """CLS and the patches after the last layer, from the two before `ln_pre`."""
        count = x.shape[1]
        if prompts is None:
            prompts = x.new_zeros(1, 0, x.shape[-1])
        first = prompts[0].expand(len(x), -1, -1)
        if at_end:
            x = self.visual.ln_pre(torch.cat([x, first], dim=1))
        else:
            x = self.visual.ln_pre(x)
            x = torch.cat([x[:, :1], first.to(x.dtype), x[:, 1:]], dim=1)
        for i, block in enumerate(self.visual.transformer.resblocks):
            if 0 < i < len(prompts):
                if at_end:
                    x = torch.cat([x[:, :count], prompts[i].expand(len(x), -1, -1).to(x.dtype)], dim=1)
                else:
                    x = _replaced(x, prompts[i])
            x = block(x)
        n = prompts.shape[1]
        x = x[:, :count] if at_end else torch.cat([x[:, :1], x[:, 1 + n :]], dim=1)
        return end_norm(x) if end_norm is not None else x

    def summarize(
        self,
        images: Tensor,
        prompts: Tensor | None = None,
        end_norm: nn.Module | None = None,
        at_end: bool = False,
    ) -> Tensor:
        """What a linear head reads of `images` (B, 3, H, W), with prompts as for `encode_image`: (B, S)."""
        features = self.stem.features(images) if self.stem else None
        embedding, patches = self.encode_image(images, prompts, end_norm, at_end, features=features)
        return summarize(embedding, patches, features)

    def _embed(self, images: Tensor, corner: tuple[int, int], features: Tensor | None) -> Tensor:
        tower = self.visual
        patches = tower.conv1(images) if features is None else tower.conv1(images, features)
        (rows, columns), (top, left) = patches.shape[-2:], corner
        positions = tower.positional_embedding[1:].unflatten(0, tower.grid_size)
        window = positions[top : top + rows, left : left + columns].flatten(0, 1)
        cls = (tower.class_embedding + tower.positional_embedding[0]).expand(len(images), 1, -1)
        return torch.cat([cls, patches.flatten(2).mT + window], dim=1)

    def encode_text(self, tokens: Tensor, context: Tensor | None = None, deeper: Tensor | None = None) -> Tensor:
        """Features (P, D), not normalised, of `tokens` (P, length), read at each row's end-of-text token.

        `context` (L, Wt) replaces the embeddings of the L tokens after start-of-text, and `deeper` (depth, L, Wt) what
        stands there at the next layers. The causal mask lets `length` stop at the last end-of-text.
        """
        x = self.token_embedding(tokens)
        if context is not None:
            x = _replaced(x, context)
        length = tokens.shape[1]
        x = x + self.positional_embedding[:length]
        mask = self.attn_mask[:length, :length]
        for i, block in enumerate(self.transformer.resblocks):
            if deeper is not None and 0 < i <= len(deeper):
                x = _replaced(x, deeper[i - 1])
            x = block(x, attn_mask=mask)
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


def _replaced(x: Tensor, tokens: Tensor) -> Tensor:
    """`x` (B, length, W) with `tokens` (N, W) in the place of those that follow the first."""
    return torch.cat([x[:, :1], tokens.expand(len(x), -1, -1).to(x.dtype), x[:, 1 + len(tokens) :]], dim=1)


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


def load_clip(name: str) -> Backbone:
    """Build a CLIP and load its weights, in evaluation mode and frozen.

    `name` is `tiny` (embedded), `ARCHITECTURE:TAG` with one of open_clip's pretrained tags (downloaded on first use),
    or `ARCHITECTURE:PATH` with a safetensors file, a state dict or an OpenAI archive. An architecture is one of
    open_clip's names or the path of a JSON file.
    """
    if name == "tiny":
        return load_clip(f"{resources.asset('tiny_clip.json')}:{resources.asset('tiny_clip.safetensors')}")
    architecture, colon, pretrained = name.rpartition(":")
    if not colon:
        raise InputError(f"--clip {name}: give 'tiny', NAME:PRETRAINED or NAME:/path/to/weights")
    architecture = _architecture(architecture)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if pretrained in tags:
        clip = _download(architecture, pretrained)
    elif Path(pretrained).is_file():
        clip = _create(architecture)
        _load_file(clip, architecture, Path(pretrained))
    else:
        raise InputError(
            f"--clip {name}: '{pretrained}' is neither a file nor a pretrained tag of {architecture}."
            f"{nearest(pretrained, tags)} Tags: {', '.join(tags) or 'none'}"
        )
    return _freeze(clip, architecture)


def portable(name: str) -> str:
    """`name` with file paths made absolute, so that a checkpoint finds its CLIP from any working directory."""
    parts = name.rpartition(":")
    return "".join(str(Path(part).resolve()) if Path(part).is_file() else part for part in parts)


def create_clip(architecture: str, *, stem: bool = False) -> Backbone:
    """A CLIP with freshly drawn weights (from torch's generator), trainable, for pre-training."""
    architecture = _architecture(architecture)
    clip = _create(architecture)
    if stem:
        _add_stem(clip)
    return Backbone(clip, _context_length(architecture))


def _add_stem(clip: open_clip.CLIP) -> None:
    visual: Any = clip.visual
    mean, std = visual.image_mean or open_clip.OPENAI_DATASET_MEAN, visual.image_std or open_clip.OPENAI_DATASET_STD
    visual.conv1 = ConvStem(visual.conv1, tuple(mean), tuple(std))


def _create(architecture: str, tag: str | None = None) -> open_clip.CLIP:
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)  # open_clip warns that weights are missing, which here come later
    try:
        return open_clip.create_model(architecture, pretrained=tag)
    finally:
        logging.disable(before)


def _freeze(clip: open_clip.CLIP, architecture: str) -> Backbone:
    backbone = Backbone(clip, _context_length(architecture))
    return backbone.float().eval().requires_grad_(False)


def _architecture(name: str) -> str:
    """The open_clip name for `name`, registering it first where it is the path of a JSON file."""
    if name.endswith(".json"):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"{name}: no such architecture file")
        open_clip.add_model_config(path)
        name = path.stem
    config = open_clip.get_model_config(name)
    if config is None:
        raise InputError(f"--clip: open_clip knows no architecture '{name}'.{nearest(name, open_clip.list_models())}")
    text = config.get("text_cfg", {})
    if text.get("hf_tokenizer_name") or text.get("no_causal_mask") or text.get("pool_type", "argmax") != "argmax":
        raise InputError(f"--clip: the text tower of '{name}' is not read like CLIP's (another tokenizer or mask)")
    return name


def _context_length(architecture: str) -> int:
    config = open_clip.get_model_config(architecture)
    assert config is not None
    return int(config["text_cfg"].get("context_length", 77))


def _quick_gelu(architecture: str) -> bool:
    config = open_clip.get_model_config(architecture)
    assert config is not None
    return bool(config.get("quick_gelu", False))


def _download(architecture: str, tag: str) -> open_clip.CLIP:
    wanted = open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu", False)
    _check_activation(architecture, bool(wanted), f"pretrained tag '{tag}'")
    try:
        return _create(architecture, tag)
    except Exception as error:  # the hub client raises many kinds; all of them mean that nothing came
        raise InputError(
            f"--clip {architecture}:{tag}: the weights could not be downloaded ({type(error).__name__}); "
            f"fetch them elsewhere and give --clip {architecture}:/path/to/weights"
        ) from error


def _load_file(clip: open_clip.CLIP, architecture: str, path: Path) -> None:
    weights, quick_gelu = read_weights(path)
    if has_stem(weights):
        _add_stem(clip)
    if quick_gelu is not None:
        _check_activation(architecture, quick_gelu, str(path))
    elif not architecture.endswith("-quickgelu") and f"{architecture}-quickgelu" in open_clip.list_models():
        warnings.warn(
            f"{path} does not say whether it was trained with QuickGELU; OpenAI's weights were: for those use "
            f"{architecture}-quickgelu",
            stacklevel=2,
        )
    require_names(clip.state_dict(), weights, path, architecture)
    clip.load_state_dict(weights)


def _check_activation(architecture: str, quick_gelu: bool, origin: str) -> None:
    if quick_gelu != _quick_gelu(architecture):
        other = architecture.removesuffix("-quickgelu") if not quick_gelu else f"{architecture}-quickgelu"
        raise InputError(
            f"{origin} was trained {'with' if quick_gelu else 'without'} QuickGELU, which {architecture} "
            f"{'lacks' if quick_gelu else 'has'}: its features would be wrong. Use {other}"
        )
