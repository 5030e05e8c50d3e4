"""The 49 distortions: contract, purity, severity on photographs, and the properties their names promise."""

import io
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, pairwise

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from scipy.interpolate import CubicSpline
from skimage import color
from skimage.data import astronaut
from skimage.filters import threshold_multiotsu
from skimage.metrics import structural_similarity
from torch import Tensor

from fewshot_iqa.data.synthetic import kadid_mos, wheel_photograph
from fewshot_iqa.distortions import DISTORTIONS, TID2013, codec, compose, distort, distort_batch, find, ops
from fewshot_iqa.distortions.draws import Draws
from fewshot_iqa.distortions.filters import disk_kernel, line_kernel
from fewshot_iqa.distortions.tone import curve_table, otsu_thresholds
from fewshot_iqa.errors import InputError
from fewshot_iqa.images import read_image, shrink, to_float

LEVELS = range(1, 6)
KADID = [row.name for row in DISTORTIONS]
TID = [row.name for row in TID2013]
NAMES = KADID + TID
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
# Of TID2013's, these and no others are the same under every seed.
FIXED = {
    f"tid2013/{name}"
    for name in (
        "quantization_noise",
        "gaussian_blur",
        "jpeg",
        "jpeg2000",
        "saturation",
        "color_dither",
    )
}
# What leaves a flat image as it is, but for rounding.
UNSEEN_ON_FLAT = (
    *("gaussian_blur", "lens_blur", "motion_blur", "color_diffusion", "saturation", "hsv", "lab", "jpeg", "jpeg2000"),
    *("jitter", "patch", "pixelate", "sharpen", "aberration", "sampling", "comfort_noise", "masked_noise", "contrast"),
)
STEPS = (33, 30, 27, 24, 21)  # TID2013's published PSNR, dB
TRANSMISSION = {"tid2013/jpeg_errors", "tid2013/jpeg2000_errors"}


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


# KADID-10k's parameters, as its generator has them in the order of its files.
PARAMETERS = """
gaussian_blur .1 .5 1 2 5
lens_blur 1 2 4 6 8
motion_blur 1 2 4 6 10
color_diffusion 1 3 6 8 12
color_shift 1 3 6 8 12
color_quantization 64 48 32 16 8
color_saturation_hsv .4 .2 .1 0 -.4
color_saturation_lab 1 2 3 6 9
jpeg2000 16 32 45 120 400
jpeg 43 36 24 7 4
white_noise .001 .002 .003 .005 .01
white_noise_ycbcr .0001 .0005 .001 .002 .003
impulse_noise .001 .005 .01 .02 .03
multiplicative_noise .001 .005 .01 .02 .05
denoise .01 .03 .05 .1 .15
brighten .1 .2 .4 .7 1.1
darken .05 .1 .2 .4 .8
mean_shift .15 .08 0 -.08 -.15
jitter .05 .1 .2 .5 1
non_eccentricity_patch 20 40 60 80 100
pixelate .01 .05 .1 .2 .5
quantization 20 16 13 10 7
color_block 2 4 6 8 10
high_sharpen 1 2 3 6 12
contrast_change .3 .15 0 -.4 -.6
"""


def test_kadids_table() -> None:
    for number, (row, line) in enumerate(zip(DISTORTIONS, PARAMETERS.strip().splitlines(), strict=True), start=1):
        name, *levels = line.split()
        assert (row.id, row.name, row.function.__name__) == (number, name, name)
        assert row.levels == tuple(map(float, levels))


def test_tid2013s_table() -> None:
    assert [row.id for row in TID2013] == list(range(1, 25))
    assert len(set(NAMES)) == 49


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
    images = small[None].contiguous(memory_format=torch.channels_last)
    original = images.clone()
    for amount in row.levels:
        result = row.function(images, amount, Draws([0]))
        assert (result.shape, result.dtype) == (images.shape, torch.float32)
        assert result.data_ptr() != images.data_ptr()
        assert torch.equal(images, original)


