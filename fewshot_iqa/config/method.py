"""A method: configs/*.yaml."""

from typing import Annotated, Any, Literal

from pydantic import Field

from ..errors import InputError
from .heads import AntonymSpec, HeadSpec
from .labels import CLASSES
from .spec import Spec
from .stages import AdaptSpec, MetaSpec


class VisualSpec(Spec):
    """A set of deep visual prompts, learned tokens at each layer of the image tower (VPT; MP-IQE's equation 7)."""

    length: int = Field(gt=0, le=1000)
    """Number of tokens at each layer."""
    depth: int | None = Field(None, gt=0, le=200)
    """Number of layers, from the first on; null: all."""
    at_end: bool = False
    """Whether they stand behind the patches and enter before the first normalisation (MaPLe), instead of behind CLS
    and after it (VPT)."""
    link: str | None = None
    """Another set, of the same length and depth, that guides this one: each layer's prompts are linear in both."""
    project: bool = False
    """Whether one linear map, shared by all layers, is applied to the tokens."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of the tokens in training."""
    end_norm: bool = False
    """Whether a LayerNorm is applied to all tokens after the last layer."""


class BranchSpec(Spec):
    """A text branch: phrases behind learned context tokens (CoOp; MP-IQE's equation 6), compared with an image."""

    phrases: list[Annotated[str, Field(max_length=1000)]] = Field([], max_length=1000)
    """The phrases, two or more; of an antonym pair, the good one first."""
    own_prompt: bool = False
    """Whether it has no phrases, and compares a picture with the prompt that it was generated from."""
    context: int = Field(0, ge=0, le=1000)
    """Number of learned tokens before each phrase."""
    depth: int = Field(1, gt=0, le=200)
    """Number of layers of the text tower, from the first on, at which the context is learned anew."""
    visual: str | None = None
    """The visual set through which it sees an image; null: none."""
    windows: int | None = Field(None, gt=0, le=200)
    """Compare the phrases with N x N windows of an image (MP-IQE's equations 10 and 11); null: with the image as a
    whole."""
    attention: float = Field(0.05, gt=0)
    """Temperature of the softmax by which a phrase attends to windows (equation 10)."""

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
    """The prompts of a model: text branches, each of which sees the image through a set of visual prompts or none."""

    visual: dict[str, VisualSpec] = Field({}, max_length=100)
    """The sets of visual prompts by name."""
    branches: dict[str, BranchSpec] = Field({}, max_length=100)
    """The text branches by name."""
    quality: str = "quality"
    """The branch of the antonym pair for quality; regression heads read the features behind its visual prompts."""
    alignment: list[str] = Field([])
    """The branches whose mean predicts how well a picture matches its prompt."""
    normalize: Literal["clip", "imagenet", "none"] = "clip"
    """Whose mean and standard deviation pixels are normalised with."""

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
    """A term of the loss, a weighted sum (MP-IQE's equations 15 and 16)."""

    kind: Literal["soft_cross_entropy", "mse", "smooth_l1", "cross_entropy"]
    """`cross_entropy` is for classes (MP-IQE's equations 9 and 11), the others for the quality or the alignment."""
    branch: str | None = None
    """The text branch whose logits it reads; null: the quality that the model predicts (`mse`, `smooth_l1`)."""
    target: Literal["scene", "distortion", "alignment"] | None = None
    """The label that it learns, classes or the alignment with the prompt; null: the quality."""
    weight: float = Field(1.0, gt=0, le=1e6)
    """Its factor in the sum."""

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
    """How an image becomes square crops: it is reduced, then cut."""

    crop: int = Field(224, ge=16, le=10_000)
    """Side of a crop in pixels."""
    short_side: int | None = Field(None, ge=16, le=20_000)
    """Reduce larger images to this shorter side in pixels, keeping their shape; null: keep their size."""
    square: int | None = Field(None, ge=16, le=10_000)
    """Resize to an exact square of this side in pixels instead, as the release of GRMP-IQA does."""
    random: int = Field(1, gt=0, le=200)
    """Number of random crops of an image in a training step, each flipped or not."""
    count: Literal[1, 5, 8] = 5
    """Number of fixed crops in testing; predictions are means over them."""
    stride: int | None = Field(None, gt=0, le=10_000)
    """Test on a grid of crops from edge to edge instead, at most so many pixels apart."""
    wide_side: int | None = Field(None, ge=16, le=20_000)
    """Where there are five crops, cut two opposite corners from the image reduced to this shorter side: they show more
    of it."""

    @property
    def at_once(self) -> int:
        """How many pictures are judged together, with all their views: one, where their size tells how many views."""
        return 1 if self.stride else 8

    def model_post_init(self, _: Any) -> None:
        if self.short_side and self.square:
            raise InputError("views: give short_side or square, not both")
        if min(self.short_side or self.crop, self.square or self.crop) < self.crop:
            raise InputError(f"views: images are reduced below the crop of {self.crop} pixels")
        if self.wide_side and self.wide_side < self.crop:
            raise InputError(f"views.wide_side: images are reduced below the crop of {self.crop} pixels")


class Config(Spec):
    """A method: a CLIP, prompts, a head, losses, views, and how each stage trains."""

    description: str
    """One line for `fsiqa configs`."""
    clip: str = "tiny"
    """`tiny` (the embedded CLIP), ARCHITECTURE:TAG with open_clip's names, or ARCHITECTURE:FILE."""
    model: ModelSpec = ModelSpec()
    """Text branches and visual prompts."""
    head: HeadSpec = AntonymSpec()
    """What turns features into a quality, by its `kind`."""
    loss: list[LossTerm] = Field([], max_length=100)
    """The terms that meta-training and adaptation by gradients minimise the sum of."""
    views: ViewSpec = ViewSpec()
    """How an image becomes crops."""
    meta: MetaSpec | None = None
    """Meta-training; null: none."""
    adapt: AdaptSpec | None = None
    """Adaptation by gradients, before a head with a closed form is fitted; null: none."""
    seed: int = 0
    """Seed of fresh prompts, splits, draws, batches and dropout."""
    plain: bool = False
    """Whether to compute every layer of every step in full, as the papers write it: slower, to compare with."""

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
