"""`fsiqa distort` and `fsiqa synthesize`: pictures, sheets, and data sets that can be made again."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot_iqa.data.synthetic import wheel_photograph
from fewshot_iqa.distortions import DISTORTIONS, TID2013, distort
from fewshot_iqa.images import read_image, to_float, to_uint8


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photos" / "cup.png"
    path.parent.mkdir()
    Image.open(wheel_photograph("coffee")).resize((120, 80)).save(path)
    return path


@pytest.fixture
def photos(photo):
    Image.open(wheel_photograph("rocket")).resize((90, 130)).save(photo.with_name("rocket.jpg"))
    return photo.parent


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rows(folder):
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def refused(fsiqa, *arguments):
    """The one line with which a command refuses."""
    result = fsiqa(*arguments)
    assert result.code == 2
    assert len(result.error.strip().splitlines()) == 1
    return result.error


def test_distort_writes_what_the_function_gives(fsiqa, photo, tmp_path):
    out = tmp_path / "out.png"
    fsiqa("distort", photo, "--type", "white_noise", "--level", "2.5", "--seed", "7", "-o", out)
    noise = torch.Generator().manual_seed(7)
    expected = to_uint8(distort(to_float(read_image(photo)), "white_noise", 2.5, generator=noise))
    assert np.array_equal(read_image(out), expected)


def test_several_types_are_applied_and_recorded_in_order(fsiqa, photo, tmp_path):
    out = tmp_path / "out.png"
    steps = ["--type", "lens_blur", "--type", "11", "--type", "tid2013/jpeg"]
    result = fsiqa("distort", photo, *steps, "--level", "2", "--level", "1", "--level", "3.5", "-o", out)
    assert "lens_blur 2 -> white_noise 1 -> tid2013/jpeg 3.5" in result.output
    with Image.open(out) as picture:
        assert picture.text == {"distortion": "lens_blur 2, white_noise 1, tid2013/jpeg 3.5", "seed": "0"}
    again = tmp_path / "again.png"
    fsiqa("distort", photo, *steps, "--level", "2", "-o", again)
    assert not np.array_equal(np.array(Image.open(out)), np.array(Image.open(again)))


def test_sheet_shows_every_cell(fsiqa, tmp_path):
    sheet = tmp_path / "sheet.png"
    fsiqa("distort", wheel_photograph("chelsea"), "--sheet", sheet, "--type", "jpeg", "--type", "color_block")
    two = np.array(Image.open(sheet))
    fsiqa("distort", wheel_photograph("chelsea"), "--sheet", sheet, "--type", "jpeg")
    one = np.array(Image.open(sheet))
    assert one.shape[1] == two.shape[1]
    assert one.shape[0] < two.shape[0]
    tiles = [two[220:310, 20 + i * 208 : 180 + i * 208] for i in range(5)]
    assert all(tile.std() > 10 for tile in tiles)
    assert len({tile.tobytes() for tile in tiles}) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--type", "jpeg", "--level", "3"], "give -o FILE"),
        (["--type", "jpeg", "-o", "out.png"], "give --type and --level"),
        (
            ["--type", "jpeg", "--type", "darken", "--level", "1", "--level", "2", "--level", "3", "-o", "o.png"],
            "one for",
        ),
        (["--type", "jpg", "--level", "3", "-o", "out.png"], "Did you mean 'jpeg'"),
        (["--type", "jpeg", "--level", "0", "-o", "out.png"], "level 1..5"),
        (["--type", "jpeg", "--level", "3", "-o", "out.jpg"], "name a .png file"),
        (["--type", "jpeg", "--level", "3", "-o", "missing/too/out.png"], "does not exist"),
        (["--sheet", "sheet.png", "--level", "3"], "every level"),
        (["--sheet", "sheet.png"], "a sheet needs"),
    ],
)
def test_distort_refuses(fsiqa, photo, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(fsiqa, "distort", photo, *arguments)


def test_a_data_set_can_be_made_again(fsiqa, photos, tmp_path):
    out, again = tmp_path / "set", tmp_path / "again"
    options = ["--types", "jpeg,white_noise,tid2013/saturation", "--levels", "1,2.5,5"]
    result = fsiqa("synthesize", photos, "-o", out, *options)
    assert "18 pictures" in result.output
    labels = rows(out)
    assert list(labels[0]) == ["image", "reference", "type", "level", "kadid_mos", "seed"]
    assert [row["image"] for row in labels][:4] == [
        "cup_10_01.png",
        "cup_10_02.5.png",
        "cup_10_05.png",
        "cup_11_01.png",
    ]
    assert {path.name for path in out.iterdir()} == {
        "labels.csv", "cup.png", "rocket.png", *(row["image"] for row in labels)
    }  # fmt: skip
    assert labels[0]["kadid_mos"] == "4.3380"
    assert labels[-1]["kadid_mos"] == ""
    first = contents(out)
    fsiqa("synthesize", photos, "-o", out, *options)
    assert contents(out) == first
    fsiqa("synthesize", photos, "-o", again, *options, "--workers", "2")
    assert contents(again) == first


def test_an_interrupted_run_goes_on(fsiqa, photos, tmp_path):
    out, whole = tmp_path / "set", tmp_path / "whole"
    fsiqa("synthesize", photos, "-o", whole, "--types", "darken,jitter")
    fsiqa("synthesize", photos, "-o", out, "--types", "jitter", "--levels", "2,3")
    (out / "cup_19_03.png").unlink()
    (out / ".cup_19_03.png.0-1-1.fsiqa-part").write_bytes(b"half")  # of another machine
    os.utime(out / ".cup_19_03.png.0-1-1.fsiqa-part", (0, 0))
    kept = (out / "rocket_19_02.png").stat().st_mtime_ns
    fsiqa("synthesize", photos, "-o", out, "--types", "darken,jitter")
    assert contents(out) == contents(whole)
    assert (out / "rocket_19_02.png").stat().st_mtime_ns == kept


def test_any_row_can_be_repeated_by_hand(fsiqa, photos, tmp_path):
    out = tmp_path / "set"
    fsiqa("synthesize", photos, "-o", out, "--types", "color_block", "--levels", "4")
    row = rows(out)[1]
    single = tmp_path / "single.png"
    options = ["--type", row["type"], "--level", row["level"], "--seed", row["seed"]]
    fsiqa("distort", out / row["reference"], *options, "-o", single)
    assert single.read_bytes() == (out / row["image"]).read_bytes()


def test_labels_serve_as_a_task(fsiqa, photos, tmp_path):
    """The columns are those that `--task csv` reads."""
    from fewshot_iqa.config import load_task
    from fewshot_iqa.data.readers import read_table

    out = tmp_path / "set"
    fsiqa("synthesize", photos, "-o", out, "--types", "jpeg,darken")
    columns = ["columns.score=kadid_mos", "columns.group=reference", "columns.distortion=type"]
    records = read_table(load_task("csv", [f"root={out}", "labels=labels.csv", *columns]))
    assert len(records) == 20
    assert {record.group for record in records} == {"cup.png", "rocket.png"}
    assert {record.distortion for record in records} == {"jpeg", "darken"}


def test_bad_files_lose_nothing(fsiqa, photos, tmp_path):
    (photos / "broken.png").write_bytes(b"no image")
    Image.new("RGB", (20, 20)).save(photos / "tiny.png")
    out = tmp_path / "set"
    result = fsiqa("synthesize", photos, "-o", out, "--types", "jpeg")
    assert "broken.png: not an image" in result.error
    assert "tiny.png: too small" in result.error
    assert "10 pictures" in result.output
    assert len(rows(out)) == 10


def test_other_runs_are_not_mixed(fsiqa, photos, tmp_path):
    out = tmp_path / "set"
    command = ["synthesize", photos, "-o", out, "--types", "jpeg", "--levels", "1"]
    fsiqa(*command)
    assert "another seed" in refused(fsiqa, *command, "--seed", "1")
    assert "differs from" in refused(fsiqa, *command, "--short-side", "60")
    (photos / "cup.png").rename(photos / "other.png")
    Image.new("RGB", (90, 90)).save(photos / "cup.png")
    assert "differs from" in refused(fsiqa, *command)
    (out / "labels.csv").write_text("image,reference,type,level,human_mean,seed\n")
    assert "kadid_mos was human_mean in earlier versions" in refused(fsiqa, *command)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--types", "jpeg,blurr"], "no distortion is named 'blurr'"),
        (["--levels", "1,x"], "expected numbers between commas"),
        (["--levels", "9"], "level 1..5"),
        (["--types", "tid2013/jpeg", "--levels", "0.5"], "level 1..5"),
        (["--short-side", "16"], "32 pixels are the least"),
        (["--short-side", "-5"], "32 pixels are the least"),
    ],
)
def test_synthesize_refuses(fsiqa, photos, tmp_path, options, message):
    assert message in refused(fsiqa, "synthesize", photos, "-o", tmp_path / "set", *options)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("name", ["cup.jpg", "cup_10_01.png"])
def test_two_photographs_that_lead_to_one_file(fsiqa, photos, tmp_path, name):
    shutil.copy(photos / "rocket.jpg", photos / name)
    assert "lead to a file cup" in refused(fsiqa, "synthesize", photos, "-o", tmp_path / "set", "--types", "jpeg")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("inside", ["photos", "photos/set"])
def test_out_inside_the_photographs(fsiqa, photos, tmp_path, inside):
    assert "lies inside" in refused(fsiqa, "synthesize", photos, "-o", tmp_path / inside)


def test_a_folder_of_bad_files(fsiqa, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "bad.png").write_bytes(b"")
    assert "the file is empty" in refused(fsiqa, "synthesize", bad, "-o", tmp_path / "set", "--types", "jpeg")


def test_a_target_that_is_a_folder(fsiqa, photo, tmp_path):
    (tmp_path / "out.png").mkdir()
    message = refused(fsiqa, "distort", photo, "--type", "jpeg", "--level", "1", "-o", tmp_path / "out.png")
    assert "cannot be written" in message
    assert not (tmp_path / "out.png.part").exists()


def test_bench_measures_every_type(fsiqa, tmp_path):
    result = fsiqa("bench", "distort", "--repeats", "1", "--device", "cpu", "--json", tmp_path / "bench.json")
    figures = json.loads((tmp_path / "bench.json").read_text())
    assert set(figures["types"]) == {row.name for row in (*DISTORTIONS, *TID2013)}
    assert all(milliseconds > 0 for milliseconds in figures["types"].values())
    assert figures["variants"] == 120
    assert f"{figures['variants_seconds']:.2f} s" in result.output
    assert "gpu" not in figures
