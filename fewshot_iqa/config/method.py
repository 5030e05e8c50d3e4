"""A method: configs/*.yaml."""

from typing import Any, Literal

from pydantic import Field, ValidationError

from ..errors import InputError
from .heads import AntonymSpec, GaussianProcessSpec, HeadSpec
from .labels import CLASSES
from .messages import explain
from .spec import Spec, deep_merge


class VisualSpec(Spec):
    """A set of visual prompts: `length` tokens at each of the first `depth` layers (default: every).

    They stand behind CLS and enter after the first normalisation (VPT), or `at_end`, behind the patches, and enter
    before it (MaPLe). With a `link`, another set guides them: a layer's prompts are linear in its own tokens and that
    set's.
    """

    length: int = Field(gt=0)
    depth: int | None = Field(None, gt=0)
    at_end: bool = False
    link: str | None = None
    project: bool = False  # one linear map shared by all layers
    dropout: float = Field(0.0, ge=0, lt=1)
    end_norm: bool = False  # a LayerNorm over all tokens after the last layer


class BranchSpec(Spec):
    """A text branch: its phrases, how many learned context tokens precede them, which visual set it looks through.
    The context is learned anew for each of the first `depth` layers.

    With `windows` w it compares its phrases with w x w windows of the image, and each phrase attends to its own by a
    softmax of temperature `attention` (MP-IQE's distortion alignment), instead of with the image as a whole. With
    `own_prompt` it has no phrases: it compares a picture with the prompt that it was generated from.
    """

    phrases: list[str] = Field([])
    own_prompt: bool = False
    context: int = Field(0, ge=0)
    depth: int = Field(1, gt=0)
    visual: str | None = None
    windows: int | None = Field(None, gt=0)
    attention: float = Field(0.05, gt=0)

    @property
    def logits(self) -> int:
        """How many logits it has: one for each phrase, or a pair, for and against the own prompt."""
        return 2 if self.own_prompt else len(self.phrases)

    def model_post_init(self, _: Any) -> None:
        if self.own_prompt and (self.phrases or self.windows):
            raise InputError("model.branches: a branch with own_prompt has no phrases and no windows")
        if not self.own_prompt and len(self.phrases) < 2:
            raise InputError("model.branches: a branch needs two phrases or more, or own_prompt")


class ModelSpec(Spec):
    """Text branches, each of which sees the image through a set of visual prompts, or through none.

    `quality` names the branch whose first phrase is the good one and whose second is the bad one; the pooled features
    that heads regress on are those of the tower with that branch's visual prompts. `alignment` names the branches whose
    mean is how well a picture matches its prompt. `normalize` is the mean and standard deviation of pixels.
    """

    visual: dict[str, VisualSpec] = Field({})
    branches: dict[str, BranchSpec] = Field({})
    quality: str = "quality"
    alignment: list[str] = Field([])
    normalize: Literal["clip", "imagenet", "none"] = "clip"

    @property
    def has_prompts(self) -> bool:
        """Whether there are prompts to learn."""
        return bool(self.visual) or any(branch.context for branch in self.branches.values())

    def model_post_init(self, _: Any) -> None:
        for name, branch in self.branches.items():
            if branch.visual is not None and branch.visual not in self.visual:
                raise InputError(f"model.branches.{name}.visual: no visual set is named '{branch.visual}'")
        for name in self.alignment:
            if name not in self.branches or self.branches[name].logits != 2:
                raise InputError(f"model.alignment: '{name}' is no branch of two phrases or of own_prompt")
        for name, visual in self.visual.items():
            linked = self.visual.get(visual.link) if visual.link is not None else visual
            if linked is None:
                raise InputError(f"model.visual.{name}.link: no visual set is named '{visual.link}'")
            if visual.link is not None and linked.link is not None:
                raise InputError(f"model.visual.{name}.link: '{visual.link}' is itself linked to '{linked.link}'")
            if (linked.length, linked.depth) != (visual.length, visual.depth):
                raise InputError(f"model.visual.{name}.link: '{visual.link}' has other lengths or depths")


