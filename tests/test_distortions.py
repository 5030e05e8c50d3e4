"""The 25 distortions: contract, purity, severity on a photograph, and the properties their names promise."""

from itertools import combinations, pairwise

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline
from skimage.data import astronaut
from torch import Tensor

from fewshot_iqa.distortions import DISTORTIONS, distort, distort_batch, find
from fewshot_iqa.distortions.filters import disk_kernel, line_kernel
from fewshot_iqa.distortions.tone import curve_table, otsu_thresholds

LEVELS = range(1, 6)
NAMES = [row.name for row in DISTORTIONS]
UNORDERED = {"color_shift", "mean_shift", "contrast_change"}
RANDOM = {
    "motion_blur",
    "color_shift",
    "white_noise",
    "white_noise_ycbcr",
    "impulse_noise",
    "multiplicative_noise",
    "denoise",
    "jitter",
    "non_eccentricity_patch",
    "color_block",
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photograph(height: int, width: int) -> Tensor:
    """The astronaut as (3, height, width), its values spanning 0 to 1."""
    pixels = cv2.resize(astronaut(), (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    pixels = (pixels - pixels.min()) / (pixels.max() - pixels.min())
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


@pytest.fixture(scope="module")
def photo() -> Tensor:
    return photograph(256, 256)


@pytest.fixture(scope="module")
def small() -> Tensor:
    return photograph(72, 96)


def within_unit_range(image: Tensor) -> bool:
    """NaN is not."""
    return bool(((image >= 0) & (image <= 1)).all())


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean() + 1e-8))


def test_table_is_kadid() -> None:
    assert [row.id for row in DISTORTIONS] == list(range(1, 26))
    assert len(set(NAMES)) == 25
    assert all(row.function.__name__ == row.name for row in DISTORTIONS)
    assert all(len(row.levels) == 5 for row in DISTORTIONS)


@pytest.mark.parametrize("name", NAMES)
def test_contract_in_every_cell(name: str, small: Tensor) -> None:
    original = small.clone()
    for level in LEVELS:
        distorted = distort(small, name, level, generator=seeded(level))
        assert (distorted.shape, distorted.dtype) == (small.shape, small.dtype)
        assert distorted.is_contiguous()
        assert distorted.data_ptr() != small.data_ptr()
        assert within_unit_range(distorted)
    assert torch.equal(small, original)


@pytest.mark.parametrize("name", NAMES)
def test_functions_leave_their_input_alone(name: str, small: Tensor) -> None:
    row = find(name)
    pixels = np.ascontiguousarray(small.permute(1, 2, 0).numpy())
    pixels.setflags(write=False)
    for parameter in row.levels:
        result = row.function(pixels, parameter, np.random.default_rng(0))
        assert (result.shape, result.dtype) == (pixels.shape, np.float32)
        assert not np.shares_memory(result, pixels)


@pytest.mark.parametrize("name", NAMES)
def test_seed_decides(name: str, small: Tensor) -> None:
    first, again, other = (distort(small, name, 4, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (name not in RANDOM)


def test_every_call_advances_its_generator(small: Tensor) -> None:
    generator = seeded(0)
    first, second = (distort(small, "white_noise", 5, generator=generator) for _ in range(2))
    assert not torch.equal(first, second)


def test_global_random_state_is_untouched(small: Tensor) -> None:
    torch.manual_seed(0)
    cv2.setRNGSeed(0)
    before_torch, before_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()
    before_cv2 = cv2.randu(np.zeros(4, np.float32), 0, 1)
    cv2.setRNGSeed(0)
    for name in NAMES:
        distort(small, name, 5, generator=seeded(0))
    assert torch.equal(torch.get_rng_state(), before_torch)
    assert np.array_equal(np.random.get_state()[1], before_numpy)
    assert np.array_equal(cv2.randu(np.zeros(4, np.float32), 0, 1), before_cv2)


def test_batch_equals_single(small: Tensor) -> None:
    images = torch.stack([small, small.flip(2)] * 13)[:25]
    levels = [1 + index % 5 for index in range(25)]
    batch = distort_batch(images, NAMES, levels, generators=[seeded(index) for index in range(25)])
    for index, name in enumerate(NAMES):
        alone = distort(images[index], name, levels[index], generator=seeded(index))
        assert torch.equal(batch[index], alone)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNORDERED])
def test_severity_rises_with_the_level(name: str, photo: Tensor) -> None:
    fidelity = [psnr(photo, distort(photo, name, level, generator=seeded(3))) for level in LEVELS]
    assert all(later <= earlier + 0.3 for earlier, later in pairwise(fidelity)), fidelity
    assert fidelity[4] < fidelity[0] - 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types(dtype: torch.dtype, small: Tensor) -> None:
    distorted = distort(small.to(dtype), "jpeg", 3, generator=seeded(0))
    assert distorted.dtype == dtype
    assert within_unit_range(distorted)


def test_range_is_stretched_as_the_generator_does(photo: Tensor) -> None:
    dull = 0.25 + 0.5 * photo
    assert torch.allclose(distort(dull, "mean_shift", 3, generator=seeded(0)), photo, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_flat_images_stay_sane(name: str) -> None:
    flat = torch.full((3, 40, 40), 0.4)
    distorted = distort(flat, name, 2, generator=seeded(0))
    assert within_unit_range(distorted)
    if name.endswith(("blur", "jitter", "pixelate", "patch", "sharpen")):
        assert torch.allclose(distorted, flat, atol=1e-2)


def test_mean_shift_level_3_is_the_identity(photo: Tensor) -> None:
    assert torch.equal(distort(photo, "mean_shift", 3, generator=seeded(0)), photo)


def test_saturation_zero_is_grey(photo: Tensor) -> None:
    grey = distort(photo, "color_saturation_hsv", 4, generator=seeded(0))
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(grey[1], grey[2])


@pytest.mark.parametrize("level", LEVELS)
def test_quantization_has_one_value_more_than_thresholds(level: int, photo: Tensor) -> None:
    quantized = distort(photo, "quantization", level, generator=seeded(0))
    assert len(quantized.unique()) == find("quantization").levels[level - 1] + 1


@pytest.mark.parametrize("level", LEVELS)
def test_palette_size(level: int, photo: Tensor) -> None:
    reduced = distort(photo, "color_quantization", level, generator=seeded(0))
    size = find("color_quantization").levels[level - 1]
    assert size / 2 < len(reduced.flatten(1).unique(dim=1).T) <= size


@pytest.mark.parametrize("level", LEVELS)
def test_color_block_counts(level: int) -> None:
    ramp = torch.linspace(0, 1, 512).expand(3, 512, 512).contiguous()
    changed = (distort(ramp, "color_block", level, generator=seeded(5)) != ramp).any(dim=0).sum()
    count = find("color_block").levels[level - 1]
    assert 0.6 * count * 32**2 < changed <= count * 32**2


def test_impulse_density(photo: Tensor) -> None:
    inner = 0.1 + 0.8 * photo
    inner[:, 0, :2] = torch.tensor([0.0, 1.0])
    changed = distort(inner, "impulse_noise", 5, generator=seeded(0)) != inner
    assert changed.float().mean() == pytest.approx(0.03, rel=0.1)


@pytest.mark.parametrize("name", ["white_noise", "multiplicative_noise"])
def test_noise_variance(name: str) -> None:
    row = find(name)
    flat = np.full((256, 256, 3), 0.5, np.float32)
    noise = row.function(flat, row.levels[2], np.random.default_rng(0)) - flat
    signal_power = 1.0 if name == "white_noise" else 0.25
    assert noise.var() == pytest.approx(row.levels[2] * signal_power, rel=0.05)
    assert abs(noise.mean()) < 1e-3


def test_otsu_is_exact() -> None:
    histogram = np.random.default_rng(0).integers(1, 100, 16)

    def between_class(edges: tuple[int, ...]) -> float:
        """Up to a constant, the between-class variance of a split after each of `edges`."""
        classes = np.split(np.arange(16), np.add(edges, 1))
        return sum(np.sum(histogram[part] * part) ** 2 / histogram[part].sum() for part in classes)

    best = max(combinations(range(15), 4), key=between_class)
    assert tuple(otsu_thresholds(histogram, 4)) == best


def test_curve_passes_through_its_points() -> None:
    points = ((0.3, 0.2), (0.5, 0.5), (0.7, 0.8))
    table = curve_table(points)
    x = np.linspace(0, 1, len(table))
    for at, value in ((0, 0), *points, (1, 1)):
        assert np.interp(at, x, table) == pytest.approx(value, abs=1e-5)
    parabola = CubicSpline([0, 0.5, 1], [0, 0.6, 1])(x)
    assert np.allclose(curve_table(((0.5, 0.6),)), parabola, atol=1e-6)


def test_kernels_sum_to_one_and_have_their_size() -> None:
    for radius in find("lens_blur").levels:
        kernel = disk_kernel(radius)
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        assert kernel[len(kernel) // 2, len(kernel) // 2] == pytest.approx(1 / (np.pi * radius**2), rel=0.02)
    assert np.array_equal(line_kernel(1, 0.7), [[1]])
    assert np.allclose(line_kernel(5, 0)[2], 0.2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.rand(1, 64, 64), "3, H, W"),
        (torch.rand(2, 3, 64, 64), "3, H, W"),
        (torch.rand(3, 31, 64), "32"),
        (torch.zeros(3, 64, 64, dtype=torch.uint8), "floating"),
    ],
)
def test_wrong_images(wrong: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distort(wrong, "jpeg", 1, generator=seeded(0))


@pytest.mark.parametrize("level", [0, 6, -1])
def test_wrong_levels(level: int, small: Tensor) -> None:
    with pytest.raises(ValueError, match="level"):
        distort(small, "jpeg", level, generator=seeded(0))


def test_wrong_names(small: Tensor) -> None:
    assert find(10) is find("jpeg")
    with pytest.raises(ValueError, match="Did you mean 'gaussian_blur'"):
        find("gausian_blur")
    with pytest.raises(ValueError, match=r"1\.\.25"):
        find(26)


def test_wrong_batches(small: Tensor) -> None:
    with pytest.raises(ValueError, match="B, 3, H, W"):
        distort_batch(small, ["jpeg"], [1], generators=[seeded(0)])
    with pytest.raises(ValueError, match="as many"):
        distort_batch(small[None], ["jpeg"], [1, 2], generators=[seeded(0)])


@settings(max_examples=15, deadline=None)
@given(height=st.integers(32, 80), width=st.integers(32, 80), level=st.integers(1, 5), seed=st.integers(0, 99))
def test_any_size(height: int, width: int, level: int, seed: int) -> None:
    image = torch.rand(3, height, width, generator=seeded(seed))
    for name in NAMES:
        distorted = distort(image, name, level, generator=seeded(seed))
        assert distorted.shape == image.shape
        assert within_unit_range(distorted)
