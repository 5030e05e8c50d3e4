"""The specification of pre-training the embedded CLIP: configs/pretrain.yaml."""

from pathlib import Path

from pydantic import Field

from .spec import Spec


class SourceSpec(Spec):
    """A folder of clean photographs.

    Their content comes from a table `captions` with the columns image and caption, or from the file name: the first
    group of the pattern `content`. Without either it is unknown.
    """

    images: str
    content: str | None = None
    captions: str | None = None


class StageSpec(Spec):
    """A stage of `steps` steps, each on `batch` distorted photographs with `crops` square crops of `crop` pixels."""

    crop: int = Field(ge=16, multiple_of=16)
    steps: int = Field(gt=0)
    batch: int = Field(gt=1)
    crops: int = Field(1, gt=0)


class LanguageSpec(Spec):
    """Distillation of a sentence-embedding model, on the captions of the photographs and on `batch` sentences a step.

    `sentences` is a text file inside the root, one sentence a line.
    """

    sentences: str
    batch: int = Field(192, gt=0)
    weight: float = Field(4.0, gt=0)


class PretrainSpec(Spec):
    """Contrastive image-text training with quality calibrated to human ratings, in stages of growing crops."""

    architecture: str  # the name of one in assets/, or the path of a JSON file
    start: Path | None = None  # weights to start from (safetensors); default: random ones
    keep: float = Field(
        0, ge=0, lt=1
    )  # weight of `start` in the average with the trained weights that is written (WiSE-FT)
    stem: bool = False  # a frozen convolutional network, trained on ImageNet, beside the patch embedding
    sources: list[SourceSpec] = Field(min_length=1)
    stages: list[StageSpec] = Field(min_length=1)
    lr: float = Field(gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup: int = Field(100, gt=0)
    language: LanguageSpec | None = None
    min_side: int = Field(180, ge=32)  # smaller photographs are enlarged, and train content only
    max_side: int = Field(384, ge=32)  # the shorter side of larger ones is reduced to a random length between the two
    hold_out: list[str] = Field([])  # distortions that are not trained on
    faults: float = Field(0, ge=0, le=1)  # share of pictures with several distortions, as cameras produce them
    bf16: bool = False  # compute in bfloat16
    save_every: int = Field(100, gt=0)
    workers: int = Field(1, ge=0)  # processes that prepare pictures
    seed: int = 0
