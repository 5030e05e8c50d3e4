"""The specification of pre-training the embedded CLIP: configs/pretrain.yaml."""

from pathlib import Path

from pydantic import Field

from .spec import Spec


class SourceSpec(Spec):
    """A folder of clean photographs. Their content is unknown without `content` and `captions`."""

    images: str
    """The folder, inside the root."""
    content: str | None = None
    """A pattern whose first group, matched to the file name, is the content."""
    captions: str | None = None
    """A table of the content, with the columns image and caption."""


class StageSpec(Spec):
    """A stage of training, at one size of crops."""

    crop: int = Field(ge=16, le=10_000, multiple_of=16)
    """Side of a crop in pixels."""
    steps: int = Field(gt=0, le=10_000_000)
    """Number of steps."""
    batch: int = Field(gt=1, le=100_000)
    """Distorted photographs of a step."""
    crops: int = Field(1, gt=0, le=1000)
    """Crops of each."""


class LanguageSpec(Spec):
    """Distillation of a sentence-embedding model on captions and sentences."""

    sentences: str
    """A text file inside the root, one sentence a line."""
    batch: int = Field(192, gt=0, le=100_000)
    """Sentences of a step."""
    weight: float = Field(4.0, gt=0, le=1e6)
    """Factor of its loss."""


class PretrainSpec(Spec):
    """Contrastive image-text training with quality calibrated to human ratings, in stages of growing crops."""

    architecture: str
    """The name of an architecture in `assets/`, or the path of a JSON file."""
    start: Path | None = None
    """Weights to start from (.safetensors); null: random ones."""
    keep: float = Field(0, ge=0, lt=1)
    """Weight of `start` in its average with the trained weights, which is written (WiSE-FT)."""
    stem: bool = False
    """Whether a frozen convolutional network, trained on ImageNet, stands beside the patch embedding."""
    sources: list[SourceSpec] = Field(min_length=1)
    """The folders of photographs."""
    stages: list[StageSpec] = Field(min_length=1)
    """The stages, in order."""
    lr: float = Field(gt=0)
    """Learning rate."""
    weight_decay: float = Field(0.05, ge=0)
    """Weight decay of matrices."""
    warmup: int = Field(100, gt=0, le=1_000_000)
    """Number of steps in which the learning rate rises from zero."""
    language: LanguageSpec | None = None
    """Distillation of a sentence-embedding model; null: none."""
    min_side: int = Field(180, ge=32, le=20_000)
    """Least shorter side in pixels; smaller photographs are enlarged, and train content only."""
    max_side: int = Field(384, ge=32, le=20_000)
    """Greatest shorter side in pixels; larger photographs are reduced to a random one between both."""
    hold_out: list[str] = Field([])
    """Distortions that are not trained on."""
    faults: float = Field(0, ge=0, le=1)
    """Share of pictures with several distortions, as cameras produce them."""
    bf16: bool = False
    """Whether to compute in bfloat16."""
    save_every: int = Field(100, gt=0)
    """Steps between two saved training states."""
    workers: int = Field(1, ge=0, le=1000)
    """Number of processes that prepare pictures."""
    seed: int = 0
    """Seed of all that is random."""
