"""Clean photographs -> distorted crops with captions, for pre-training the embedded CLIP."""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from ..config import PretrainSpec, SourceSpec, human_means
from ..distortions import DISTORTIONS, distort
from ..errors import InputError
from ..images import find_images, random_view, read_image, shrink, to_float, to_uint8
from ..rng import generator
from .synthetic import OPINION

QUALITIES = ("bad", "poor", "fair", "good", "excellent")
CLEAN = "no distortion"
KINDS = (CLEAN, *(row.name.replace("_", " ") for row in DISTORTIONS))
_TEMPLATES = (
    "a photo of {content}, {kind}, {quality} quality",
    "{content}, {quality} quality with {kind}",
    "a {quality} photo of {content} with {kind}",
    "{kind}, {quality} quality",
    "a photo of {content}",
)


@dataclass(frozen=True)
class CaptionedBatch:
    """`images` (B·crops, 3, s, s) uint8, the crops of one photograph together; `captions` B; `quality` (B,);
    `kind` (B,) index into KINDS."""

    images: Tensor
    captions: list[str]
    quality: Tensor
    kind: Tensor


class CaptionedPhotographs(torch.utils.data.Dataset[CaptionedBatch]):
    """The batches of one stage. Item i is that of the run's step `first` + i, drawn from that number alone."""

    def __init__(self, root: Path, spec: PretrainSpec, stage: int) -> None:
        self.photographs = [item for source in spec.sources for item in _read_source(root, source)]
        self.spec, self.stage = spec, spec.stages[stage]
        self.first = sum(earlier.steps for earlier in spec.stages[:stage])
        self.means = human_means()

    def __len__(self) -> int:
        return self.stage.steps

    def __getitem__(self, i: int) -> CaptionedBatch:
        noise = generator(self.spec.seed, "pretrain", self.first + i)
        images, captions, qualities, kinds = [], [], [], []
        for index in torch.randperm(len(self.photographs), generator=noise).tolist():
            path, contents = self.photographs[index]
            photograph = read_image(path)
            if min(photograph.shape[-2:]) < max(self.spec.min_side, self.stage.crop):
                continue
            image, kind, opinion = self._distorted(photograph, noise)
            images += [random_view(image, self.stage.crop, noise) for _ in range(self.stage.crops)]
            captions.append(_caption(contents, KINDS[kind], opinion, noise))
            qualities.append(OPINION.quality(opinion))
            kinds.append(kind)
            if len(captions) == self.stage.batch:
                break
        return CaptionedBatch(torch.stack(images), captions, torch.tensor(qualities), torch.tensor(kinds))

    def _distorted(self, photograph: Tensor, noise: torch.Generator) -> tuple[Tensor, int, float]:
        low = max(self.spec.min_side, self.stage.crop)
        side = _integer(low, max(low, self.spec.max_side) + 1, noise)
        image = shrink(photograph, side)
        kind = _integer(0, len(KINDS), noise)
        if kind == 0:
            return image, 0, self.means["mean_shift"][2]  # its third level leaves the picture as it is
        name, level = DISTORTIONS[kind - 1].name, _integer(1, 6, noise)
        distorted = to_uint8(distort(to_float(image), name, level, generator=noise))
        opinion = self.means[name][level - 1]
        return distorted, 0 if (name, level) == ("mean_shift", 3) else kind, opinion


def _read_source(root: Path, source: SourceSpec) -> list[tuple[Path, list[str]]]:
    folder = root / source.images
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of photographs")
    captions: dict[str, list[str]] = {}
    if source.captions:
        table = pd.read_csv(root / source.captions)
        captions = {str(image): list(texts) for image, texts in table.groupby("image")["caption"]}
    return [(path, captions.get(path.name) or _content(path, source.content)) for path in find_images([folder])]


def _content(path: Path, pattern: str | None) -> list[str]:
    match = re.match(pattern, path.stem) if pattern else None
    return [f"a {match[1].replace('_', ' ').lower()}"] if match else ["something"]


def _caption(contents: list[str], kind: str, opinion: float, noise: torch.Generator) -> str:
    quality = QUALITIES[min(4, int((opinion - 1) / 0.8))]
    template = _TEMPLATES[_integer(0, len(_TEMPLATES), noise)]
    content = contents[_integer(0, len(contents), noise)].strip(" .").lower()
    return template.format(content=content, kind=kind, quality=quality)


def _integer(low: int, high: int, noise: torch.Generator) -> int:
    return int(torch.randint(low, high, (), generator=noise))
