"""Every specification, read strictly from YAML: an unknown key is an error that names the nearest known one."""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, TypeAdapter, ValidationError

from . import resources
from .errors import InputError, nearest


class Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# --- a method: configs/*.yaml ---


class VisualSpec(Spec):
    """A set of visual prompts: `length` tokens after CLS at each of the first `depth` layers (default: every)."""

    length: int = Field(gt=0)
    depth: int | None = Field(None, gt=0)
    project: bool = False  # one linear map shared by all layers
    dropout: float = Field(0.0, ge=0, lt=1)
    end_norm: bool = False  # a LayerNorm over all tokens after the last layer


class BranchSpec(Spec):
    """A text branch: its phrases, how many learned context tokens precede them, which visual set it looks through."""

    phrases: list[str] = Field(min_length=2)
    context: int = Field(0, ge=0)
    visual: str | None = None


class ModelSpec(Spec):
    """`quality` names the branch whose first phrase is the good one and whose second is the bad one.

    With the head `linear` no branch is needed: quality is linear in the features of the image.
    """

    visual: dict[str, VisualSpec] = {}
    branches: dict[str, BranchSpec] = {}
    quality: str = "quality"
    head: Literal["antonym", "linear"] = "antonym"
    normalize: Literal["clip", "imagenet", "none"] = "clip"

    def model_post_init(self, _: Any) -> None:
        if self.head == "antonym" and self.quality not in self.branches:
            raise InputError(f"model.quality: no branch is named '{self.quality}'")
        for name, branch in self.branches.items():
            if branch.visual is not None and branch.visual not in self.visual:
                raise InputError(f"model.branches.{name}.visual: no visual set is named '{branch.visual}'")


class LossTerm(Spec):
    kind: Literal["soft_cross_entropy", "mse"]
    branch: str = "quality"
    weight: float = Field(1.0, gt=0)


class ViewSpec(Spec):
    """How an image becomes crops: reduce, then cut `crop`-sized squares.

    `short_side` reduces larger images, keeping their shape; `square` resizes to an exact square instead, as the
    release of GRMP-IQA does. Training takes one random crop with a random flip, testing `count` fixed ones.
    """

    crop: int = Field(224, ge=16)
    short_side: int | None = Field(None, ge=16)
    square: int | None = Field(None, ge=16)
    count: Literal[1, 5] = 5

    def model_post_init(self, _: Any) -> None:
        if self.short_side and self.square:
            raise InputError("views: give short_side or square, not both")
        if min(self.short_side or self.crop, self.square or self.crop) < self.crop:
            raise InputError(f"views: images are reduced below the crop of {self.crop} pixels")


class MetaSpec(Spec):
    """GRMP-IQA's bi-level meta-training over distortions."""

    trainable: list[str] = Field(min_length=1)
    steps: int = Field(gt=0)
    episodes: int = Field(4, gt=0)  # per step
    support: int = Field(16, gt=0)
    query: int = Field(4, gt=0)
    inner_lr: float = Field(1e-4, gt=0)
    outer_lr: float = Field(1e-2, gt=0)
    validate_every: int = Field(20, gt=0)


class RegularizerSpec(Spec):
    """Quality-aware gradient regularisation against plain CLIP's distribution over the phrases of `branch`."""

    branch: str = "scene"
    strength: float = Field(5.0, ge=0)  # lambda
    temperature: float = Field(1.0, gt=0)


class AdaptSpec(Spec):
    """Few-shot fine-tuning: a fixed number of steps, one optimiser, nothing chosen on test data."""

    trainable: list[str] = Field(min_length=1)
    steps: int = Field(gt=0)
    batch: int = Field(32, gt=0)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(gt=0)
    weight_decay: float = Field(0.0, ge=0)
    regularizer: RegularizerSpec | None = None


class RidgeSpec(Spec):
    """Ridge regression of the shots' quality on frozen features; the penalty is the best of `penalties` by
    leave-one-out cross-validation inside the shots."""

    penalties: list[float] = Field([10 ** (i / 2) for i in range(-2, 13)], min_length=1)


