"""The head of a method: `head: {kind: ..., ...}`. One class here and one in `model.heads` make a kind."""

from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field

from .spec import Spec


class HeadBase(Spec):
    """What all kinds have in common; a kind states what differs."""

    closed_form: ClassVar[bool] = False  # fitted in closed form, after gradients if there are any
    needs_gradients: ClassVar[bool] = False  # learned by gradients or not at all

    def branches_read(self, quality: str) -> list[str]:
        """The text branches that it reads, of a model whose quality branch has the name `quality`."""
        return []


class AntonymSpec(HeadBase):
    """The probability of the good phrase of the quality branch (CLIP-IQA): zero-shot, or by prompt learning."""

    kind: Literal["antonym"] = "antonym"

    def branches_read(self, quality: str) -> list[str]:
        return [quality]


class LinearSpec(HeadBase):
    """Linear in the pooled features, learned by gradients."""

    kind: Literal["linear"]

    needs_gradients: ClassVar[bool] = True


class RidgeSpec(HeadBase):
    """Ridge regression on the pooled features; the penalty is the best of `penalties` by cross-validation inside the
    shots: leave-one-out, or folds of groups where several shots are of one."""

    kind: Literal["ridge"]
    penalties: list[Annotated[float, Field(gt=0)]] = Field([10 ** (i / 2) for i in range(-2, 13)], min_length=1)

    closed_form: ClassVar[bool] = True


class GaussianProcessSpec(HeadBase):
    """Gaussian-process regression on the pooled features. The share of the `linear` kernel and the `noise` are the
    likeliest of those listed, given the shots.

    With `prompt_mean_weight` w, the prior mean is w times the quality that the phrases of the quality branch predict,
    and the features are those of the tower with that branch's visual prompts.
    """

    kind: Literal["gp"]
    linear: list[Annotated[float, Field(ge=0, le=1)]] = Field([0.0, 0.1, 0.3, 1.0], min_length=1)
    lengthscale: float = Field(4.0, gt=0)
    noise: list[Annotated[float, Field(gt=0)]] = Field([10 ** (i / 2) for i in range(-6, 5)], min_length=1)
    prompt_mean_weight: float = Field(0, ge=0, le=1)

    closed_form: ClassVar[bool] = True

    def branches_read(self, quality: str) -> list[str]:
        return [quality] if self.prompt_mean_weight else []


class FusionSpec(HeadBase):
    """MP-IQE's multi-modal decoder: the phrases of `branches` attend to the image's tokens in `layers` layers."""

    kind: Literal["fusion"]
    branches: list[str] = Field(min_length=1)
    layers: int = Field(3, gt=0)
    heads: int = Field(8, gt=0)

    needs_gradients: ClassVar[bool] = True

    def branches_read(self, quality: str) -> list[str]:
        return self.branches


class CustomSpec(HeadBase):
    """A head given from Python, an object with `fit` and `predict`; `name` is its class's."""

    kind: Literal["custom"]
    name: str

    closed_form: ClassVar[bool] = True


HeadSpec = Annotated[
    AntonymSpec | LinearSpec | RidgeSpec | GaussianProcessSpec | FusionSpec | CustomSpec, Discriminator("kind")
]
