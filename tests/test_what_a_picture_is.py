"""What is opened as a picture, what its metadata say of its pixels, and what else lies in folders."""

import io
import os
import stat
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from fewshot_iqa import files
from fewshot_iqa.errors import InputError, InputWarning
from fewshot_iqa.files import find_images
from fewshot_iqa.images import read_header, read_image, to_picture
from tests.conftest import photograph

SRGB = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
P3 = np.array([[0.515102, 0.291965, 0.157153], [0.241182, 0.692236, 0.066582], [-0.001049, 0.041881, 0.784378]])


ADOBE_RGB = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def profile(primaries: np.ndarray | None, gamma: float) -> bytes:
    """An ICC profile of version 2: the columns of `primaries` are XYZ (D50) of red, green and blue; None: of grey."""

    def xyz(values) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {b"wtpt": xyz((0.9642, 1.0, 0.8249)), b"desc": b"desc\0\0\0\0\0\0\0\2x\0" + bytes(80)}
    tags |= {b"cprt": b"text\0\0\0\0none\0\0\0\0"}
    if primaries is None:
        tags |= {b"kTRC": curve}
    else:
        tags |= {letter + b"XYZ": xyz(column) for letter, column in zip((b"r", b"g", b"b"), primaries.T, strict=True)}
        tags |= {letter + b"TRC": curve for letter in (b"r", b"g", b"b")}
    at, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content
    head = struct.pack(
        ">I4sI4s4s4s", at + len(body), b"lcms", 0x02100000, b"mntr", b"GRAY" if primaries is None else b"RGB ", b"XYZ "
    )
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">iii", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + body


def encoded(image: Image.Image, primaries: np.ndarray, gamma: float) -> Image.Image:
    """The pixels of an sRGB image in other primaries and another gamma, computed in float64."""
    values = np.asarray(image) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    other = linear @ (np.linalg.inv(primaries) @ SRGB).T
    return Image.fromarray((other.clip(0, 1) ** (1 / gamma) * 255).round().astype(np.uint8))


@pytest.mark.parametrize(("primaries", "gamma"), [(P3, 2.2), (SRGB, 1.0), (P3, 1.8)])
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
def test_colours_are_those_of_srgb_whatever_the_profile(tmp_path, primaries, gamma, suffix):
    image = photograph(0)
    path = tmp_path / f"a.{suffix}"
    encoded(image, primaries, gamma).save(path, icc_profile=profile(primaries, gamma), lossless=True)
    plain = to_picture(image).astype(float)
    assert np.abs(read_image(path) - plain).mean() < 1.5
    assert np.abs(to_picture(encoded(image, primaries, gamma)) - plain).mean() > 4  # without its profile


def test_grey_and_transparent_pixels_have_profiles_too(tmp_path):
    grey = photograph(1).convert("L")
    linear = encoded(grey.convert("RGB"), SRGB, 1.0).getchannel(0)
    linear.save(tmp_path / "grey.png", icc_profile=profile(None, 1.0))
    assert np.abs(read_image(tmp_path / "grey.png") - to_picture(grey).astype(float)).mean() < 1.5
    clear = encoded(photograph(1), P3, 2.2)
    clear.putalpha(128)
    clear.save(tmp_path / "clear.png", icc_profile=profile(P3, 2.2))
    expected = photograph(1)
    expected.putalpha(128)
    assert np.abs(read_image(tmp_path / "clear.png") - to_picture(expected).astype(float)).mean() < 1.5


def test_a_gamma_without_a_profile_is_that_of_a_png_file(tmp_path):
    encoded(photograph(2), SRGB, 1.0).save(
        tmp_path / "linear.png", pnginfo=with_chunk(b"gAMA", struct.pack(">I", 100000))
    )
    with Image.open(tmp_path / "linear.png") as file:
        assert file.info["gamma"] == 1
    assert np.abs(read_image(tmp_path / "linear.png") - to_picture(photograph(2)).astype(float)).mean() < 4


