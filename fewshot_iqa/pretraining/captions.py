"""Clean photographs -> distorted crops with captions, for pre-training the embedded CLIP."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..config import PretrainSpec, SourceSpec
from ..data.synthetic import IDENTITY, composed_quality
from ..distortions import DISTORTIONS, SMALLEST_SIDE, compose, find
from ..errors import InputError, first_sentence
from ..files import photographs_in
from ..images import Picture, enlarge, random_view, read_image, shrink, to_float, to_uint8
from ..rng import generator, integer, key_seed

QUALITY_WORDS = ("bad", "poor", "fair", "good", "excellent")
CLEAN = "no distortion"
UNKNOWN_CONTENT = "something"  # what a caption calls the content of a photograph that has no caption of its own
KINDS = (CLEAN, *(row.name.replace("_", " ") for row in DISTORTIONS))
# Distortions that occur together in real cameras and pipelines; each is applied at a level of its own.
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
IGNORE_INDEX = -100  # the kind of a picture with several distortions, or of unknown quality: F.cross_entropy skips it
CONTENT_TEMPLATE = "a photo of {content}"
TEMPLATES = (
    "a photo of {content}, {kind}, {quality} quality",
    "{content}, {quality} quality with {kind}",
    "a {quality} photo of {content} with {kind}",
    "{kind}, {quality} quality",
    CONTENT_TEMPLATE,
)


@dataclass(frozen=True)
class CaptionedBatch:
    """One step's distorted photographs with their captions.

    `images` (B·crops, 3, s, s) uint8, the crops of one photograph together. `captions` (B) name content, distortion and
    quality; `contents` (B) the content alone, "" where it is unknown. `quality` (B,) is in [0, 1], nan where it is
    unknown. `kind` (B,) is an index into the data set's `kinds`, or IGNORE_INDEX. `sentences` are texts without an
    image.
    """

    images: Tensor
    captions: list[str]
    contents: list[str]
    quality: Tensor
    kind: Tensor
    sentences: list[str]


class CaptionedPhotographs(torch.utils.data.Dataset[CaptionedBatch]):
    """The batches of one stage of pre-training.

    Item i is the batch of step `first` + i of the whole run, drawn by that number alone. `kinds` are the distortion
    classes: "no distortion", and the names of the distortions that `spec.hold_out` does not hold out.
    """

    def __init__(self, root: Path, spec: PretrainSpec, stage: int) -> None:
        every = [item for source in spec.sources for item in captioned_photographs(root, source)]
        self.photographs = [item for item in every if not is_held_out(item[0])]
        self.spec, self.stage = spec, spec.stages[stage]
        held = {find(name).name for name in spec.hold_out}
        self.distortions = [row.name for row in DISTORTIONS if row.name not in held]
        self.faults = [parts for parts in FAULTS if not held & set(parts)]
        self.kinds = (CLEAN, *(name.replace("_", " ") for name in self.distortions))
        self.first = sum(earlier.steps for earlier in spec.stages[:stage])
        self.sentences = read_sentences(root / spec.language.sentences) if spec.language else []

    @property
    def texts(self) -> list[str]:
        """All contents of captions, and the sentences, without repetition."""
        contents = [normalize(text) for _, texts in self.photographs for text in texts if text != UNKNOWN_CONTENT]
        return list(dict.fromkeys(contents + self.sentences))

    def __len__(self) -> int:
        return self.stage.steps

    def __getitem__(self, i: int) -> CaptionedBatch:
        noise = generator(self.spec.seed, "pretrain", self.first + i)
        least = max(self.spec.min_side, self.stage.crop)
        images: list[Picture] = []
        captions, named, qualities, kinds = [], [], [], []
        for index in torch.randperm(len(self.photographs), generator=noise).tolist():
            path, contents = self.photographs[index]
            photograph = read_image(path)
            side = min(photograph.shape[-2:])
            if side < SMALLEST_SIDE or (side < least and contents == [UNKNOWN_CONTENT]):
                continue
            image, steps, quality = self._distorted(photograph, noise)
            content = normalize(contents[integer(0, len(contents), noise)])
            kind = " and ".join(name.replace("_", " ") for name in steps) or CLEAN
            if side < least:  # enlarging lowers the quality by an unknown amount
                captions.append(CONTENT_TEMPLATE.format(content=content))
                qualities.append(math.nan)
                kinds.append(IGNORE_INDEX)
            else:
                captions.append(_caption(content, kind, quality, noise))
                qualities.append(quality)
                kinds.append(self.kinds.index(kind) if len(steps) < 2 else IGNORE_INDEX)
            named.append(content if contents != [UNKNOWN_CONTENT] else "")
            image = enlarge(image, least)
            images += [random_view(image, self.stage.crop, noise) for _ in range(self.stage.crops)]
            if len(captions) == self.stage.batch:
                break
        if len(captions) < 2:
            raise InputError(f"a batch needs two photographs or more of {least} pixels a side: {len(captions)} found")
        extra = self.spec.language.batch if self.spec.language else 0
        drawn = [self.sentences[integer(0, len(self.sentences), noise)] for _ in range(extra)]
        pixels = torch.from_numpy(np.stack(images))
        return CaptionedBatch(pixels, captions, named, torch.tensor(qualities), torch.tensor(kinds), drawn)

    def _distorted(self, photograph: Picture, noise: torch.Generator) -> tuple[Picture, list[str], float]:
        """The photograph reduced and distorted, the names of the distortions, and the quality."""
        low = max(self.spec.min_side, self.stage.crop)
        side = integer(low, max(low, self.spec.max_side) + 1, noise)
        image = shrink(photograph, side)
        if float(torch.rand((), generator=noise)) < self.spec.faults and self.faults:
            parts = self.faults[integer(0, len(self.faults), noise)]
            steps = [(name, 1 + 3 * float(torch.rand((), generator=noise))) for name in parts]
        else:
            kind = integer(0, len(self.kinds), noise)
            steps = [(self.distortions[kind - 1], integer(1, 6, noise))] if kind else []
        if steps == [IDENTITY]:
            steps = []
        if not steps:
            return image, [], composed_quality(steps)
        distorted = to_uint8(compose(to_float(image), steps, generator=noise)[0])
        return distorted, [name for name, _ in steps], composed_quality(steps)


def is_held_out(photograph: Path) -> bool:
    """Whether a photograph never trains the embedded CLIP, and so may test it: one in ten, drawn by its file name."""
    return key_seed(0, "held out", photograph.name) % 10 == 0


def captioned_photographs(root: Path, source: SourceSpec) -> list[tuple[Path, list[str]]]:
    """The photographs of a source inside `root`, each with one or more descriptions of its content.

    These are its captions, or what its file name says, or UNKNOWN_CONTENT. InputError where the folder or the table of
    captions cannot be read.
    """
    photographs = photographs_in(root / source.images)
    captions: dict[str, list[str]] = {}
    if source.captions:
        try:
            table = pd.read_csv(root / source.captions)
            captions = {str(image): list(texts) for image, texts in table.groupby("image")["caption"]}
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{root / source.captions}: not a table with the columns image and caption ({first_sentence(error)})"
            ) from None
    return [(path, captions.get(path.name) or _content_of_name(path, source.content)) for path in photographs]


def _content_of_name(path: Path, pattern: str | None) -> list[str]:
    match = re.match(pattern, path.stem) if pattern else None
    return [f"a {match[1].replace('_', ' ').lower()}"] if match else [UNKNOWN_CONTENT]


def normalize(text: str) -> str:
    """Lower case, without surrounding spaces and full stops: a text as part of a caption."""
    return text.strip(" .").lower()


def read_sentences(path: Path) -> list[str]:
    """The sentences of a text file, one a line; InputError where it has none."""
    try:
        sentences = [text for line in path.read_text(encoding="utf-8").splitlines() if (text := normalize(line))]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a text file with a sentence a line ({first_sentence(error)})") from None
    if not sentences:
        raise InputError(f"{path}: no sentences")
    return sentences


def _caption(content: str, kind: str, quality: float, noise: torch.Generator) -> str:
    word = QUALITY_WORDS[min(4, int(5 * quality))]
    template = TEMPLATES[integer(0, len(TEMPLATES), noise)]
    return template.format(content=content, kind=kind, quality=word)
