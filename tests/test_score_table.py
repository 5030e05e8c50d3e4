"""`fsiqa score --csv` that is interrupted goes on, and ends with the same file."""

import os
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fewshot_iqa.cli.score_table import ScoreTable
from fewshot_iqa.errors import InputError
from fewshot_iqa.types import Prediction
from tests.conftest import photograph
from tests.test_scoring import Brightness, grey, scorer  # noqa: F401  # a fixture

COUNT = 40


@pytest.fixture
def pictures(tmp_path, monkeypatch, scorer):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    for i in range(COUNT):
        Image.fromarray(grey(3 * i)).save(tmp_path / "set" / f"{i:02}.png")
    (tmp_path / "set" / "05.png").write_bytes(b"no picture")
    return tmp_path


@pytest.fixture
def predicted(monkeypatch):
    """The pictures that were predicted; `predicted.stop` is after how many the run is interrupted."""

    class Counted(list):
        stop = 10**9

    found, predict = Counted(), Brightness.predict

    def counting(self, opened):
        if len(found) >= found.stop:
            raise KeyboardInterrupt
        found.extend(each.name for each in opened)
        return predict(self, opened)

    monkeypatch.setattr(Brightness, "predict", counting)
    return found


def interrupt(fsiqa, predicted, *options):
    predicted.stop = 17
    result = fsiqa("score", "set", "--csv", "s.csv", *options)
    assert result.code == 130
    assert "fsiqa: interrupted" in result.error
    predicted.stop = 10**9
    done = len(predicted)
    predicted.clear()
    return done


def parts(folder):
    return [path for path in folder.iterdir() if path.name.endswith(".part")]


def test_an_interrupted_run_goes_on(fsiqa, pictures, predicted):
    whole = fsiqa("score", "set", "--csv", "whole.csv", "--json", "whole.json")
    predicted.clear()
    done = interrupt(fsiqa, predicted)
    shown = (pictures / "s.csv").read_bytes()
    assert (pictures / "whole.csv").read_bytes().startswith(shown)
    assert shown.count(b"\n") > done  # a row each, and the header
    (part,) = parts(pictures)
    with part.open("ab") as file:
        file.write(b"set/xx.png,0.1")  # of a kill while a row is written
    result = fsiqa("score", "set", "--csv", "s.csv", "--json", "s.json")
    assert result.code == 0
    assert f"goes on: {done + 1} of {COUNT} images were scored before" in result.error
    assert len(predicted) == COUNT - 1 - done
    for kind in ("csv", "json"):
        assert (pictures / f"s.{kind}").read_bytes() == (pictures / f"whole.{kind}").read_bytes()
    assert result.output == whole.output.replace("whole.csv", "s.csv")
    assert parts(pictures) == []
    assert fsiqa("score", "set", "--csv", "s.csv").code == 0  # a whole table is made anew
    assert len(predicted) == 2 * (COUNT - 1) - done


def test_an_earlier_table_stays_until_the_new_one_is_whole(fsiqa, pictures, predicted):
    fsiqa("score", "set/01.png", "--csv", "s.csv")
    earlier = (pictures / "s.csv").read_bytes()
    predicted.clear()
    done = interrupt(fsiqa, predicted)
    assert (pictures / "s.csv").read_bytes() == earlier
    assert fsiqa("score", "set", "--csv", "s.csv").code == 0
    assert len(predicted) == COUNT - 1 - done
    assert len(pd.read_csv(pictures / "s.csv")) == COUNT
    assert parts(pictures) == []


def test_rows_of_another_model_are_not_kept(fsiqa, pictures, predicted, monkeypatch):
    interrupt(fsiqa, predicted)
    monkeypatch.setattr("fewshot_iqa.cli.scoring._made_by", lambda *_: "another")
    assert fsiqa("score", "set", "--csv", "s.csv").code == 0
    assert len(predicted) == COUNT - 1
    assert parts(pictures) == []


def test_pictures_that_changed_since_are_scored_anew(fsiqa, pictures, predicted):
    interrupt(fsiqa, predicted)
    Image.fromarray(grey(255)).save(pictures / "set" / "03.png")
    os.utime(pictures / "set" / "03.png", (2e9, 2e9))
    assert fsiqa("score", "set", "--csv", "s.csv").code == 0
    assert predicted[0].endswith("03.png")
    table = pd.read_csv(pictures / "s.csv")
    assert table["quality"][3] == 1
    assert list(table["image"]) == sorted(table["image"])


def test_two_runs_do_not_write_one_table(tmp_path):
    pytest.importorskip("fcntl")
    first = ScoreTable(tmp_path / "s.csv", ["image"], ["a"], "model")
    with pytest.raises(InputError, match="another run writes it"):
        ScoreTable(tmp_path / "s.csv", ["image"], ["a"], "model")
    first.write(["a"])
    first.finish()
    assert (tmp_path / "s.csv").read_text() == "image\na\n"