class LossTerm(Spec):
    """A term towards the quality: on the antonym pair `branch`, or without one (`mse`, `smooth_l1`) on the quality that
    the model returns. Or, with a `target`, towards what a picture is labelled with: its classes, one for each phrase of
    the branch (`cross_entropy`), or how well it matches its prompt (`alignment`)."""

    kind: Literal["soft_cross_entropy", "mse", "smooth_l1", "cross_entropy"]
    branch: str | None = None
    target: Literal["scene", "distortion", "alignment"] | None = None
    weight: float = Field(1.0, gt=0)

    def model_post_init(self, _: Any) -> None:
        if self.branch is None and self.kind not in ("mse", "smooth_l1"):
            raise InputError(f"loss: {self.kind} needs a branch")
        if (self.kind == "cross_entropy") != (self.target in CLASSES):
            raise InputError(
                "loss: cross_entropy needs a target of classes (scene or distortion), and no other kind does"
            )
        if self.target and self.branch is None:
            raise InputError(f"loss: the target {self.target} needs a branch")
        if self.kind == "smooth_l1" and self.branch:
            raise InputError("loss: smooth_l1 is on the quality, not on a branch")


class ViewSpec(Spec):
    """How an image becomes crops: reduce, then cut `crop`-sized squares.

    `short_side` reduces larger images, keeping their shape; `square` resizes to an exact square instead, as the
    release of GRMP-IQA does. Training takes `random` crops with random flips, each for itself, testing `count` fixed
    ones, or with `stride` as many as cover the image from edge to edge, so far apart or less.
    """

    crop: int = Field(224, ge=16)
    short_side: int | None = Field(None, ge=16)
    square: int | None = Field(None, ge=16)
    random: int = Field(1, gt=0)
    count: Literal[1, 5, 8] = 5
    stride: int | None = Field(None, gt=0)

    @property
    def at_once(self) -> int:
        """How many pictures are judged together, with all their views: one, where their size tells how many views."""
        return 1 if self.stride else 8

    def model_post_init(self, _: Any) -> None:
        if self.short_side and self.square:
            raise InputError("views: give short_side or square, not both")
        if min(self.short_side or self.crop, self.square or self.crop) < self.crop:
            raise InputError(f"views: images are reduced below the crop of {self.crop} pixels")


class MetaSpec(Spec):
    """Meta-training over distortions: an `algorithm` of `meta.meta_gradient`, by an `engine` of `inner`."""

    algorithm: Literal["bilevel", "reptile", "fomaml", "maml", "joint"] = "bilevel"
    engine: Literal["func", "higher", "learn2learn"] = "func"
    trainable: list[str] = Field(min_length=1)
    steps: int = Field(gt=0)
    inner_optimizer: Literal["adam", "sgd"] = "adam"
    inner_steps: int = Field(1, gt=0)
    inner_lr: float = Field(1e-4, gt=0)
    learn_lr: bool = False  # Meta-SGD: one inner learning rate per tensor, learned too
    outer_optimizer: Literal["sgd", "adam"] = "sgd"
    outer_lr: float = Field(1e-2, gt=0)
    clip_norm: float | None = Field(None, gt=0)  # of the outer step's direction, over all tensors
    bf16: bool = False  # compute in bfloat16; the inner steps of second order stay as they are
    recompute: bool = False  # second order in the memory of one inner step
    validate_every: int = Field(20, gt=0)

    def model_post_init(self, _: Any) -> None:
        if self.engine == "learn2learn" and self.inner_optimizer != "sgd":
            raise InputError("meta.engine: learn2learn takes inner steps of SGD alone; set meta.inner_optimizer=sgd")
        if self.learn_lr and (self.engine != "func" or self.algorithm not in ("fomaml", "maml")):
            raise InputError("meta.learn_lr: needs the engine func, and fomaml or maml to tell how rates should change")
        if self.recompute and (self.engine != "func" or self.algorithm != "maml"):
            raise InputError("meta.recompute: is for the engine func and maml; other algorithms keep little")


class RegularizerSpec(Spec):
    """Quality-aware gradient regularisation against plain CLIP's distribution over the phrases of `branch`."""

    branch: str = "scene"
    strength: float = Field(5.0, ge=0)  # lambda
    scope: Literal["tensor", "layer", "global"] = "tensor"  # what is projected as one vector
    temperature: float = Field(1.0, gt=0)


