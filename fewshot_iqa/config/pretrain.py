"""The pre-training of the embedded CLIP: configs/pretrain.yaml."""

from pathlib import Path

from pydantic import Field

from .spec import Spec


class SourceSpec(Spec):
    """A folder of clean photographs. What they show: the first group of `content`, matched to the file name, or a
    table `captions` with the columns image and caption."""

    images: str
    content: str | None = None
    captions: str | None = None


class StageSpec(Spec):
    """`batch` distorted photographs a step, `crops` square crops of each."""

    crop: int = Field(ge=16, multiple_of=16)
    steps: int = Field(gt=0)
    batch: int = Field(gt=1)
    crops: int = Field(1, gt=0)


class LanguageSpec(Spec):
    """What a sentence-embedding model teaches: of `batch` sentences a step, drawn from a file under the root that has
    one a line, and of the captions of the photographs."""

    sentences: str
    batch: int = Field(192, gt=0)
    weight: float = Field(4.0, gt=0)


class PretrainSpec(Spec):
    """Contrastive image-text training with human-calibrated quality, in stages of growing crops."""

    architecture: str  # the name of one in assets/, or the path of a JSON file
    start: Path | None = None  # weights to go on from (safetensors); default: fresh ones
    keep: float = Field(0, ge=0, lt=1)  # share of those in the mean with the trained ones that is written (WiSE-FT)
    stem: bool = False  # a frozen convolutional network, trained on ImageNet, beside the patch embedding
    sources: list[SourceSpec] = Field(min_length=1)
    stages: list[StageSpec] = Field(min_length=1)
    lr: float = Field(gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup: int = Field(100, gt=0)
    language: LanguageSpec | None = None
    min_side: int = Field(180, ge=32)  # smaller photographs are enlarged, and show content alone
    max_side: int = Field(384, ge=32)  # the shorter side of larger ones is reduced to between the two
    hold_out: list[str] = Field([])  # distortions that are never shown
    faults: float = Field(0, ge=0, le=1)  # share of views with several distortions, as faults of cameras are
    bf16: bool = False  # compute in bfloat16, where the processor has it
    save_every: int = Field(100, gt=0)
    workers: int = Field(1, ge=0)  # processes that prepare pictures
    seed: int = 0
