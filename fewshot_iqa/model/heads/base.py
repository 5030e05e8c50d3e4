"""What every head is."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from ...types import Features, Prediction


class Head(nn.Module):
    """A regressor from features to quality: `fit` and `predict`, as in scikit-learn.

    A kind is made by `Kind(spec, model, clip)`: its section of the configuration, the text branches and visual prompts,
    and the backbone, whose `pooled_width` is S. Parameters and buffers are saved with the checkpoint.
    """

    is_fitted = False
    reads_pooled = True  # whether it reads `Features.pooled`, beside or instead of logits and tokens

    @property
    def reads_prompts(self) -> bool:
        """Whether it reads `Features.match`."""
        return False

    @property
    def learned_from_prompts(self) -> bool:
        """Whether its shots had prompts that it read."""
        return False

    @property
    def zero_shot(self) -> bool:
        """Whether it predicts before it is fitted."""
        return False

    def fit(
        self, features: Features, quality: Tensor, *, groups: Sequence[str] = (), variance: Tensor | None = None
    ) -> None:
        """Learn from the shots: their features, their `quality` (R,) in [0, 1], the group of each, and, where it is
        known, the variance (R,) of each as a mean of votes."""
        raise NotImplementedError(f"{type(self).__name__} learns by gradients")

    def predict(self, features: Features) -> Prediction:
        """Quality of B pictures."""
        raise NotImplementedError

    def set_train_data(self, *data: Tensor) -> None:
        """Take these shots, in the order of the buffers `train_*`, in the place of others."""
        raise NotImplementedError

    def restore(self, buffers: Mapping[str, Tensor]) -> None:
        """Take the shots of a checkpoint, and what else has a size that they decide; `buffers` are all of its own."""
        self.set_train_data(*(buffers[name] for name, _ in self.named_buffers() if name.startswith("train_")))

    def reset(self) -> None:
        """Forget the shots."""
