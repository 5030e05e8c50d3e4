"""The same pixels make the same picture, whatever they come in; what is no picture is refused in one line."""

from functools import partial
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageOps

from fewshot_iqa.config import ViewSpec
from fewshot_iqa.errors import InputError
from fewshot_iqa.images import list_pictures, prepare, prepared_size, read_image, shrink, to_picture
from tests.conftest import photograph

FORMATS = ("png", "tiff")  # lossless
ROTATED = 6  # EXIF's number of a camera that was turned by a quarter


def channels_first(array: np.ndarray) -> np.ndarray:
    return array.copy() if array.ndim == 2 else array.transpose(2, 0, 1).copy()


def as_tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(channels_first(array))


def sizes(low: int, high: int):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """RGBA (60, 72, 4) uint8 with every kind of transparency."""
    alpha = np.linspace(0, 255, 60 * 72).reshape(60, 72).astype(np.uint8)
    return np.dstack([np.asarray(photograph(0)), alpha])


@pytest.mark.parametrize(("channels", "suffix"), list(product(["L", "LA", "RGB", "RGBA"], FORMATS)))
def test_a_file_an_image_an_array_and_a_tensor_are_the_same_picture(tmp_path, pixels, channels, suffix):
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(pixels).convert(channels).save(path)
    expected = read_image(path)
    assert expected.shape == (3, 60, 72)
    assert expected.dtype == np.uint8
    with Image.open(path) as image:
        array = np.asarray(image)
        sources = [str(path), image, array, array / 255, array.astype(np.float32) / 255, np.asfortranarray(array)]
        sources += [channels_first(array), expected]
        tensor = as_tensor(array)
        sources += [tensor, tensor / 255, (tensor / 255).half(), (tensor / 255).requires_grad_()]
        for i, source in enumerate(sources):
            assert np.array_equal(to_picture(source), expected), i


def test_the_photograph_of_a_camera(tmp_path):
    """JPEG, turned: a Pillow image is turned upright as the file is, an array is taken as it is."""
    exif = Image.Exif()
    exif[0x0112] = ROTATED
    photograph(1).save(tmp_path / "turned.jpg", exif=exif)
    expected = read_image(tmp_path / "turned.jpg")
    assert expected.shape == (3, 72, 60)
    with Image.open(tmp_path / "turned.jpg") as image:
        assert np.array_equal(to_picture(image), expected)
        assert image.size == (72, 60)  # the user's own image is left as it is
        upright, lying = np.asarray(ImageOps.exif_transpose(image)), np.asarray(image)
    assert np.array_equal(to_picture(upright), expected)
    assert np.array_equal(to_picture(as_tensor(upright)), expected)
    assert np.array_equal(np.rot90(to_picture(lying), -1, (1, 2)), expected)


@pytest.mark.parametrize(("suffix", "turn"), list(product([*FORMATS, "jpg", "webp"], range(1, 9))))
def test_every_orientation_is_undone(tmp_path, suffix, turn):
    photograph(2).save(tmp_path / f"plain.{suffix}")
    with Image.open(tmp_path / f"plain.{suffix}") as image:
        stored = np.asarray(image)
    exif = Image.Exif()
    exif[0x0112] = turn
    photograph(2).save(tmp_path / f"turned.{suffix}", exif=exif)
    quarters, mirrored = {1: (0, 0), 2: (0, 1), 3: (2, 0), 4: (2, 1), 5: (3, 1), 6: (3, 0), 7: (1, 1), 8: (1, 0)}[turn]
    expected = np.rot90(stored, quarters)
    expected = expected[:, ::-1] if mirrored else expected
    assert np.array_equal(read_image(tmp_path / f"turned.{suffix}"), channels_first(expected))


@pytest.mark.parametrize(
    ("mode", "suffix"), [("P", "png"), ("P", "gif"), ("1", "png"), ("CMYK", "jpg"), ("CMYK", "tiff")]
)
def test_other_modes(tmp_path, mode, suffix):
    """What an array cannot say, a palette or four inks, is the same from a file and from Pillow."""
    path = tmp_path / f"picture.{suffix}"
    photograph(3).convert(mode).save(path)
    with Image.open(path) as image:
        assert image.mode == mode
        rgb = np.asarray(image.convert("RGB"))
        for source in (path, image, rgb, as_tensor(rgb)):
            assert np.array_equal(to_picture(source), channels_first(rgb))
        if mode == "1":
            assert np.array_equal(to_picture(np.asarray(image)), channels_first(rgb))


def test_a_transparent_palette_lies_over_white(tmp_path):
    image = photograph(3).convert("P")
    image.save(tmp_path / "clear.png", transparency=bytes(256))
    assert (read_image(tmp_path / "clear.png") == 255).all()