class AdaptSpec(Spec):
    """Few-shot fine-tuning: one optimiser, nothing chosen on test data; a number of `steps`, or as many as make so many
    `epochs`, passes over the shots; of both the fewer (for more steps on few shots, set epochs to null).

    `choose` lists changes to these keys, of which the best by cross-validation inside the shots is taken (the first,
    where the shots are of fewer groups than `folds`).
    """

    trainable: list[str] = Field(min_length=1)
    steps: int | None = Field(None, gt=0)
    epochs: float | None = Field(None, gt=0)
    batch: int = Field(32, gt=0)
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = Field(gt=0)
    schedule: Literal["constant", "cosine"] = "constant"  # of the learning rate, down to zero
    warmup: int = Field(0, ge=0)  # steps in which it rises from zero first
    weight_decay: float = Field(0.0, ge=0)
    regularizer: RegularizerSpec | None = None
    choose: list[dict[str, Any]] = Field([])
    folds: int = Field(3, ge=2)  # of that cross-validation

    def model_post_init(self, _: Any) -> None:
        if self.steps is None and self.epochs is None:
            raise InputError("adapt: give steps, epochs, or both")
        self.candidates()

    def steps_for(self, shots: int) -> int:
        """How many steps it takes with so many shots."""
        limits = [self.steps] if self.steps else []
        if self.epochs:
            limits.append(max(1, round(self.epochs * shots / min(self.batch, shots))))
        return min(limits)

    def of_steps(self, steps: int) -> "AdaptSpec":
        """The same over so many steps."""
        return self.model_copy(update={"steps": steps, "epochs": None})

    def candidates(self) -> list["AdaptSpec"]:
        """Itself with each of the changes; InputError where one does not fit."""
        try:
            own = self.model_dump() | {"choose": []}
            return [AdaptSpec.model_validate(deep_merge(own, change)) for change in self.choose]
        except ValidationError as error:
            raise InputError(f"adapt.choose: {explain(error, AdaptSpec)[1]}") from None


class Config(Spec):
    """One method: a CLIP, prompts and branches, a head, losses, views, and how each stage trains."""

    description: str
    clip: str = "tiny"
    model: ModelSpec = ModelSpec()
    head: HeadSpec = AntonymSpec()
    loss: list[LossTerm] = Field([])
    views: ViewSpec = ViewSpec()
    meta: MetaSpec | None = None  # a method without one has no meta-training
    adapt: AdaptSpec | None = None  # adaptation by gradients; then the head is fitted, if it has a closed form
    seed: int = 0

    @property
    def learns(self) -> bool:
        """Whether it learns anything from the shots."""
        return self.adapt is not None or self.head.closed_form

    @property
    def label_branches(self) -> dict[str, str]:
        """{classes that pictures are labelled with: the branch that learns them}."""
        return {term.target: term.branch for term in self.loss if term.target in CLASSES and term.branch}

    @property
    def quality_branches(self) -> list[str]:
        """The text branches that quality is predicted from."""
        return self.head.branches_read(self.model.quality)

    @property
    def without_shots(self) -> "Config":
        """The method before any shots: where the head has a prior mean, the phrases that it comes from."""
        prior = isinstance(self.head, GaussianProcessSpec) and self.head.prompt_mean_weight
        return self.model_copy(update={"head": AntonymSpec()}) if prior else self

    def model_post_init(self, _: Any) -> None:
        if self.head.needs_gradients and self.adapt is None:
            raise InputError(f"head.kind {self.head.kind}: is learned by gradients: add the section adapt")
        if (self.meta or self.adapt) and not self.loss:
            raise InputError("loss: meta and adapt need at least one term")
        if self.head.closed_form and not all(term.branch for term in self.loss):
            raise InputError(f"loss: before the head {self.head.kind} is fitted, a term needs a branch")
        for i, term in enumerate(self.loss):
            if term.branch:
                phrases = len(CLASSES[term.target]) if term.target in CLASSES else 2
                self._check_branch(f"loss.{i}.branch", term.branch, phrases)
        for name in self.quality_branches:
            if name not in self.model.branches or self.model.branches[name].own_prompt:
                key = "head.branches" if self.head.kind == "fusion" else "model.quality"
                raise InputError(f"{key}: no branch with phrases is named '{name}'")
        if self.head.kind == "fusion" and len({self.model.branches[name].visual for name in self.quality_branches}) > 1:
            raise InputError("head.branches: all must see the image through the same visual set")
        if self.model.quality in self.model.branches:
            self._check_branch("model.quality", self.model.quality, 2)
        for spec in [self.adapt, *self.adapt.candidates()] if self.adapt else []:
            if spec.regularizer:
                self._check_branch("adapt.regularizer.branch", spec.regularizer.branch)

    def _check_branch(self, key: str, name: str, phrases: int | None = None) -> None:
        if name not in self.model.branches:
            raise InputError(f"{key}: no branch is named '{name}'")
        if phrases is not None and self.model.branches[name].logits != phrases:
            wanted = "two phrases, good and bad" if phrases == 2 else f"{phrases} phrases"
            raise InputError(f"{key}: '{name}' has not {wanted}")