@pytest.mark.parametrize("name", NAMES)
def test_seed_decides(name: str, small: Tensor) -> None:
    first, again, *others = (distort(small, name, 4, generator=seeded(seed)) for seed in (1, 1, 2, 3, 4, 5))
    assert torch.equal(first, again)
    fixed = name not in RANDOM if name in KADID else name in FIXED
    assert all(torch.equal(first, other) for other in others) == fixed


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


@pytest.mark.parametrize("threads", [1, 3])
def test_batch_equals_single(small: Tensor, threads: int) -> None:
    images = torch.stack([small, small.flip(2)] * 25)[: len(NAMES)]
    levels = [1 + index % 5 for index in range(len(NAMES))]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        batch = distort_batch(images, NAMES, levels, generators=[seeded(index) for index in range(len(NAMES))])
    finally:
        torch.set_num_threads(before)
    for index, name in enumerate(NAMES):
        alone = distort(images[index], name, levels[index], generator=seeded(index))
        assert torch.equal(batch[index], alone), name


def test_batches_in_inference_mode(small: Tensor) -> None:
    with torch.inference_mode():
        pair = distort_batch(small.expand(2, -1, -1, -1), ["jpeg", 11], [1, 2], generators=[seeded(0), seeded(1)])
    assert torch.equal(pair[0], distort(small, "jpeg", 1, generator=seeded(0)))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNORDERED | TRANSMISSION])
def test_severity_rises_with_the_level(name: str, photo: Tensor) -> None:
    pictures = [distort(photo, name, level, generator=seeded(3)) for level in LEVELS]
    fidelity = [psnr(photo, picture) for picture in pictures]
    similarity = [
        structural_similarity(photo.numpy(), picture.numpy(), channel_axis=0, data_range=1) for picture in pictures
    ]
    assert all(later <= earlier + 0.3 for earlier, later in pairwise(fidelity)), fidelity
    assert fidelity[4] < fidelity[0] - 3
    if name not in {"tid2013/mean_shift", "tid2013/contrast"}:  # structure hardly changes
        assert all(later <= earlier + 0.02 for earlier, later in pairwise(similarity)), similarity


@pytest.fixture(scope="module")
def photographs() -> list[Tensor]:
    names = ("astronaut", "chelsea", "coffee", "motorcycle", "rocket", "china", "flower", "grace_hopper")
    images = [to_float(shrink(read_image(wheel_photograph(name)), 384)) for name in names]
    return [image[:, :384, :512] for image in images]


@pytest.mark.parametrize("name", TID)
def test_tid2013_takes_its_published_steps(name: str, photographs: list[Tensor]) -> None:
    chancy = name in TRANSMISSION | {"tid2013/non_eccentricity_patch"}  # a few bits or patches decide
    images = photographs * (5 if chancy else 1)
    medians = []
    for level in LEVELS:
        distorted = [distort(image, name, level, generator=seeded(i)) for i, image in enumerate(images)]
        medians.append(np.median([psnr(*pair) for pair in zip(images, distorted, strict=True)]))
    assert medians == pytest.approx(STEPS, abs=3.5 if chancy else 1.2)  # five such sets differ by 1.5
    assert all(later < earlier - (0.3 if chancy else 1) for earlier, later in pairwise(medians))


