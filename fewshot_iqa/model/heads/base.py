"""What every head is."""

from collections.abc import Sequence

from torch import Tensor, nn

from ...types import Features, Prediction


class Head(nn.Module):
    """A regressor from features to quality: `fit` and `predict`, as in scikit-learn.

    A kind is made by `Kind(spec, model, clip)`: its section of the configuration, the text branches and visual prompts,
    and the backbone, whose `pooled_width` is S. Parameters and buffers are saved with the checkpoint.
    """

    is_fitted = False
    zero_shot = False  # whether it predicts before it is fitted
    reads_pooled = True  # whether it reads `Features.pooled`, beside or instead of logits and tokens

    def fit(self, features: Features, quality: Tensor, *, groups: Sequence[str] = ()) -> None:
        """Learn from the shots: their features, their `quality` (R,) in [0, 1], and the group of each."""
        raise NotImplementedError(f"{type(self).__name__} learns by gradients")

    def predict(self, features: Features) -> Prediction:
        """Quality of B pictures."""
        raise NotImplementedError

    def set_train_data(self, *data: Tensor) -> None:
        """Take the shots that a checkpoint holds, in the order of the buffers `train_*`, in the place of others."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget the shots."""
