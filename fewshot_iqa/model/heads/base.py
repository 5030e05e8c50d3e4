"""What every head is."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ...types import Features, Prediction


class Head(nn.Module):
    """A regressor from features to quality: `fit` and `predict`, as in scikit-learn.

    A kind is made by `Kind(spec, model, clip)`: its section of the configuration, the text branches and visual prompts,
    and the backbone, whose `pooled_width` is S. Parameters and buffers are saved with the checkpoint.
    """

    is_fitted = False
    on_cpu = False  # whether it computes there, whatever the device of the features
    reads_pooled = True  # whether it reads `Features.pooled`, beside or instead of logits and tokens

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Where it computes in float64, which some devices lack, its numbers stay on the CPU."""
        return self if self.on_cpu else super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

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
