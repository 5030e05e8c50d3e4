"""Clean photographs -> distorted crops with captions, for pre-training the embedded CLIP."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from ..config import PretrainSpec, SourceSpec
from ..distortions import DISTORTIONS, SMALLEST_SIDE, compose, find
from ..errors import InputError
from ..files import photographs_in
from ..images import enlarge, random_view, read_image, shrink, to_float, to_uint8
from ..rng import generator, integer, key_seed
from .synthetic import IDENTITY, composed_quality

QUALITIES = ("bad", "poor", "fair", "good", "excellent")
CLEAN = "no distortion"
NOTHING = "something"  # the content of a photograph that nobody named
KINDS = (CLEAN, *(row.name.replace("_", " ") for row in DISTORTIONS))
# What goes wrong together in real cameras and pipelines; each part at a level of its own.
FAULTS = (
    ("lens_blur", "white_noise", "jpeg"),
    ("motion_blur", "white_noise"),
    ("darken", "white_noise", "jpeg"),
    ("darken", "multiplicative_noise", "denoise"),
    ("gaussian_blur", "high_sharpen"),
    ("high_sharpen", "jpeg"),
    ("brighten", "color_saturation_lab"),
    ("contrast_change", "gaussian_blur"),
    ("color_saturation_hsv", "jpeg2000"),
    ("white_noise_ycbcr", "jpeg"),
)
SEVERAL = -100  # the kind of a composed picture, or of one whose quality is not known: cross-entropy leaves it out
CONTENT = "a photo of {content}"
_TEMPLATES = (
    "a photo of {content}, {kind}, {quality} quality",
    "{content}, {quality} quality with {kind}",
    "a {quality} photo of {content} with {kind}",
    "{kind}, {quality} quality",
    CONTENT,
)


@dataclass(frozen=True)
class CaptionedBatch:
    """`images` (B·crops, 3, s, s) uint8, the crops of one photograph together; `captions` B, and what they say of its
    `contents`, nothing where that is not known; `quality` (B,), nan where it is not known; `kind` (B,) index into the
    data set's `kinds`, or SEVERAL; `sentences` of nothing that is shown."""

    images: Tensor
    captions: list[str]
    contents: list[str]
    quality: Tensor
    kind: Tensor
    sentences: list[str]