class Config(Spec):
    """One method: a CLIP, prompts and branches, losses, views, and how each stage trains."""

    description: str
    clip: str = "tiny"
    model: ModelSpec
    loss: list[LossTerm] = []
    views: ViewSpec = ViewSpec()
    meta: MetaSpec | None = None  # a method without one has no meta-training
    adapt: AdaptSpec | None = None  # a method without this and the next learns nothing from the shots
    ridge: RidgeSpec | None = None  # adaptation in closed form, of the linear head
    seed: int = 0

    def model_post_init(self, _: Any) -> None:
        if self.ridge and (self.adapt or self.model.head != "linear"):
            raise InputError("ridge: needs model.head linear, and no adapt beside it")
        if (self.meta or self.adapt) and not self.loss:
            raise InputError("loss: meta and adapt need at least one term")
        used = [(f"loss.{i}.branch", term.branch) for i, term in enumerate(self.loss)]
        for key, branch in [("model.quality", self.model.quality), *used]:
            if branch in self.model.branches and len(self.model.branches[branch].phrases) != 2:
                raise InputError(f"{key}: '{branch}' has not two phrases, good and bad")
        if self.adapt and self.adapt.regularizer:
            used.append(("adapt.regularizer.branch", self.adapt.regularizer.branch))
        for key, branch in used:
            if branch not in self.model.branches:
                raise InputError(f"{key}: no branch is named '{branch}'")


# --- a source of records: tasks/*.yaml ---


class Columns(Spec):
    """Which column of a table holds what; an optional one that is absent is left out."""

    image: str = "image"
    score: str = "score"
    group: str = "group"
    prompt: str = "prompt"
    scene: str = "scene"
    distortion: str = "distortion"


class TableTask(Spec):
    """A table of rated pictures. Without `range`, the lowest and highest of the *shots* span the scale."""

    kind: Literal["table"]
    description: str
    root: Path | None = None
    labels: Path | None = None
    images: str = "."  # folder of the pictures inside root
    columns: Columns = Columns()
    range: tuple[float, float] | None = None
    lower_is_better: bool = False
    test: float = Field(0.2, gt=0, lt=1)


class SyntheticTask(Spec):
    """Clean photographs x distortions, labelled with the human mean of each (distortion, level)."""

    kind: Literal["synthetic"]
    description: str
    root: Path | None = None  # a folder of clean photographs, instead of `photographs`
    photographs: list[str] = []  # names of photographs that ship inside the dependencies
    short_side: int = Field(384, ge=32)
    distortions: list[str] | None = None  # default: all 25 of KADID
    levels: list[Annotated[int, Field(ge=1, le=5)]] = Field([1, 2, 3, 4, 5], min_length=1)
    hold_out: list[str] = []  # distortions kept for validation
    test: float = Field(0.2, gt=0, lt=1)  # share of the photographs kept for validation or testing


Task = Annotated[TableTask | SyntheticTask, Discriminator("kind")]


# --- pre-training of the embedded CLIP: configs/pretrain.yaml ---


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


