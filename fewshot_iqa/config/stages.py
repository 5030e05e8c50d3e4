"""The stages in which a method trains: its sections `meta` and `adapt`."""

from typing import Any, Literal

from pydantic import Field, ValidationError

from ..errors import InputError
from .messages import explain
from .spec import Spec, deep_merge


class MetaSpec(Spec):
    """Meta-training of prompts over distortions (GRMP-IQA, Reptile, MAML and others)."""

    algorithm: Literal["bilevel", "reptile", "fomaml", "maml", "joint"] = "bilevel"
    """How a step moves the prompts: `bilevel` is GRMP-IQA's; `joint` does without meta-learning."""
    engine: Literal["func", "higher", "learn2learn"] = "func"
    """The library that takes the inner steps: torch.func, higher, or learn2learn (SGD alone)."""
    trainable: list[str] = Field(min_length=1)
    """Globs over the names of the parameters that are trained."""
    steps: int = Field(gt=0, le=1_000_000)
    """Number of outer steps."""
    inner_optimizer: Literal["adam", "sgd"] = "adam"
    """Optimiser of the steps on a task."""
    inner_steps: int = Field(1, gt=0, le=1000)
    """Number of steps on a task's support."""
    inner_lr: float = Field(1e-4, gt=0)
    """Learning rate of the inner steps (alpha)."""
    learn_lr: bool = False
    """Whether each tensor's inner learning rate is learned too (Meta-SGD); with `fomaml` or `maml`."""
    outer_optimizer: Literal["sgd", "adam"] = "sgd"
    """Optimiser of the outer steps."""
    outer_lr: float = Field(1e-2, gt=0)
    """Learning rate of the outer steps (beta)."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest norm of an outer step's direction over all tensors; null: no limit."""
    bf16: bool | None = None
    """Whether to compute in bfloat16; inner steps of second order stay in float32. Null: as for `adapt.bf16`."""
    recompute: bool = False
    """Whether `maml` keeps one inner step in memory at a time and computes the others again."""
    validate_every: int = Field(20, gt=0)
    """Outer steps between two validations."""
    patience: int | None = Field(None, gt=0)
    """Validations in a row, none better than the best before them, that end meta-training; null: it takes all steps."""

    def model_post_init(self, _: Any) -> None:
        if self.engine == "learn2learn" and self.inner_optimizer != "sgd":
            raise InputError("meta.engine: learn2learn takes inner steps of SGD alone; set meta.inner_optimizer=sgd")
        if self.learn_lr and (self.engine != "func" or self.algorithm not in ("fomaml", "maml")):
            raise InputError("meta.learn_lr: needs the engine func, and the algorithm fomaml or maml")
        if self.recompute and (self.engine != "func" or self.algorithm != "maml"):
            raise InputError("meta.recompute: is for the engine func and maml; other algorithms keep little")


class RegularizerSpec(Spec):
    """Quality-aware gradient regularisation (QGR, GRMP-IQA): removes from the gradient of quality its part along a
    gradient towards the zero-shot distribution of plain CLIP over the phrases of a branch."""

    branch: str = "scene"
    """The text branch whose phrases say what an image shows."""
    strength: float = Field(5.0, ge=0, le=1e6)
    """Share of the common part that is removed (lambda); 0 turns it off."""
    scope: Literal["tensor", "layer", "global"] = "tensor"
    """What is projected as one vector: each tensor, each layer, or all parameters."""
    temperature: float = Field(1.0, gt=0)
    """Temperature of both distributions over the phrases."""


class AdaptSpec(Spec):
    """Few-shot adaptation by gradients; nothing is chosen on test data."""

    trainable: list[str] = Field(min_length=1)
    """Globs over the names of the parameters that are trained."""
    steps: int | None = Field(None, gt=0, le=1_000_000)
    """Number of steps; with `epochs` too, the fewer of both."""
    epochs: float | None = Field(None, gt=0, le=10_000)
    """Number of passes over the shots."""
    batch: int = Field(32, gt=0, le=10_000)
    """Shots of a step, at most."""
    crops: int | None = Field(None, gt=0, le=1000)
    """Number of random crops of a shot; they come again, so that frozen layers see each once. Null: always new ones."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    """Optimiser."""
    lr: float = Field(gt=0)
    """Learning rate."""
    schedule: Literal["constant", "cosine"] = "constant"
    """How the learning rate goes on after the warm-up: `cosine` falls to zero."""
    warmup: int = Field(0, ge=0, le=1_000_000)
    """Number of steps in which the learning rate rises from zero."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of the optimiser."""
    bf16: bool | None = None
    """Whether to compute in bfloat16. Null: on hardware that has it, for towers of width 128 and more, if gradients
    keep their direction."""
    regularizer: RegularizerSpec | None = None
    """Quality-aware gradient regularisation; null: none."""
    choose: list[dict[str, Any]] = Field([], max_length=1000)
    """Changes to these keys, of which cross-validation inside the shots takes the best (the first, where the shots are
    of fewer groups than `folds`)."""
    folds: int = Field(3, ge=2, le=1000)
    """Number of folds of that cross-validation, and of the shots before a head in closed form: each is encoded by a
    model that learned from the others."""

    def model_post_init(self, _: Any) -> None:
        if self.steps is None and self.epochs is None:
            raise InputError("adapt: give steps, epochs, or both")
        self.candidates()

    @property
    def active_regularizer(self) -> RegularizerSpec | None:
        """The regularizer, unless its strength is 0."""
        return self.regularizer if self.regularizer and self.regularizer.strength else None

    def steps_for(self, shots: int) -> int:
        """The number of steps for a number of shots."""
        limits = [self.steps] if self.steps else []
        if self.epochs:
            limits.append(max(1, round(self.epochs * shots / min(self.batch, shots))))
        return min(limits)

    def of_steps(self, steps: int) -> "AdaptSpec":
        """The same with this number of steps."""
        return self.model_copy(update={"steps": steps, "epochs": None})

    def candidates(self) -> list["AdaptSpec"]:
        """Itself with each of the changes; InputError where one does not fit."""
        try:
            own = self.model_dump() | {"choose": []}
            return [AdaptSpec.model_validate(deep_merge(own, change)) for change in self.choose]
        except ValidationError as error:
            raise InputError(f"adapt.choose: {explain(error, AdaptSpec)[1]}") from None