class CaptionedPhotographs(torch.utils.data.Dataset[CaptionedBatch]):
    """The batches of one stage. Item i is that of the run's step `first` + i, drawn from that number alone. `kinds` are
    the names of what is done to photographs: nothing, or a distortion that is not held out."""

    def __init__(self, root: Path, spec: PretrainSpec, stage: int) -> None:
        self.photographs = [
            item for source in spec.sources for item in captioned(root, source) if not held_out(item[0])
        ]
        self.spec, self.stage = spec, spec.stages[stage]
        held = {find(name).name for name in spec.hold_out}
        self.shown = [row.name for row in DISTORTIONS if row.name not in held]
        self.faults = [parts for parts in FAULTS if not held & set(parts)]
        self.kinds = (CLEAN, *(name.replace("_", " ") for name in self.shown))
        self.first = sum(earlier.steps for earlier in spec.stages[:stage])
        self.sentences = read_sentences(root / spec.language.sentences) if spec.language else []

    @property
    def texts(self) -> list[str]:
        """All that may be said of a photograph's content, and the sentences: each once."""
        contents = [clean(text) for _, texts in self.photographs for text in texts if text != NOTHING]
        return list(dict.fromkeys(contents + self.sentences))

    def __len__(self) -> int:
        return self.stage.steps

    def __getitem__(self, i: int) -> CaptionedBatch:
        noise = generator(self.spec.seed, "pretrain", self.first + i)
        least = max(self.spec.min_side, self.stage.crop)
        images: list[Tensor] = []
        captions, told, qualities, kinds = [], [], [], []
        for index in torch.randperm(len(self.photographs), generator=noise).tolist():
            path, contents = self.photographs[index]
            photograph = read_image(path)
            side = min(photograph.shape[-2:])
            if side < SMALLEST_SIDE or (side < least and contents == [NOTHING]):
                continue
            image, steps, quality = self._distorted(photograph, noise)
            content = clean(contents[integer(0, len(contents), noise)])
            kind = " and ".join(name.replace("_", " ") for name in steps) or CLEAN
            if side < least:  # enlarged, it looks worse than its distortion says
                captions.append(CONTENT.format(content=content))
                qualities.append(math.nan)
                kinds.append(SEVERAL)
            else:
                captions.append(_caption(content, kind, quality, noise))
                qualities.append(quality)
                kinds.append(self.kinds.index(kind) if len(steps) < 2 else SEVERAL)
            told.append(content if contents != [NOTHING] else "")
            image = enlarge(image, least)
            images += [random_view(image, self.stage.crop, noise) for _ in range(self.stage.crops)]
            if len(captions) == self.stage.batch:
                break
        if len(captions) < 2:
            raise InputError(f"a batch needs two photographs or more of {least} pixels a side: {len(captions)} found")
        extra = self.spec.language.batch if self.spec.language else 0
        drawn = [self.sentences[integer(0, len(self.sentences), noise)] for _ in range(extra)]
        return CaptionedBatch(torch.stack(images), captions, told, torch.tensor(qualities), torch.tensor(kinds), drawn)

    def _distorted(self, photograph: Tensor, noise: torch.Generator) -> tuple[Tensor, list[str], float]:
        """The picture, the names of what was done to it, and its quality: the product of its parts'."""
        low = max(self.spec.min_side, self.stage.crop)
        side = integer(low, max(low, self.spec.max_side) + 1, noise)
        image = shrink(photograph, side)
        if float(torch.rand((), generator=noise)) < self.spec.faults and self.faults:
            parts = self.faults[integer(0, len(self.faults), noise)]
            steps = [(name, 1 + 3 * float(torch.rand((), generator=noise))) for name in parts]
        else:
            kind = integer(0, len(self.kinds), noise)
            steps = [(self.shown[kind - 1], integer(1, 6, noise))] if kind else []
        if steps == [IDENTITY]:
            steps = []
        if not steps:
            return image, [], composed_quality(steps)
        distorted = to_uint8(compose(to_float(image), steps, generator=noise)[0])
        return distorted, [name for name, _ in steps], composed_quality(steps)


def held_out(photograph: Path) -> bool:
    """Whether this photograph never trains the embedded CLIP, and so may test it: one in ten, drawn by its name."""
    return key_seed(0, "held out", photograph.name) % 10 == 0


def captioned(root: Path, source: SourceSpec) -> list[tuple[Path, list[str]]]:
    """The photographs of a source, each with what may be said of its content."""
    folder = root / source.images
    photographs = photographs_in(folder)
    captions: dict[str, list[str]] = {}
    if source.captions:
        try:
            table = pd.read_csv(root / source.captions)
            captions = {str(image): list(texts) for image, texts in table.groupby("image")["caption"]}
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{root / source.captions}: not a table with the columns image and caption ({error})"
            ) from None
    return [(path, captions.get(path.name) or _content(path, source.content)) for path in photographs]


def _content(path: Path, pattern: str | None) -> list[str]:
    match = re.match(pattern, path.stem) if pattern else None
    return [f"a {match[1].replace('_', ' ').lower()}"] if match else [NOTHING]


def clean(text: str) -> str:
    """As it stands in a caption."""
    return text.strip(" .").lower()


def read_sentences(path: Path) -> list[str]:
    """One a line; InputError where there are none."""
    try:
        sentences = [text for line in path.read_text(encoding="utf-8").splitlines() if (text := clean(line))]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a text file with a sentence a line ({error})") from None
    if not sentences:
        raise InputError(f"{path}: no sentences")
    return sentences


def _caption(content: str, kind: str, quality: float, noise: torch.Generator) -> str:
    grade = QUALITIES[min(4, int(5 * quality))]
    template = _TEMPLATES[integer(0, len(_TEMPLATES), noise)]
    return template.format(content=content, kind=kind, quality=grade)