def test_a_full_disk_keeps_whole_rows(tmp_path, monkeypatch):
    table = ScoreTable(tmp_path / "s.csv", ["image"], ["a", "b"], "model")
    table.write(["a"])
    monkeypatch.setattr(table, "_file", Full(table._file))
    table.write(["b"])
    with pytest.raises(InputError, match="No space left"):
        table.finish()
    again = ScoreTable(tmp_path / "s.csv", ["image"], ["a", "b"], "model")
    assert again.kept == [["a"]]
    again.write(["b"])
    again.finish()
    assert (tmp_path / "s.csv").read_text().split() == ["image", "a", "b"]


class Full:
    """A file of a disk without room."""

    def __init__(self, file):
        self.file = file

    def write(self, text):
        return self.file.write(text[:1])

    def flush(self):
        self.file.flush()
        raise OSError(28, "No space left on device")

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_twenty_thousand_pictures_take_no_memory(fsiqa, scorer, monkeypatch, tmp_path):  # noqa: F811
    import tracemalloc

    from fewshot_iqa.score import Opened, Score

    def opened(self, name, source, predictor):
        number = int(source.stem)
        return Score(name, note="not an image") if number % 100 == 7 else Opened(name, "", np.float32(number / 20000))

    monkeypatch.setattr("fewshot_iqa.score.Scorer._open", opened)
    monkeypatch.setattr(Brightness, "predict", lambda _, some: Prediction(np.array([each.views for each in some])))
    peaks = {}
    for count in (2000, 20000):
        files = [tmp_path / f"{i:05}.png" for i in range(count)]
        monkeypatch.setattr("fewshot_iqa.cli.scoring._model_and_images", lambda _, files=files: (None, files))
        csv = tmp_path / f"{count}.csv"
        tracemalloc.start()
        result = fsiqa("score", "x", "--csv", csv)
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        table = pd.read_csv(csv)
        assert list(table["image"]) == [str(file) for file in files]
        assert (table["note"] == "not an image").sum() == count // 100 == table["quality"].isna().sum()
        assert f"{count // 100} of {count} images could not be scored" in result.error
    assert peaks[20000] - peaks[2000] < 18000 * 500  # bytes: the names of pictures alone


MEASURED = """
import re, sys
from pathlib import Path
from fewshot_iqa import predictor
from fewshot_iqa.cli import main
predictor.SCORED = 1 << 20  # the cache of features is full in both runs
try:
    main()
finally:
    print("peak", re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""
BAD = [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(40)]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory from /proc")
def test_twenty_thousand_pictures_of_which_some_are_bad(fsiqa, rated, quick, miniature, tmp_path, capsys):
    assert fsiqa("adapt", "--config", "ridge", "--labels", rated, *quick, "--out", tmp_path / "model").code == 0
    some, peaks = [], {}
    for seed in range(8):
        photograph(seed, 32, 32).save(tmp_path / "one.png")
        some.append((tmp_path / "one.png").read_bytes())
    folders = {count: tmp_path / f"{count}" for count in (2000, 20000)}
    for folder in folders.values():
        folder.mkdir()
    for i in range(20000):
        file = folders[20000] / f"{i:05}.png"
        good = some[i % len(some)] + str(i).encode()  # files that differ
        bad = [*BAD, good[:500]][i // 100 % 4]
        file.write_bytes(bad if i % 100 == 7 else good)
        if i < 2000:
            os.link(file, folders[2000] / file.name)
    for count, folder in folders.items():
        table, started = tmp_path / f"{count}.csv", time.monotonic()
        options = ["--clip", miniature, "--csv", table]
        command = [sys.executable, "-c", MEASURED, "score", tmp_path / "model", folder, *options]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = time.monotonic() - started
        peaks[count] = int(result.stdout.split()[-1]) / 1024
        assert f"{count // 100} of {count} images could not be scored" in result.stderr
        rows = pd.read_csv(table)
        assert list(rows["image"]) == [str(folder / f"{i:05}.png") for i in range(count)]
        bad = rows.index % 100 == 7
        assert rows["quality"][~bad].between(0, 1).all()
        assert rows["quality"][bad].isna().all()
        assert set(rows["note"][bad].str.extract("(empty|not an image|truncated)")[0]) == {
            "empty",
            "not an image",
            "truncated",
        }
        with capsys.disabled():
            print(f"\n{count} pictures, {bad.sum()} bad: {seconds:.0f} s, at most {peaks[count]:.0f} MB")
    assert peaks[20000] < 1.1 * peaks[2000]