@pytest.mark.parametrize(("channels", "suffix"), list(product([1, 3, 4], FORMATS)))
def test_16_bit(tmp_path, channels, suffix):
    """The upper eight bits: a grey file, a colour file, an array and a tensor of it are the same picture."""
    deep = np.random.default_rng(0).integers(0, 65536, (40, 50, channels), dtype=np.uint16)
    if channels == 4:
        deep[..., 3] = 65535
    path = tmp_path / f"deep.{suffix}"
    assert cv2.imwrite(str(path), deep[..., [2, 1, 0, 3][:channels]] if channels > 1 else deep)
    expected = np.broadcast_to(channels_first((deep >> 8).astype(np.uint8)[..., :3]), (3, 40, 50))
    with Image.open(path) as image:
        for source in (path, image, deep, deep.astype(">u2"), as_tensor(deep)):
            assert np.array_equal(to_picture(source), expected)


def test_floating_point_files(tmp_path):
    grey = np.asarray(photograph(4).convert("L"))
    for top in (255, 128):  # the brightest pixel decides nothing
        dimmed = (grey * (top / 255)).round()
        Image.fromarray((dimmed / 255).astype(np.float32)).save(tmp_path / "float.tiff")
        assert np.array_equal(read_image(tmp_path / "float.tiff"), to_picture(dimmed.astype(np.uint8)))
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(InputError, match=r"float.tiff: floats from \d+ to \d+, not in \[0, 1\]"):
        read_image(tmp_path / "float.tiff")
    Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(InputError, match="holds NaN"):
        read_image(tmp_path / "float.tiff")


@given(arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3]))))
def test_opaque_pixels_are_kept(array):
    expected = np.broadcast_to(channels_first(array), (3, *array.shape[:2]))
    for source in (
        array,
        as_tensor(array),
        array / 255,
        as_tensor(array) / 255,
        array.astype(np.uint16) * 257,
    ):
        assert np.array_equal(to_picture(source), expected)


@given(arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(4))))
def test_alpha_blends_with_white(array):
    colour, alpha = array[..., :3].astype(float), array[..., 3:] / 255
    blended = channels_first(colour * alpha + 255 * (1 - alpha))
    assert abs(to_picture(array) - blended).max() <= 1
    for source in (as_tensor(array), array / 255, Image.fromarray(array)):
        assert np.array_equal(to_picture(source), to_picture(array))


@given(arrays(np.float64, sizes(1, 8), elements=st.floats(0, 1)))
def test_floats_are_rounded_to_levels(array):
    assert abs(to_picture(array)[0] - array * 255).max() <= 0.5 + 1e-9
    assert np.array_equal(to_picture(torch.from_numpy(array)), to_picture(array))


@given(arrays(np.float64, sizes(1, 8), elements=st.floats(-1e3, 1e3)), st.booleans())
def test_floats_out_of_range_are_refused(array, low):
    array.flat[0] = -0.01 if low else 1.01
    with pytest.raises(InputError, match=r"^photo: floats from .* divide by 255, or give uint8$"):
        to_picture(array, "photo")