@pytest.mark.parametrize("name", [row.name for row in (*DISTORTIONS, *TID2013) if row.torch_form])
def test_torch_forms_give_the_same_picture(name: str, photo: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU runs, run here on the CPU, in a batch."""
    images = torch.stack([photo, photo.flip(2), photo.flip(1)])
    for level in LEVELS:
        monkeypatch.undo()
        expected = distort_batch(images, [name] * 3, [level] * 3, generators=[seeded(i) for i in range(3)])
        for module in (ops, codec):
            monkeypatch.setattr(module, "on_cpu", lambda images: False)
        result = distort_batch(images, [name] * 3, [level] * 3, generators=[seeded(i) for i in range(3)])
        assert all(psnr(*pair) > 40 for pair in zip(expected, result, strict=True)), level
        alone = distort(images[1], name, level, generator=seeded(1))
        assert torch.allclose(alone, result[1], atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", NAMES)
def test_gpu_gives_the_same_picture(name: str, photo: Tensor) -> None:
    for level in LEVELS:
        expected = distort(photo, name, level, generator=seeded(level))
        result = distort(photo.cuda(), name, level, generator=seeded(level))
        assert result.is_cuda
        assert psnr(expected, result.cpu()) > 40


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNORDERED | TRANSMISSION])
def test_levels_between_levels(name: str, photo: Tensor) -> None:
    assert find(name).amount(2.25) == pytest.approx(0.75 * find(name).levels[1] + 0.25 * find(name).levels[2])
    fidelity = [psnr(photo, distort(photo, name, level, generator=seeded(0))) for level in (2, 2.5, 3)]
    assert fidelity == sorted(fidelity, reverse=True)
    assert fidelity[0] > fidelity[2]


def test_kadid_mos() -> None:
    assert kadid_mos("jpeg", 1) == kadid_mos(10, 1.0) == pytest.approx(4.34, abs=5e-3)
    assert kadid_mos("jpeg", 1, normalize=True) == pytest.approx((kadid_mos("jpeg", 1) - 1) / 4)
    assert kadid_mos("jpeg", 3.5) == pytest.approx((kadid_mos(10, 3) + kadid_mos(10, 4)) / 2)
    with pytest.raises(InputError, match="KADID-10k does not have this type"):
        kadid_mos("tid2013/jpeg", 1)
    with pytest.raises(InputError, match=r"level 1\.\.5"):
        kadid_mos("jpeg", 5.1)


def test_compositions_record_their_order(small: Tensor) -> None:
    steps = [("lens_blur", 2), (11, 1.5), ("jpeg", 3)]
    names = [("lens_blur", 2), ("white_noise", 1.5), ("jpeg", 3)]
    composed, applied = compose(small, steps, generator=seeded(0))
    assert applied == names
    one_by_one, generator = small, seeded(0)
    for name, level in names:
        one_by_one = distort(one_by_one, name, level, generator=generator)
    assert torch.equal(composed, one_by_one)
    orders = {tuple(compose(small, steps, generator=seeded(seed), shuffle=True)[1]) for seed in range(20)}
    assert len(orders) > 3
    assert all(sorted(order) == sorted(names) for order in orders)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types(dtype: torch.dtype, small: Tensor) -> None:
    distorted = distort(small.to(dtype), "jpeg", 3, generator=seeded(0))
    assert distorted.dtype == dtype
    assert within_unit_range(distorted)


def test_range_is_stretched_as_the_generator_does(photo: Tensor) -> None:
    dull = 0.25 + 0.5 * photo
    assert torch.allclose(distort(dull, "mean_shift", 3, generator=seeded(0)), photo, atol=1e-6)


@pytest.mark.parametrize("level", [3, 5])
@pytest.mark.parametrize("name", NAMES)
def test_flat_images_stay_sane(name: str, level: int) -> None:
    flat = torch.full((3, 40, 40), 0.4)
    distorted = distort(flat, name, level, generator=seeded(0))
    assert within_unit_range(distorted)
    if name.endswith(UNSEEN_ON_FLAT):
        assert torch.allclose(distorted, flat, atol=0.03)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(dtype: torch.dtype, small: Tensor) -> None:
    images, levels = small.expand(len(NAMES), -1, -1, -1), [5] * len(NAMES)
    expected = distort_batch(images, NAMES, levels, generators=[seeded(0)] * len(NAMES))
    with torch.autocast("cpu", dtype):
        result = distort_batch(images, NAMES, levels, generators=[seeded(0)] * len(NAMES))
    assert torch.equal(result, expected)


def test_the_default_dtype_changes_nothing(small: Tensor) -> None:
    images, levels = small.expand(len(NAMES), -1, -1, -1), [3] * len(NAMES)
    expected = distort_batch(images, NAMES, levels, generators=[seeded(0)] * len(NAMES))
    torch.set_default_dtype(torch.float64)
    try:
        result = distort_batch(images, NAMES, levels, generators=[seeded(0)] * len(NAMES))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(result, expected)


def test_threads_are_left_as_they_were(small: Tensor) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        distort_batch(small.expand(4, -1, -1, -1), [1, 2, 3, 4], [1] * 4, generators=[seeded(0)] * 4)
        assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("level", LEVELS)
def test_mean_shift(level: int, photo: Tensor) -> None:
    amount = find("mean_shift").levels[level - 1]
    shifted = find("mean_shift").function(photo[None], amount, Draws([0]))[0]
    inside = (photo + amount > 0) & (photo + amount < 1)
    assert torch.allclose((shifted - photo)[inside], torch.tensor(float(amount)), atol=1e-6)
    assert within_unit_range(shifted)


def lab_of(image: Tensor) -> np.ndarray:
    return color.rgb2lab(image.double().numpy(), channel_axis=0)


def rgb_of(lab: np.ndarray) -> Tensor:
    return torch.from_numpy(color.lab2rgb(lab, channel_axis=0)).clamp(0, 1).float()


def grey_spline(values: np.ndarray, *points: tuple[float, float]) -> np.ndarray:
    x, y = zip((0, 0), *points, (1, 1), strict=True)
    return np.clip(CubicSpline(x, y)(values), 0, 1)


def test_color_diffusion_against_the_plain_form(photo: Tensor) -> None:
    lab = lab_of(photo)
    lab[1:] = ndimage.gaussian_filter(lab[1:], (0, 3.5, 3.5), mode="nearest", truncate=2)
    assert psnr(find("color_diffusion").function(photo[None], 1.0, Draws([0]))[0], rgb_of(lab)) > 45


def test_high_sharpen_against_the_plain_form(photo: Tensor) -> None:
    mild = 0.3 + 0.4 * photo  # inside the gamut, where scikit-image may judge
    lab = lab_of(mild)
    lab[0] += 1.0 * (lab[0] - ndimage.gaussian_filter(lab[0], 3, mode="nearest", truncate=2))
    assert psnr(find("high_sharpen").function(mild[None], 1.0, Draws([0]))[0], rgb_of(lab)) > 45


def test_tone_curves_against_the_plain_form(photo: Tensor) -> None:
    values, lab = photo.double().numpy(), lab_of(photo)
    bright = grey_spline(values, (0.5, 0.7))
    lab[0] = 100 * grey_spline(lab[0] / 100, (0.5, 0.7))
    expected = {
        "brighten": (2 * torch.from_numpy(bright) + rgb_of(lab)) / 3,
        "darken": torch.from_numpy(grey_spline(values, (0.5, 0.3))),
        "contrast_change": torch.from_numpy(grey_spline(values, (0.3, 0.15), (0.5, 0.5), (0.7, 0.85))),
    }
    for name, picture in expected.items():
        assert psnr(find(name).function(photo[None], 0.4, Draws([0]))[0], picture) > 50, name


def test_color_shift_moves_green_at_edges_only() -> None:
    image = torch.full((1, 3, 96, 96), 0.2)
    image[:, :2, 40:60, 40:60] = 0.9  # in blue there is nothing to move
    directions = Draws([5]).uniform(2)[0]
    down, right = (8 * directions / directions.norm()).round().int().tolist()
    shifted = find("color_shift").function(image, 8, Draws([5]))
    assert torch.equal(shifted[:, [0, 2]], image[:, [0, 2]])
    moved = torch.full((96, 96), 0.2)
    moved[40 + down : 60 + down, 40 + right : 60 + right] = 0.9
    mask = (shifted[0, 1] - image[0, 1]).abs() > 0.65  # where the mask is all but 1
    assert mask.sum() > 30
    assert torch.allclose(shifted[0, 1][mask], moved[mask], atol=0.1)
    assert torch.equal(shifted[0, 1, :15], image[0, 1, :15])


@pytest.mark.parametrize("level", LEVELS)
def test_pixelate_keeps_so_many_places(level: int) -> None:
    strength = find("pixelate").levels[level - 1]
    ramp = torch.linspace(0, 1, 200).expand(1, 3, 100, 200)
    columns = find("pixelate").function(ramp, strength, Draws([0]))[0, 0, 0].unique()
    assert len(columns) == np.ceil((0.95 - strength**0.6) * 200)


@pytest.mark.parametrize("level", LEVELS)
def test_moved_patches(level: int) -> None:
    """One patch at a time: 16 x 16 pixels from up to 8 away; all together, at most so many."""
    height, width = 160, 240
    index = torch.arange(height * width, dtype=torch.float32).view(1, 1, height, width).expand(1, 3, -1, -1)
    function, count = find("non_eccentricity_patch").function, find("non_eccentricity_patch").levels[level - 1]
    for seed in range(20):
        source = function(index, 1, Draws([seed]))[0, 0].long()
        y, x = torch.nonzero(source != index[0, 0].long(), as_tuple=True)
        if len(y) == 0:
            continue  # moved by nothing
        assert len(y) == 256
        assert y.max() - y.min() == x.max() - x.min() == 15
        away = torch.stack((source[y, x] // width - y, source[y, x] % width - x))
        assert (away == away[:, :1]).all()
        assert away.abs().max() <= 8
    changed = (function(index, count, Draws([3])) != index)[0, 0].sum()
    assert 0.4 * min(count * 256, height * width) < changed <= count * 256


def test_fewer_patches_and_blocks_are_the_first_of_more(photo: Tensor) -> None:
    for name in ("color_block", "non_eccentricity_patch"):
        few, more = (distort(photo, name, level, generator=seeded(1)) for level in (1, 2))
        kept = ((few != photo) & (few == more)).sum() / (few != photo).sum()
        assert kept > 0.5, name


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


@pytest.mark.parametrize("name", ["white_noise", "multiplicative_noise", "tid2013/multiplicative_noise"])
def test_noise_variance(name: str) -> None:
    row = find(name)
    flat = torch.full((1, 3, 256, 256), 0.5)
    noise = row.function(flat, row.levels[2], Draws([0])) - flat
    signal_power = 1.0 if name == "white_noise" else 0.25
    assert noise.var() == pytest.approx(row.levels[2] * signal_power, rel=0.05)
    assert abs(noise.mean()) < 1e-3


@pytest.mark.parametrize("kind", ["white", "multiplicative", "impulse", "white_noise_ycbcr", "jitter"])
def test_no_noise_is_the_identity(kind: str, small: Tensor) -> None:
    name = kind if kind in KADID else f"{kind}_noise"
    images = small[None].contiguous(memory_format=torch.channels_last)
    assert torch.allclose(find(name).function(images, 0.0, Draws([0])), images, atol=1e-5)


def test_noise_spectra() -> None:
    """Correlated noise is low, high-frequency noise is high, and masked noise hides in texture."""
    flat = torch.full((1, 3, 256, 256), 0.5)

    def low_share(name: str) -> float:
        noise = find(name).function(flat, 0.002, Draws([0])) - 0.5
        power = torch.fft.fft2(noise).abs().square()
        frequency = torch.fft.fftfreq(256)
        low = frequency[:, None].square() + frequency[None, :].square() < 0.25**2
        return float(power[..., low].sum() / power.sum())

    shares = [low_share(f"tid2013/{kind}_noise") for kind in ("correlated", "additive", "high_frequency")]
    assert shares[0] > 0.8 > 0.4 > shares[1] > 0.1 > shares[2]
    half = torch.cat((flat[..., :128], torch.rand(1, 3, 256, 128, generator=seeded(0))), dim=-1)
    noise = find("tid2013/masked_noise").function(half, 0.002, Draws([0])) - half
    assert noise[..., :100].std() < 0.01 * noise[..., 150:].std()


def test_otsu_is_exact() -> None:
    histogram = np.random.default_rng(0).integers(1, 100, 16)

    def between_class(edges: tuple[int, ...]) -> float:
        """Up to a constant, the between-class variance of a split after each of `edges`."""
        classes = np.split(np.arange(16), np.add(edges, 1))
        return sum(np.sum(histogram[part] * part) ** 2 / histogram[part].sum() for part in classes)

    best = max(combinations(range(15), 4), key=between_class)
    assert tuple(otsu_thresholds(torch.from_numpy(histogram)[None].double(), 4)[0].tolist()) == best


def test_otsu_agrees_with_scikit_image(photo: Tensor) -> None:
    samples = (photo * 255).round().numpy().astype(np.uint8)
    histogram = torch.bincount(torch.from_numpy(samples).flatten().long(), minlength=256)
    expected = threshold_multiotsu(hist=(histogram.numpy(), np.arange(256)), classes=4)
    assert otsu_thresholds(histogram[None].double(), 3)[0].tolist() == expected.tolist()


def test_blur_agrees_with_scipy(photo: Tensor) -> None:
    """At sigma 2 and 5, whose two sigma are whole pixels."""
    for level, sigma in ((4, 2), (5, 5)):
        blurred = find("gaussian_blur").function(photo[None], float(sigma), Draws([0]))[0]
        expected = ndimage.gaussian_filter(photo.double().numpy(), (0, sigma, sigma), mode="nearest", truncate=2)
        assert find("gaussian_blur").levels[level - 1] == sigma
        assert np.allclose(blurred, expected, atol=1e-5)


def test_displacement_agrees_with_scipy(small: Tensor) -> None:
    shift = 2 * Draws([0]).normal(2, 72, 96)
    y, x = np.mgrid[:72, :96]
    places = np.stack([y + shift[0, 1].numpy(), x + shift[0, 0].numpy()])
    expected = [ndimage.map_coordinates(plane, places, order=1, mode="nearest") for plane in small.numpy()]
    assert np.allclose(ops.displace(small[None], shift)[0], expected, atol=1e-4)


def test_lab_agrees_with_scikit_image(small: Tensor) -> None:
    """Where colours are real; scikit-image, like kornia, cuts others off too early."""
    lab = ops.rgb_to_lab(small[None])
    difference = lab[0].numpy() - color.rgb2lab(small.numpy(), channel_axis=0)
    assert np.abs(difference).mean() < 0.2  # of 100: OpenCV interpolates in a table
    assert psnr(ops.lab_to_rgb(lab)[0], small) > 50


def test_jpeg_is_libjpegs(photo: Tensor) -> None:
    stream = io.BytesIO()
    pixels = (photo * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG", quality=24, subsampling="4:2:0")
    expected = torch.from_numpy(np.array(Image.open(stream))).permute(2, 0, 1).float() / 255
    assert torch.equal(find("jpeg").function(photo[None], 24, Draws([0]))[0], expected)


def test_jpeg2000_keeps_its_ratio(photo: Tensor) -> None:
    pixels = (photo * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)
    for ratio in find("jpeg2000").levels[:4]:
        stream = codec.encode_2000(pixels, ratio)
        assert pixels.size / len(stream) == pytest.approx(ratio, rel=0.15)
        assert stream[stream.index(b"\xff\x52") + 13] == 0  # COD's transformation: the irreversible 9/7 wavelet


def test_draws_are_pure_functions_of_their_seed() -> None:
    seeds = [0, 1, 2**62, 2**63 - 1]
    together, again = Draws(seeds), Draws(seeds)
    first, second = together.normal(3, 5), together.normal(3, 5)
    assert torch.equal(first, again.normal(3, 5))
    assert not torch.equal(first, second)
    for index, seed in enumerate(seeds):
        assert torch.equal(Draws([seed]).normal(3, 5)[0], first[index])
    assert len(first.flatten().unique()) == first.numel()


def test_draws_have_their_distributions() -> None:
    draws = Draws([7, 8])
    normal, uniform = draws.normal(500_001), draws.uniform(500_000)
    assert normal.mean().abs() < 3e-3
    assert normal.var() == pytest.approx(1, rel=5e-3)
    assert (normal.abs() < 1.959964).float().mean() == pytest.approx(0.95, abs=1e-3)
    assert torch.corrcoef(normal)[0, 1].abs() < 5e-3
    assert torch.corrcoef(torch.stack((normal[0, 1:], normal[0, :-1])))[0, 1].abs() < 5e-3
    assert uniform.histc(20, 0, 1).std() < 3 * (1e6 / 20) ** 0.5
    assert 0 <= uniform.min() < uniform.max() < 1
    firsts = Draws(range(20_000)).uniform(1)[:, 0]  # of consecutive seeds
    assert firsts.mean() == pytest.approx(0.5, abs=0.01)
    assert torch.corrcoef(torch.stack((firsts[1:], firsts[:-1])))[0, 1].abs() < 0.03
    whole = draws.integers([(-3, 4), (5, 5)], 10_000)
    assert whole.shape == (2, 10_000, 2)
    assert set(whole[..., 0].ravel()) == set(range(-3, 5))
    assert set(whole[..., 1].ravel()) == {5}


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
        assert len(kernel) == 2 * np.ceil(radius - 0.5) + 1
        for turned in (kernel[::-1], kernel[:, ::-1], kernel.T):
            assert np.array_equal(turned, kernel)
    for angle in (0.3, 2.0):
        line = line_kernel(6, angle)
        assert np.allclose(line, line[::-1, ::-1], atol=1e-7)
        assert np.allclose(line, line_kernel(6, np.pi - angle)[:, ::-1], atol=1e-7)
    assert np.array_equal(line_kernel(1, 0.7), [[1]])
    assert np.allclose(line_kernel(5, 0)[2], 0.2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.rand(1, 64, 64), "3, H, W"),
        (torch.rand(2, 3, 64, 64), "3, H, W"),
        (torch.rand(3, 31, 64), "32"),
        (torch.zeros(3, 64, 64, dtype=torch.uint8), "floating"),
        (torch.zeros(64, 64, 3).numpy(), "got ndarray"),
        (255 * torch.rand(3, 64, 64), r"values in \[0, 1\]"),
        (torch.full((3, 64, 64), torch.nan), r"values in \[0, 1\]"),
    ],
)
def test_wrong_images(wrong: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distort(wrong, "jpeg", 1, generator=seeded(0))


@pytest.mark.parametrize("level", [0, 6, -1, 0.99, 5.01, float("nan")])
def test_wrong_levels(level: float, small: Tensor) -> None:
    with pytest.raises(ValueError, match="level"):
        distort(small, "jpeg", level, generator=seeded(0))


def test_wrong_names(small: Tensor) -> None:
    assert find(10) is find("10") is find("jpeg")
    assert find("tid2013/10") is find("tid2013/jpeg")
    with pytest.raises(ValueError, match="Did you mean 'gaussian_blur'"):
        find("gausian_blur")
    with pytest.raises(ValueError, match=r"1\.\.25"):
        find(26)
    assert find("kadid10k/jpeg") is find("jpeg")


def test_wrong_batches(small: Tensor) -> None:
    with pytest.raises(ValueError, match="B, 3, H, W"):
        distort_batch(small, ["jpeg"], [1], generators=[seeded(0)])
    assert distort_batch(small[None][:0], [], [], generators=[]).shape == (0, 3, 72, 96)
    with pytest.raises(ValueError, match="as many"):
        distort_batch(small[None], ["jpeg"], [1, 2], generators=[seeded(0)])


@settings(max_examples=15, deadline=None)
@given(height=st.integers(32, 80), width=st.integers(32, 80), level=st.floats(1, 5), seed=st.integers(0, 99))
def test_any_size(height: int, width: int, level: float, seed: int) -> None:
    image = torch.rand(3, height, width, generator=seeded(seed))
    for name in NAMES:
        distorted = distort(image, name, level, generator=seeded(seed))
        assert distorted.shape == image.shape
        assert within_unit_range(distorted)


def test_without_kornia_only_the_cpu_distorts(monkeypatch):
    monkeypatch.setitem(sys.modules, "kornia.filters", None)
    assert ops.gaussian(torch.rand(1, 3, 32, 32), 1.0).shape == (1, 3, 32, 32)
    with pytest.raises(InputError, match=r"pip install 'fewshot-iqa\[gpu\]'"):
        ops.gaussian(torch.rand(1, 3, 32, 32, device="meta"), 1.0)