def adobe_exif() -> Image.Exif:
    """As cameras mark Adobe RGB without a profile."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    return exif


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_exif_marks_adobe_rgb(tmp_path, suffix):
    image, path = photograph(0), tmp_path / f"a.{suffix}"
    made = encoded(image, ADOBE_RGB, 563 / 256)
    made.save(path, exif=adobe_exif(), quality=100, lossless=True, subsampling=0)
    assert np.abs(read_image(path) - to_picture(image).astype(float)).mean() < 2
    made.save(path, exif=adobe_exif(), quality=100, lossless=True, subsampling=0, icc_profile=srgb_profile())
    assert np.abs(read_image(path) - to_picture(made).astype(float)).mean() < 1.5  # the profile decides


P3_XY = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


def with_chunk(name: bytes, content: bytes, **more: bytes) -> PngInfo:
    notes = PngInfo()
    for key, value in {name.decode(): content, **more}.items():
        notes.add(key.encode(), value)
    return notes


# a gamma of 2.2 is read as sRGB's curve, which differs from it in the shadows
@pytest.mark.parametrize(("gamma", "kept", "within"), [(1.8, 55556, 1.5), (2.2, 45455, 2.5)])
def test_chromaticities_of_a_png_file_are_those_of_its_colours(tmp_path, gamma, kept, within):
    image = photograph(0)
    notes = with_chunk(b"cHRM", struct.pack(">8I", *P3_XY), gAMA=struct.pack(">I", kept))
    encoded(image, P3, gamma).save(tmp_path / "a.png", pnginfo=notes)
    assert np.abs(read_image(tmp_path / "a.png") - to_picture(image).astype(float)).mean() < within


@pytest.mark.parametrize("kept", [(0,) * 8, (33333,) * 8, (2**32 - 1,) * 8, (31270, 0, 1, 0, 2, 0, 3, 0)])
def test_impossible_chromaticities_count_as_none(tmp_path, kept):
    photograph(0).save(tmp_path / "a.png", pnginfo=with_chunk(b"cHRM", struct.pack(">8I", *kept)))
    assert np.array_equal(read_image(tmp_path / "a.png"), to_picture(photograph(0)))


def test_a_png_file_that_says_srgb_is_so(tmp_path):
    notes = with_chunk(b"sRGB", b"\0", cHRM=struct.pack(">8I", *P3_XY))
    photograph(0).save(tmp_path / "a.png", pnginfo=notes)
    assert np.array_equal(read_image(tmp_path / "a.png"), to_picture(photograph(0)))


def save_with_code_points(image: Image.Image, path: Path, primaries: int, transfer: int) -> None:
    """A PNG, AVIF or HEIC file that says by code points (CICP) what its colours are."""
    if path.suffix == ".png":
        image.save(path, pnginfo=with_chunk(b"cICP", bytes((primaries, transfer, 0, 1))))
        return
    file = io.BytesIO()
    if path.suffix == ".heic":
        pytest.importorskip("pillow_heif").from_pillow(image).save(file, quality=100, chroma=444)
    else:
        image.save(file, "AVIF", quality=100, subsampling="4:4:4")
    head, mark, rest = file.getvalue().partition(b"colrnclx")
    assert mark
    path.write_bytes(head + mark + struct.pack(">HH", primaries, transfer) + rest[4:])


@pytest.mark.parametrize("suffix", ["png", "avif", "heic"])
def test_code_points_tell_the_colours(tmp_path, suffix):
    image, path = photograph(0), tmp_path / f"a.{suffix}"
    save_with_code_points(encoded(image, P3, 2.2), path, 12, 4)
    assert np.abs(read_image(path) - to_picture(image).astype(float)).mean() < 2.5
    save_with_code_points(image, path, 1, 13)
    assert np.abs(read_image(path) - to_picture(image).astype(float)).mean() < 2
    save_with_code_points(image, path, 9, 16)
    with pytest.raises(InputError, match=rf"a\.{suffix}: .*high dynamic range \(PQ\): convert it to sRGB"):
        read_image(path)


@pytest.mark.parametrize(
    "kept", [b"", b"no profile", profile(P3, 2.2)[:200], profile(None, 2.2), profile(SRGB, 2.2)[:-30]]
)
def test_a_profile_that_is_broken_or_of_other_channels_counts_as_none(tmp_path, kept):
    photograph(0).save(tmp_path / "a.png", icc_profile=kept)
    found = read_image(tmp_path / "a.png")
    assert np.abs(found - to_picture(photograph(0)).astype(float)).mean() < 4


def test_srgb_profiles_change_nothing(tmp_path):
    photograph(0).save(tmp_path / "a.png", icc_profile=srgb_profile())
    assert np.array_equal(read_image(tmp_path / "a.png"), to_picture(photograph(0)))


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_a_broken_exif_block_costs_no_picture(tmp_path, suffix):
    photograph(0).save(tmp_path / f"a.{suffix}", exif=b"Exif\0\0junk that is no TIFF", quality=95)
    photograph(0).save(tmp_path / f"b.{suffix}", quality=95)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Pillow's
        assert np.array_equal(read_image(tmp_path / f"a.{suffix}"), read_image(tmp_path / f"b.{suffix}"))


def test_paths_that_the_system_refuses_are_one_line(tmp_path):
    (tmp_path / "a.png").symlink_to("a.png")
    with pytest.raises(InputError, match=r"a\.png: cannot be read \(Too many levels of symbolic links\)"):
        read_image(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"cannot be read \(File name too long\)"):
        read_image(tmp_path / ("a" * 300))


def test_the_limit_is_our_own(tmp_path, monkeypatch):
    photograph(0).save(tmp_path / "a.png")
    photograph(0).save(tmp_path / "a.tiff", compression="tiff_lzw")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # as if Pillow's were below this picture
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("a.png", "a.tiff"):
            assert read_image(tmp_path / name).shape == (3, 60, 72)
    assert Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.setenv("FSIQA_MAX_MEGAPIXELS", "0.001")
    with pytest.raises(InputError, match=r"a.png: 72x60 pixels are more than 0.001 megapixels; FSIQA_MAX_MEGAPIXELS="):
        read_image(tmp_path / "a.png")
    monkeypatch.setenv("FSIQA_MAX_MEGAPIXELS", "much")
    with pytest.raises(InputError, match="FSIQA_MAX_MEGAPIXELS=much: expected a number"):
        read_image(tmp_path / "a.png")


def test_a_jpeg_file_of_a_thousand_scans_is_not_decoded(tmp_path):
    """A scan takes a few bytes, and as long as the whole picture."""
    made = io.BytesIO()
    photograph(0).save(made, "jpeg", progressive=True)
    whole = made.getvalue()
    last = whole[whole.rindex(b"\xff\xda") : -2]
    path = tmp_path / "a.jpg"
    path.write_bytes(whole[:-2] + 1000 * last + whole[-2:])
    with pytest.raises(InputError, match=r"a\.jpg: a JPEG file of 1,0\d\d scans; save it anew"):
        read_image(path)
    with path.open("rb") as file, pytest.raises(InputError, match="scans"):
        to_picture(file)
    path.write_bytes(whole + 1000 * last)  # a film behind it, as phones write it, may hold the same bytes
    assert np.array_equal(read_image(path), to_picture(Image.open(made)))


def test_no_other_program_is_started_for_a_picture(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    for name in ("gs", "gswin64c"):
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\necho called >> {tmp_path}/called\n")
        program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "holiday.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with pytest.raises(InputError, match=r"holiday.jpg: not an image"):
        read_image(tmp_path / "holiday.jpg")
    assert not (tmp_path / "called").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match=r"pipe.png: not a regular file"):
        read_image(tmp_path / "pipe.png")
    with pytest.raises(InputError, match="/dev/zero: not a regular file"):
        read_image("/dev/zero")


def test_what_people_keep_among_pictures_is_named(tmp_path, monkeypatch):
    for name in ("b.heic", "c.dng", "d.mov", "notes.txt"):
        (tmp_path / name).write_bytes(b"anything")
    monkeypatch.setattr(files, "SUFFIXES", files.SUFFIXES - {".heic"})
    with pytest.raises(InputError, match=r"no images in this folder but 1 .dng, 1 .heic, 1 .mov; pip install"):
        find_images([tmp_path])
    photograph(0).save(tmp_path / "a.jfif", format="jpeg")
    with pytest.warns(InputWarning, match=r"3 files are skipped: 1 .dng, 1 .heic, 1 .mov"):
        assert [path.name for path in find_images([tmp_path])] == ["a.jfif"]
    with pytest.raises(InputError, match=r"c.dng: not an image, but a raw photograph"):
        read_image(tmp_path / "c.dng")
    monkeypatch.setattr("fewshot_iqa.images.opening.HEIC", False)
    with pytest.raises(InputError, match=r"b.heic: HEIC is read where pillow-heif is installed \(pip install"):
        read_image(tmp_path / "b.heic")


def test_heic_is_read_where_pillow_heif_is_installed(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(photograph(0)).save(tmp_path / "a.heic", quality=95)
    assert find_images([tmp_path]) == [tmp_path / "a.heic"]
    assert np.abs(read_image(tmp_path / "a.heic") - to_picture(photograph(0)).astype(float)).mean() < 6


def test_what_computers_leave_in_folders_is_passed_over_and_links_are_followed_once(tmp_path):
    for name in ("in/a.png", "in/._a.png", "in/.cache/a.png", "in/__MACOSX/a.png", "other/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        photograph(0).save(tmp_path / name)
    try:
        (tmp_path / "in" / "day").symlink_to(tmp_path / "other")
        (tmp_path / "other" / "loop").symlink_to(tmp_path / "in")
    except OSError:
        pytest.skip("this system makes no links")
    assert [path.relative_to(tmp_path).as_posix() for path in find_images([tmp_path / "in"])] == [
        "in/a.png",
        "in/day/b.png",
    ]


def test_files_come_by_name_whatever_the_order_of_the_disk(tmp_path, monkeypatch):
    for name in ("b/2.png", "b/1.png", "a.png", "c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "z").symlink_to(tmp_path / "b")

    def backwards(folder, **_):
        each = sorted(Path(folder).iterdir(), reverse=True)
        inner = [path.name for path in each if path.is_dir()]
        yield str(folder), inner, [path.name for path in each if path.is_file()]
        for name in inner:
            yield from backwards(Path(folder, name))

    found = find_images([tmp_path])
    monkeypatch.setattr(files.os, "walk", backwards)
    assert find_images([tmp_path]) == found
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a.png", "b/1.png", "b/2.png", "c.png"]


def test_of_several_frames_the_first_is_read_and_the_number_told(tmp_path, fsiqa):
    first, *others = (photograph(seed) for seed in range(3))
    first.save(tmp_path / "a.tiff", save_all=True, append_images=others)
    assert read_header(tmp_path / "a.tiff") == (60, 72, 3)
    assert np.array_equal(read_image(tmp_path / "a.tiff"), to_picture(first))
    assert "the first of 3 frames" in fsiqa("score", tmp_path / "a.tiff").output
    whole = (tmp_path / "a.tiff").read_bytes()
    (tmp_path / "cut.tiff").write_bytes(whole[: len(whole) * 4 // 6])  # a later one is broken
    result = fsiqa("score", tmp_path / "cut.tiff", tmp_path / "a.tiff")
    assert result.code == 0, result.error
    assert "could not be scored" not in result.error
