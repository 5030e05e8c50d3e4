"""The convolutional stem of the embedded CLIP's image tower."""

import timm
import torch

from fewshot_iqa import rng
from fewshot_iqa.model.stem import ARCHITECTURE, LEVELS, ConvStem, _fold
from tests.conftest import seeded


def make_stem(width=16, patch=8):
    with rng.scoped(0, "stem"):
        linear = torch.nn.Conv2d(3, width, patch, patch, bias=False)
        return ConvStem(linear, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))


def test_folding_changes_nothing():
    with rng.scoped(0, "fold"):
        plain = timm.create_model(ARCHITECTURE, features_only=True, out_indices=LEVELS).eval()
        for module in plain.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2)
                torch.nn.init.uniform_(module.weight, 0.5, 2)
                torch.nn.init.normal_(module.bias, std=0.1)
    plain = plain.double()
    images = seeded(2, 3, 64, 64).double()
    with torch.no_grad():
        expected = plain(images)
        for one, other in zip(_fold(plain)(images), expected, strict=True):
            torch.testing.assert_close(one, other)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in plain.modules())


def test_tokens_are_linear_patches_and_projected_features():
    stem = make_stem()
    images = seeded(2, 3, 48, 32)
    features = stem.features(images)
    assert features.shape == (2, 496, 6, 4)
    torch.testing.assert_close(stem(images), stem.linear(images) + stem.project(features))
    torch.testing.assert_close(stem(images, features), stem(images))


def test_the_network_sees_the_pixels_that_it_was_trained_on():
    """Normalised as CLIP wants them, they come back as [-1, 1]."""
    stem = make_stem()
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in ((0.48, 0.46, 0.41), (0.27, 0.26, 0.28)))
    pixels = seeded(1, 3, 32, 32).sigmoid()
    torch.testing.assert_close(((pixels - mean) / std) * stem.scale + stem.shift, 2 * pixels - 1)


def test_imagenet_features_are_standardised_and_frozen():
    stem = make_stem()
    images = seeded(4, 3, 64, 64)
    stem.load_imagenet(images)
    features = stem.features(images)
    torch.testing.assert_close(features.mean(dim=(0, 2, 3)), torch.zeros(496), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.std(dim=(0, 2, 3)), torch.ones(496), atol=1e-3, rtol=0)
    trainable = {name for name, value in stem.named_parameters() if value.requires_grad}
    assert trainable == {"linear.weight", "project.weight", "project.bias"}


def test_training_mode_changes_nothing():
    stem = make_stem()
    images = seeded(2, 3, 32, 32)
    expected = stem.eval()(images)
    torch.testing.assert_close(stem.train()(images), expected)