SHAPES = {
    (40, 50, 7): "shape (40, 50, 7); give an array (H, W)",
    (2, 40, 50, 3): "shape (2, 40, 50, 3); give an array (H, W)",
    (40,): "shape (40,); give an array (H, W)",
    (): "shape (); give an array (H, W)",
    (0, 40, 3): "is empty",
    (40, 50, 0): "shape (40, 50, 0); give an array (H, W)",
    (2, 41, 3): "41x2 is a strip",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_arrays_that_are_no_picture(shape):
    with pytest.raises(InputError) as error:
        to_picture(np.zeros(shape, np.uint8), "images[3]")
    assert str(error.value).startswith(f"images[3]: {SHAPES[shape]}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (torch.zeros(40, 50, 3), "shape (40, 50, 3); tensors are (3, H, W): use tensor.permute(2, 0, 1)"),
        (torch.zeros(1, 3, 40, 50), "shape (1, 3, 40, 50); give a tensor (3, H, W)"),
        (torch.zeros(3, 0, 50), "is empty"),
        (torch.zeros(3, 100, 4), "4x100 is a strip"),
        (torch.full((3, 9, 9), torch.nan), "holds NaN"),
        (torch.full((3, 9, 9), 255.0), "floats from 255 to 255, not in [0, 1]"),
        (torch.zeros(3, 9, 9, dtype=torch.int64), "values of type int64; give uint8, uint16, or float in [0, 1]"),
        (np.full((9, 9), np.inf), "floats from inf to inf"),
        (np.zeros((9, 9), complex), "values of type complex128"),
        (Image.new("RGB", (0, 5)), "is empty: 0x5"),
        (Image.new("RGB", (50, 2)), "50x2 is a strip"),
        (None, "of type NoneType; give a path, a PIL image"),
        (b"\x89PNG", "of type bytes; give a path, a PIL image"),
        ([[1, 2]], "of type list; give a path"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_picture(source, message):
    with pytest.raises(InputError) as error:
        to_picture(source)
    assert str(error.value).startswith(f"image: {message}")
    assert "\n" not in str(error.value)


def test_files_that_are_no_picture(tmp_path):
    photograph(5).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no picture")
    for name, message in {
        "cut.png": "cannot be decoded", "empty.png": "the file is empty", "text.png": "not an image",
        "gone.png": "no such file", ".": "a folder, no picture",
    }.items():  # fmt: skip
        with pytest.raises(InputError) as error:
            to_picture(tmp_path / name)
        assert str(error.value).startswith(f"{tmp_path / name}: {message}")
    with pytest.raises(InputError, match=r"https://host/a.png: a URL; download the picture"):
        to_picture("https://host/a.png")
    with Image.open(tmp_path / "cut.png") as image, pytest.raises(InputError, match="image: cannot be decoded"):
        to_picture(image)


def test_what_is_given_is_left_as_it_is(pixels):
    before = pixels.copy()
    to_picture(pixels)[:] = 7
    tensor = as_tensor(pixels)
    to_picture(tensor)[:] = 7
    assert (pixels == before).all()
    assert torch.equal(tensor, as_tensor(before))


def test_one_picture_is_known_from_several(photographs):
    path = photographs / "photo0.png"
    image = photograph(0)
    array = np.asarray(image)
    for single in (path, str(path), image, array, array[..., 0], as_tensor(array), "nowhere.png"):
        ((name, source),), alone = list_pictures(single)
        assert alone
        assert source is single
        assert name == (str(single) if isinstance(single, str | Path) else "image")
    files = [photographs / f"photo{i}.png" for i in range(6)]
    for several in (photographs, str(photographs), [photographs], files, map(str, files), pd.Series(map(str, files))):
        pictures, alone = list_pictures(several)
        assert not alone
        assert [name for name, _ in pictures] == [str(file) for file in files]
    batch = as_tensor(array)[None].repeat(2, 1, 1, 1)
    for several in (batch, batch.permute(0, 2, 3, 1).numpy(), [image, array]):
        pictures, alone = list_pictures(several)
        assert not alone
        assert [name for name, _ in pictures] == ["images[0]", "images[1]"]
        assert all(np.array_equal(to_picture(source), to_picture(array)) for _, source in pictures)
    assert list_pictures([path, image]) == ([(str(path), path), ("images[1]", image)], False)
    assert list_pictures([]) == ([], False)
    assert list_pictures(np.array([str(path)])) == ([(str(path), str(path))], False)


def test_pictures_are_listed_without_being_decoded(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    assert list_pictures([tmp_path, "gone.png"])[0] == [
        (str(tmp_path / "text.png"), tmp_path / "text.png"), ("gone.png", "gone.png"),
    ]  # fmt: skip


def test_what_holds_no_pictures(tmp_path):
    table = pd.DataFrame({"image": ["a.png"], "score": [3]})
    with pytest.raises(
        InputError, match=r"^images: of type DataFrame; give one column of it, such as table\['image'\]$"
    ):
        list_pictures(table)
    with pytest.raises(InputError, match="of type dict; give one column"):
        list_pictures({"image": []})
    with pytest.raises(InputError, match="of type int; give a path"):
        list_pictures(3)
    with pytest.raises(InputError, match="no images in this folder"):
        list_pictures(tmp_path)


@pytest.mark.parametrize("turn", [1, 6])
def test_a_large_jpeg_is_reduced_while_it_is_decoded(tmp_path, turn):
    """To the size and nearly the pixels that its whole picture is reduced to; upright."""
    exif, views = Image.Exif(), ViewSpec(crop=32, short_side=48)
    exif[0x0112] = turn
    photograph(5).resize((803, 601), Image.Resampling.BICUBIC).save(tmp_path / "large.jpg", exif=exif, quality=95)
    whole = read_image(tmp_path / "large.jpg")
    reduced = read_image(tmp_path / "large.jpg", size=partial(prepared_size, views))
    expected = prepare(whole, views)
    assert reduced.shape == expected.shape
    assert 0 < np.abs(reduced.astype(int) - expected).max() <= 8
    assert np.abs(reduced.astype(int) - expected).mean() < 1.5


def test_reducing_is_that_of_torch():
    image = np.asarray(photograph(6).resize((301, 203))).transpose(2, 0, 1)
    for side in (48, 97):
        ours = shrink(image, side)
        tensor = torch.from_numpy(image.copy())[None].float()
        theirs = torch.nn.functional.interpolate(tensor, ours.shape[1:], mode="bilinear", antialias=True)[0]
        assert np.abs(ours - theirs.numpy()).max() <= 1