class PretrainSpec(Spec):
    """Contrastive image-text training with human-calibrated quality, in stages of growing crops."""

    architecture: str  # the name of one in assets/, or the path of a JSON file
    start: Path | None = None  # weights to go on from (safetensors); default: fresh ones
    teacher: str | None = None  # a .tflite network under the root whose embedding is distilled
    sources: list[SourceSpec] = Field(min_length=1)
    stages: list[StageSpec] = Field(min_length=1)
    lr: float = Field(gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup: int = Field(100, gt=0)
    min_side: int = Field(180, ge=32)  # smaller photographs are left out
    max_side: int = Field(384, ge=32)  # the shorter side of larger ones is reduced to between the two
    faults: float = Field(0, ge=0, le=1)  # share of views with several distortions, as faults of cameras are
    bf16: bool = False  # compute in bfloat16, where the processor has it
    save_every: int = Field(100, gt=0)
    workers: int = Field(1, ge=0)  # processes that prepare pictures
    seed: int = 0


# --- reading ---

S = TypeVar("S", bound=Spec)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 floats: PyYAML alone reads 1e-4 as a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def read_yaml(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise InputError(f"{path}{line}: not valid YAML") from None


def load_config(name: str, overrides: Iterable[str] = ()) -> Config:
    """A method's specification; `overrides` are `dotted.key=value` strings with YAML values."""
    config: Config = _load("configs", name, Config, overrides)
    return config


def load_task(name: str, overrides: Iterable[str] = ()) -> TableTask | SyntheticTask:
    """A source of records, overridden likewise."""
    task: TableTask | SyntheticTask = _load("tasks", name, Task, overrides)
    return task


def revised(spec: S, **changes: Any) -> S:
    """The specification with some keys changed (None leaves a key as it is), checked as if read from a file."""
    given = {name: value for name, value in changes.items() if value is not None}
    result: S = _validate(TypeAdapter(type(spec)), spec.model_dump() | given, (), "options")
    return result


def load_pretrain(name: str, overrides: Iterable[str] = ()) -> PretrainSpec:
    """The recipe of the embedded CLIP, overridden likewise."""
    spec: PretrainSpec = _load("configs", name, PretrainSpec, overrides)
    return spec


def dump(spec: Spec) -> str:
    """The specification as YAML that reads back to the same."""
    return yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False)


@cache
def human_means() -> dict[str, list[float]]:
    """KADID-10k's mean opinion (1 bad .. 5 excellent) of each distortion at levels 1 to 5, over its 81 references."""
    means: dict[str, list[float]] = read_yaml(resources.find("tasks", "kadid_levels"))["means"]
    return means


def _load(folder: str, name: str, kind: Any, overrides: Iterable[str]) -> Any:
    path = resources.find(folder, name)
    return _validate(TypeAdapter(kind), read_yaml(path), overrides, str(path))


def _validate(adapter: TypeAdapter[Any], data: Any, overrides: Iterable[str], source: str) -> Any:
    if not isinstance(data, dict):
        raise InputError(f"{source}: expected keys and values")
    for override in overrides:
        _override(data, override)
    try:
        return adapter.validate_python(data)
    except ValidationError as error:
        raise InputError(f"{source}: {_explain(error, adapter)}") from None


def _override(data: dict[str, Any], override: str) -> None:
    dotted, equals, value = override.partition("=")
    if not equals or not dotted:
        raise InputError(f"--set {override}: expected dotted.key=value")
    *parents, leaf = dotted.strip().split(".")
    node = data
    for key in parents:
        if not isinstance(node.get(key), dict):
            node[key] = {}
        node = node[key]
    try:
        node[leaf] = yaml.load(value, Loader=_Loader)
    except yaml.YAMLError:
        raise InputError(f"--set {override}: the value is not valid YAML") from None


def _explain(error: ValidationError, adapter: TypeAdapter[Any]) -> str:
    first = error.errors()[0]
    dotted = ".".join(str(part) for part in first["loc"] if part not in ("table", "synthetic"))  # the kinds of task
    if first["type"] == "extra_forbidden":
        leaf = str(first["loc"][-1])
        return f"unknown key {dotted}.{nearest(leaf, _all_keys(adapter) - {leaf})}"
    if first["type"] == "missing":
        return f"the key {dotted} is missing"
    shown = "" if isinstance(first["input"], dict | list) else f" = {first['input']!r}"
    return f"{dotted or 'the file'}{shown}: {first['msg']}"


def _all_keys(adapter: TypeAdapter[Any]) -> set[str]:
    schema = adapter.json_schema()
    objects = [schema, *schema.get("$defs", {}).values()]
    return {key for item in objects for key in item.get("properties", {})}
