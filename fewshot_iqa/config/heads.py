"""The head of a method: `head: {kind: ..., ...}`. One class here and one in `model.heads` make a kind."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field

from .spec import Spec, as_list

LEAST = 1e-6  # below which a matrix of similar pictures cannot be inverted


def _not_tiny(value: float) -> float:
    if value < LEAST:
        raise ValueError(f"expected at least {LEAST:g}")
    return value


Share = Annotated[float, Field(ge=0, le=1)]
Weights = Annotated[list[Share], Field(max_length=100), BeforeValidator(as_list)]  # or one number
Positive = Annotated[float, Field(gt=0, le=1e12), AfterValidator(_not_tiny)]


class HeadBase(Spec):
    """What all kinds have in common; a kind states what differs."""

    closed_form: ClassVar[bool] = False  # fitted in closed form, after gradients if there are any
    needs_gradients: ClassVar[bool] = False  # learned by gradients or not at all
    predicts_std: ClassVar[bool] = False

    def branches_read(self, quality: str) -> list[str]:
        """The text branches that it reads, of a model whose quality branch has the name `quality`."""
        return []


class AntonymSpec(HeadBase):
    """The probability of the good phrase of the quality branch (CLIP-IQA): zero-shot, or by prompt learning."""

    kind: Literal["antonym"] = "antonym"
    """The kind of head."""

    def branches_read(self, quality: str) -> list[str]:
        return [quality]


class LinearSpec(HeadBase):
    """Linear in the pooled features, learned by gradients."""

    kind: Literal["linear"]
    """The kind of head."""

    needs_gradients: ClassVar[bool] = True


class RidgeSpec(HeadBase):
    """Ridge regression on the pooled features."""

    kind: Literal["ridge"]
    """The kind of head."""
    penalties: list[Positive] = Field([10 ** (i / 2) for i in range(-2, 13)], min_length=1, max_length=1000)
    """Penalties, the best of which is taken by cross-validation inside the shots: leave-one-out, or folds of groups
    where several shots are of one."""

    closed_form: ClassVar[bool] = True


class GaussianProcessSpec(HeadBase):
    """Gaussian-process regression on the pooled features; it predicts a standard deviation."""

    kind: Literal["gp"]
    """The kind of head."""
    linear: list[Share] = Field([0.0, 0.1, 0.3, 1.0], min_length=1, max_length=100)
    """Shares of the linear kernel; predictions are averaged over them, by their probability given the shots."""
    lengthscale: Positive = 4.0
    """Lengthscale of the exponential kernel, the other share, on standardised features: a distance as a multiple of the
    root of their number."""
    noise: list[Positive] = Field([10 ** (i / 2) for i in range(-6, 5)], min_length=1, max_length=100)
    """Variances of the noise relative to the outputscale; averaged over in the same way."""
    match_weight: float = Field(0, ge=0, le=1000)
    """Weight, in the kernel, of how well a picture matches the prompt that it was generated from, where it has one: the
    cosine of their embeddings, standardised over the shots."""
    prompt_mean_weight: Weights = Field([])
    """Weight of the quality that the quality branch's phrases predict, as the prior mean; or several weights."""
    synthetic_mean_weight: Weights = Field([])
    """Weight of the prediction of a linear model, which meta-training fits to distorted photographs, as the prior mean;
    or several. Predictions are averaged over all of both, by their probability given the shots."""

    closed_form: ClassVar[bool] = True
    predicts_std: ClassVar[bool] = True

    def branches_read(self, quality: str) -> list[str]:
        return [quality] if any(self.prompt_mean_weight) else []


class FusionSpec(HeadBase):
    """MP-IQE's multi-modal decoder (equations 12 to 14): phrases attend to the image's tokens."""

    kind: Literal["fusion"]
    """The kind of head."""
    branches: list[str] = Field(min_length=1, max_length=100)
    """The text branches whose phrases attend."""
    layers: int = Field(3, gt=0, le=100)
    """Number of decoder layers."""
    heads: int = Field(8, gt=0, le=1000)
    """Number of attention heads of a layer."""

    needs_gradients: ClassVar[bool] = True

    def branches_read(self, quality: str) -> list[str]:
        return self.branches


class CustomSpec(HeadBase):
    """A head given from Python, an object with `fit` and `predict`; not for YAML files."""

    kind: Literal["custom"]
    """The kind of head."""
    name: str
    """Name of its class."""

    closed_form: ClassVar[bool] = True


HeadSpec = Annotated[
    AntonymSpec | LinearSpec | RidgeSpec | GaussianProcessSpec | FusionSpec | CustomSpec, Discriminator("kind")
]
