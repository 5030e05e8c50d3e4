"""Files of results: whole or not at all, beside what is shown, and never over what a run reads."""

import json
import os
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from fewshot_iqa.data.readers import read_names
from fewshot_iqa.errors import InputError
from fewshot_iqa.files import as_cell, from_cell, require_writable, write_csv, write_json, writing
from fewshot_iqa.images import write_drawing, write_png
from fewshot_iqa.recipes.figures import new_figure, save_figure
from fewshot_iqa.recipes.results import read_pictures_table
from tests.conftest import photograph
from tests.test_scoring import scorer  # noqa: F401  # a fixture

on_posix = pytest.mark.skipif(os.name != "posix", reason="has no /dev/full")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_earlier_file_stays_until_the_new_one_is_whole(tmp_path):
    file = tmp_path / "result.csv"
    file.write_text("earlier")

    def fail():
        with writing(file) as opened:
            opened.write("half")
            opened.flush()
            raise KeyError(file.read_text())

    with pytest.raises(KeyError, match="earlier"):
        fail()
    assert file.read_text() == "earlier"
    with writing(file) as opened:
        opened.write("new")
    assert file.read_text() == "new"
    assert names(tmp_path) == ["result.csv"]


@on_posix
def test_a_link_and_permissions_are_kept(tmp_path):
    (tmp_path / "real.csv").write_text("earlier")
    (tmp_path / "real.csv").chmod(0o640)
    (tmp_path / "link.csv").symlink_to("real.csv")
    with writing(tmp_path / "link.csv") as file:
        file.write("new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "new"
    assert (tmp_path / "real.csv").stat().st_mode & 0o777 == 0o640


WRITERS = {
    "csv": lambda path: write_csv(path, pd.DataFrame({"a": [1]})),
    "json": lambda path: write_json(path, {}),
    "png": lambda path: write_png(path, __import__("numpy").zeros((3, 9, 9), "uint8"), {}),
    "jpg": lambda path: write_drawing(path, Image.new("RGB", (9, 9))),
    "svg": lambda path: save_figure(new_figure((1, 1)), path),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_writer_says_why_it_cannot(kind, tmp_path):
    WRITERS[kind](tmp_path / f"whole.{kind}")
    assert (tmp_path / f"whole.{kind}").stat().st_size > 0
    for bad in (tmp_path / f"{'x' * 300}.{kind}", tmp_path / "no" / "such" / f"x.{kind}"):
        with pytest.raises(InputError, match=f"x.{kind}: "):
            WRITERS[kind](bad)
    assert names(tmp_path) == [f"whole.{kind}"]
    longest = tmp_path / f"{'é' * 120}.{kind}"
    WRITERS[kind](longest)
    assert longest.is_file()


@pytest.mark.parametrize("kind", WRITERS)
def test_a_disk_that_fills_up_leaves_what_was_there(kind, tmp_path, monkeypatch):
    file = tmp_path / f"x.{kind}"
    file.write_text("earlier")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="cannot be written \\(No space left on device\\)"):
        WRITERS[kind](file)
    assert file.read_text() == "earlier"
    assert names(tmp_path) == [file.name]


@on_posix
@pytest.mark.parametrize("option", ["--csv", "--json"])
def test_scores_are_shown_where_they_cannot_be_written(fsiqa, scorer, tmp_path, option):  # noqa: F811
    photograph(0).save(tmp_path / "photo.png")
    result = fsiqa("score", tmp_path / "photo.png", option, "/dev/full")
    assert result.code == 2
    assert "photo.png" in result.output
    assert result.error.splitlines()[-1] == "fsiqa: /dev/full: cannot be written (No space left on device)"


@on_posix
def test_pipes_are_written_directly(fsiqa, scorer, tmp_path):  # noqa: F811
    photograph(0).save(tmp_path / "photo.png")
    os.mkfifo(tmp_path / "pipe")
    found = []
    reader = threading.Thread(target=lambda: found.append((tmp_path / "pipe").read_text()))
    reader.start()
    assert fsiqa("score", tmp_path / "photo.png", "--csv", tmp_path / "pipe").code == 0
    reader.join(10)
    assert found[0].startswith("image,quality")
    assert fsiqa("score", tmp_path / "photo.png", "--csv", os.devnull, "--json", os.devnull).code == 0
    assert names(tmp_path) == ["photo.png", "pipe"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(2):
        photograph(i).save(f"{'ab'[i]}.png")
    Path("ratings.csv").write_text("image,score\na.png,1\nb.png,2\n")
    Path("model").mkdir()
    Path("model/provenance.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("score a.png b.png --csv a.png", "--csv a.png: is read by this run; name another file"),
        ("score . --csv a.png", "--csv a.png: is read by this run"),
        ("score a.png --json b.png", "--json b.png: is there already"),
        ("score a.png --csv ratings.csv", "--csv ratings.csv: is there already"),
        ("score a.png --csv x --json ./x", "--csv and --json x: are one file"),
        ("score a.png --json model/provenance.json", "is a part of the checkpoint model"),
        ("adapt --labels ratings.csv --csv ./ratings.csv", "--csv ratings.csv: is read by this run"),
        ("adapt --labels ratings.csv --root . --json ratings.csv", "--json ratings.csv: is read by this run"),
        ("adapt --labels ratings.csv --out new --json new/config.yaml", "is a part of the checkpoint new"),
        ("curve --labels ratings.csv --figure a.png", "--figure a.png: is there already"),
        ("data convert --labels ratings.csv -o ratings.csv", "--out ratings.csv: is read by this run"),
        ("ratings summarize ratings.csv -o ratings.csv", "--out ratings.csv: is read by this run"),
        ("suggest . -o s.csv --sheet a.png", "--sheet a.png: is read by this run"),
        ("suggest . --rated ratings.csv -o ratings.csv", "--out ratings.csv: is read by this run"),
        ("distort a.png --type jpeg --level 5 -o a.png", "--out a.png: is read by this run"),
        ("distort a.png --type jpeg --level 5 -o b.png", "--out b.png: is there already"),
        ("distort a.png --type jpeg --sheet a.png", "--sheet a.png: is read by this run"),
        ("report model -o ratings.csv", "--out ratings.csv: is there already"),
    ],
)
def test_an_output_replaces_nothing_but_earlier_results(fsiqa, folder, command, message):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    result = fsiqa(*command.split())
    assert result.code == 2, result.output
    (line,) = result.error.splitlines()
    assert line.startswith("fsiqa: ")
    assert message in line
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_earlier_results_are_replaced(fsiqa, scorer, folder):  # noqa: F811
    for _ in range(2):
        result = fsiqa("score", "a.png", "--csv", "s.csv", "--json", "s.json")
        assert result.code == 0, result.error
        distorted = fsiqa("distort", "a.png", "--type", "jpeg", "--level", 2, "-o", "d.png")
        assert distorted.code == 0, distorted.error
        for kind in ("png", "svg", "pdf", "jpg"):
            from fewshot_iqa.cli.outputs import DRAWING, require_replaceable

            save_figure(new_figure((1, 1)), f"f.{kind}")
            require_replaceable("--figure", Path(f"f.{kind}"), DRAWING)
        for kind in ("png", "jpg", "webp"):
            write_drawing(Path(f"s.{kind}"), Image.new("RGB", (9, 9)))
            require_replaceable("--sheet", Path(f"s.{kind}"), DRAWING)
    assert json.loads(Path("s.json").read_text())["scores"][0]["image"] == "a.png"


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x.png", "@x", "\tx", "\rx"])
def test_no_cell_is_run_as_a_formula(text, tmp_path):
    assert as_cell(text) == f"'{text}"
    assert as_cell(text, is_name=True) == f"./{text}"
    assert from_cell(as_cell(text)) == from_cell(as_cell(text, is_name=True)) == text
    write_csv(tmp_path / "t.csv", pd.DataFrame({"image": [text, "b"], "group": [text, "-1.5"], "score": [-1.5, 2]}))
    found = pd.read_csv(tmp_path / "t.csv", dtype=str, keep_default_na=False)
    assert found["image"][0][0] == "."
    assert list(found["group"]) == [f"'{text}", "-1.5"]
    assert found["score"][0] == "-1.5"
    assert read_names(tmp_path / "t.csv") == [text, "b"]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
def test_names_of_every_kind_are_scored_and_steer_no_terminal(fsiqa, scorer, tmp_path):  # noqa: F811
    given = [b"esc\x1b]0;owned\x07.png", b"=x.png", b"bad\xff.png", b"new\nline.png"]
    for name in given:
        photograph(0).save(tmp_path / os.fsdecode(name))
    (tmp_path / "no\x1b[31m.png").write_bytes(b"no picture")
    os.chdir(tmp_path)
    result = fsiqa("score", ".", "--csv", "s.csv", "--json", "s.json")
    assert result.code == 0
    assert "\x1b" not in result.stdout + result.error
    assert r"esc\x1b]0;owned\x07.png" in result.stdout
    table = pd.read_csv("s.csv")
    assert list(table["image"][:2]) == ["./=x.png", r"bad\udcff.png"]
    assert len(json.loads(Path("s.json").read_text())["scores"]) == 5
    for wrong in ("score\x1b", "--x\x1b"):
        assert "\x1b" not in fsiqa(wrong).error
    assert "\x1b" not in fsiqa("distort", "a\x1b.png", "b\x1b.png").error


def test_a_file_in_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    (tmp_path / "x.csv").write_text("earlier")
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path and allowed(path, mode))
    with pytest.raises(InputError, match="permission denied"):
        require_writable(tmp_path / "x.csv")


def test_the_predictions_inside_a_checkpoint_hold_no_formula(fsiqa, eight, quick, tmp_path):
    table = pd.read_csv(eight)
    table["subset"] = ["=1+1", "@b"] * 4
    table.to_csv(eight, index=False)
    result = fsiqa("adapt", "--config", "ridge", "--labels", eight, "--out", tmp_path / "ad", *quick)
    assert result.code == 0, result.error
    kept = (tmp_path / "ad" / "pictures.csv").read_text()
    assert "'=1+1" in kept
    assert ",=1+1" not in kept
    assert set(read_pictures_table(tmp_path / "ad" / "pictures.csv")["subset"]) == {"=1+1", "@b"}
