"""Speed of the distortions: within the budget, and against what one would write first, in pairs in one run.

pytest -m slow tests/benchmarks
"""

import io
import statistics
import time

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from skimage import color
from skimage.restoration import denoise_nl_means

from fewshot_iqa.data.synthetic import wheel_photograph
from fewshot_iqa.distortions import find
from fewshot_iqa.distortions.draws import Draws
from fewshot_iqa.distortions.filters import disk_kernel
from fewshot_iqa.distortions.noise import PATCH, SEARCH
from fewshot_iqa.studies.bench_distort import bench_distort

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB")]
RANDOM = np.random.default_rng(0)


def blur(pixels):
    return ndimage.gaussian_filter(pixels, (5, 5, 0), mode="nearest", truncate=2)


def lens(pixels):
    return ndimage.convolve(pixels, disk_kernel(6)[:, :, None], mode="nearest")


def saturate(pixels):
    lab = color.rgb2lab(pixels)
    lab[..., 1:] *= 3
    return color.lab2rgb(lab)


def jpeg(pixels):
    stream = io.BytesIO()
    Image.fromarray((pixels * 255).round().astype(np.uint8)).save(stream, "JPEG", quality=24, subsampling="4:2:0")
    return np.asarray(Image.open(stream), dtype=np.float32) / 255


def noise(pixels):
    return np.clip(pixels + RANDOM.normal(0, 0.003**0.5, pixels.shape), 0, 1)


def denoise(pixels):
    noisy, sigma = np.clip(pixels + RANDOM.normal(0, 0.05**0.5, pixels.shape), 0, 1), 0.05**0.5
    options = {"patch_size": PATCH, "patch_distance": SEARCH // 2, "h": sigma}
    return np.stack([denoise_nl_means(noisy[..., channel], **options) for channel in range(3)], axis=-1)


def jitter(pixels):
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]].astype(np.float32)
    for _ in range(5):
        places = [axis + 0.2 * RANDOM.standard_normal(axis.shape, dtype=np.float32) for axis in (y, x)]
        planes = [ndimage.map_coordinates(pixels[..., c], places, order=1, mode="nearest") for c in range(3)]
        pixels = np.stack(planes, axis=-1)
    return pixels


@pytest.mark.parametrize(
    ("name", "amount", "plain", "ratio"),
    [
        ("gaussian_blur", 5, blur, 0.5),
        ("lens_blur", 6, lens, 0.5),
        ("color_saturation_lab", 3, saturate, 0.5),
        ("jpeg", 24, jpeg, 1.3),
        ("white_noise", 0.003, noise, 0.7),
        ("denoise", 0.05, denoise, 0.5),
        ("jitter", 0.2, jitter, 0.5),
    ],
)
def test_beside_the_plain_form(name, amount, plain, ratio):
    pixels = np.asarray(Image.open(wheel_photograph("astronaut")).resize((512, 384)), dtype=np.float32) / 255
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pairs = []
    try:
        for _ in range(10):
            ours = seconds(lambda: find(name).function(images, amount, Draws([0])))
            pairs.append(ours / seconds(lambda: plain(pixels)))
        pairs = pairs[1:]  # the first is a warm-up
    finally:
        torch.set_num_threads(threads)
    print(f"{name}: {statistics.median(pairs):.3f} of the time of the plain form")
    assert statistics.median(pairs) < ratio


def test_within_the_budget():
    """On two cores: 120 variants in a second, a denoised picture in half a second, a training kept fed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        result = bench_distort(device="cpu")
    finally:
        torch.set_num_threads(threads)
    assert result["variants"] == 120
    assert result["variants_seconds"] < 1.0
    assert result["types"]["denoise"] < 500
    assert result["feeding"]["ratio"] > 1
    assert sum(name.startswith("tid2013/") for name in result["types"]) == 24


def seconds(work):
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
