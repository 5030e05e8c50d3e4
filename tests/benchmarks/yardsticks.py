"""What `fsiqa bench` compares with: GRMP-IQA as its authors released it, and bare open_clip. Written plainly.

As released: 77 text tokens, float32, all prompts pass all layers, the teacher runs in each step, two backward passes,
one image is loaded at a time.
"""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
QUALITY = ("X X X X high quality.", "X X X X low quality.")
SCENES = ("animal", "cityscape", "human", "indoor", "landscape", "night", "plant", "still_life", "others")


def random_clip(architecture: str, device: str) -> open_clip.CLIP:
    return open_clip.create_model(architecture, device=device).eval()


class Released(nn.Module):
    """CLIP with deep visual prompts and a learned text context."""

    def __init__(self, clip: open_clip.CLIP, prompts: int = 100) -> None:
        super().__init__()
        self.clip = clip
        width, layers = clip.visual.conv1.out_channels, len(clip.visual.transformer.resblocks)
        self.context = nn.Parameter(torch.randn(4, clip.token_embedding.embedding_dim) * 0.02)
        self.tokens = nn.Parameter(torch.empty(layers, prompts, width).uniform_(-0.06, 0.06))
        self.project, self.dropout = nn.Linear(width, width), nn.Dropout(0.1)
        self.prompt_norm = nn.LayerNorm(width, eps=1e-6)
        self.register_buffer("quality", open_clip.tokenize(list(QUALITY)))
        self.register_buffer("scenes", open_clip.tokenize([f"a photo of a {scene}" for scene in SCENES]))

    def image(self, images: Tensor) -> Tensor:
        visual, count = self.clip.visual, self.tokens.shape[1]
        x = visual.conv1(images).flatten(2).transpose(1, 2)
        x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1) + visual.positional_embedding
        x = visual.ln_pre(x)
        for i, block in enumerate(visual.transformer.resblocks):
            prompts = self.dropout(self.project(self.tokens[i])).expand(len(x), -1, -1)
            x = torch.cat([x[:, :1], prompts, x[:, 1 + (count if i else 0) :]], dim=1)
            x = block(x)
        x = visual.ln_post(self.prompt_norm(x))
        return F.normalize(x[:, 0] @ visual.proj, dim=-1)

    def text(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        x = self.clip.token_embedding(tokens)
        if context is not None:
            x = torch.cat([x[:, :1], context.expand(len(x), -1, -1), x[:, 5:]], dim=1)
        x = x + self.clip.positional_embedding
        for block in self.clip.transformer.resblocks:
            x = block(x, attn_mask=self.clip.attn_mask)
        x = self.clip.ln_final(x)[torch.arange(len(x)), tokens.argmax(dim=-1)]
        return F.normalize(x @ self.clip.text_projection, dim=-1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        seen, scale = self.image(images), self.clip.logit_scale.exp()
        return scale * seen @ self.text(self.quality, self.context).T, scale * seen @ self.text(self.scenes).T


class Teacher(nn.Module):
    """Plain CLIP, which names the scene."""

    def __init__(self, clip: open_clip.CLIP) -> None:
        super().__init__()
        self.clip, self.tokens = clip, open_clip.tokenize([f"a photo of a {scene}" for scene in SCENES])

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        seen = self.clip.encode_image(images, normalize=True)
        text = self.clip.encode_text(self.tokens.to(images.device), normalize=True)
        return (self.clip.logit_scale.exp() * seen @ text.T).softmax(dim=-1)


def load(path: Path) -> Tensor:
    """An image as the release reads it in training: 244 x 244, a random crop of 224, flipped or not."""
    image = Image.open(path).convert("RGB").resize((244, 244), Image.Resampling.BILINEAR)
    top, left = torch.randint(21, (2,)).tolist()
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[:, top : top + 224, left : left + 224] / 255
    return (pixels.flip(-1) if torch.rand(()) < 0.5 else pixels).sub(MEAN).div(STD)


def quality_loss(logits: Tensor, quality: Tensor) -> Tensor:
    log = logits.log_softmax(dim=-1)
    return -(quality * log[:, 0] + (1 - quality) * log[:, 1]).mean()


class Adaptation:
    """Fine-tuning with QGR: the context, the last four blocks of both towers, and their last norms."""

    def __init__(self, architecture: str, device: str) -> None:
        clip = random_clip(architecture, device)
        self.model, self.teacher = Released(clip).to(device).train(), Teacher(copy.deepcopy(clip)).eval()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        visual, text = clip.visual, clip
        modules = [*visual.transformer.resblocks[-4:], *text.transformer.resblocks[-4:], visual.ln_post, text.ln_final]
        self.trained = [self.model.context, *(p for module in modules for p in module.parameters())]
        for parameter in self.trained:
            parameter.requires_grad_(True)
        self.optimizer = torch.optim.SGD(self.trained, lr=1e-3, weight_decay=1e-4)

    def step(self, paths: list[Path], quality: Tensor) -> None:
        images = torch.stack([load(path) for path in paths]).to(quality)
        logits, scenes = self.model(images)
        target = self.teacher(images)
        semantic = -(target * scenes.log_softmax(dim=-1)).sum(dim=-1).mean()
        loss = quality_loss(logits, quality)
        theirs = torch.autograd.grad(semantic, self.trained, retain_graph=True, allow_unused=True)
        ours = torch.autograd.grad(loss, self.trained)
        for parameter, g, s in zip(self.trained, ours, theirs, strict=True):
            inner = 0 if s is None else (g * s).sum()
            parameter.grad = g if s is None or inner <= 0 else g - 5 * inner / (s * s).sum() * s
        self.optimizer.step()


class MetaTraining:
    """A task of the bi-level stage: a step of Adam on the support, one on the query."""

    def __init__(self, architecture: str, device: str) -> None:
        self.model = Released(random_clip(architecture, device)).to(device).train()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        own = [self.model.context, self.model.tokens]
        self.trained = [*own, *self.model.project.parameters(), *self.model.prompt_norm.parameters()]
        for parameter in self.trained:
            parameter.requires_grad_(True)

    def task(self, support: tuple[Tensor, Tensor], query: tuple[Tensor, Tensor]) -> list[Tensor]:
        before = [parameter.detach().clone() for parameter in self.trained]
        optimizer = torch.optim.Adam(self.trained, lr=1e-4)
        for images, quality in (support, query):
            loss = quality_loss(self.model(images)[0], quality)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        moved = [old - new.detach() for old, new in zip(before, self.trained, strict=True)]
        for parameter, old in zip(self.trained, before, strict=True):
            parameter.data.copy_(old)
        return moved


def bare(architecture: str, device: str, images: Tensor) -> Callable[[], Tensor]:
    """open_clip's own embedding of images."""
    clip = random_clip(architecture, device)
    return torch.no_grad()(lambda: clip.encode_image(images, normalize=True))
