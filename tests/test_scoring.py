"""Many pictures: what the screen shows of them, and how few of them are in memory."""

from types import MappingProxyType

import numpy as np
import pytest
from PIL import Image

from fewshot_iqa.cli.scoring import LISTED, SHORT
from fewshot_iqa.config import ViewSpec
from fewshot_iqa.score import READERS, Scorer
from fewshot_iqa.types import Prediction


class Brightness:
    """A predictor without a model: quality is the mean of the pixels."""

    phrases = MappingProxyType({})
    keeps = reads_prompts = False

    def prepared(self, branches, prompts):
        return self

    def predict(self, pictures):
        return Prediction(np.array([each.views.mean() / 255 for each in pictures]))


@pytest.fixture
def scorer(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # names are not folded
    found = Scorer(Brightness(), ViewSpec(crop=32, count=1))
    monkeypatch.setattr("fewshot_iqa.recipes.loading.load_fastest", lambda _, **options: found)
    return found


def grey(level: int) -> np.ndarray:
    return np.full((40, 40), level, np.uint8)


def test_pictures_are_read_a_few_ahead_and_in_order(scorer):
    taken = 0

    def pictures():
        nonlocal taken
        for i in range(200):
            taken += 1
            yield f"{i}", grey(i)

    ahead = 2 * scorer.views.at_once + READERS
    for i, score in enumerate(scorer.stream(pictures())):
        assert (score.image, score.quality) == (f"{i}", pytest.approx(i / 255))
        assert taken <= i + ahead + 1
        if i == 100:
            break
    assert taken < 150  # whoever stops earlier reads no more


def test_threads_and_batches_change_no_score(scorer, monkeypatch):
    """Also where pictures between the others cannot be read."""
    pictures = [(f"{i}", grey(i) if i % 3 else np.zeros((2, 2, 2, 2))) for i in range(40)]
    found = []
    for readers, at_once in ((1, 1), (4, 3), (2, 16)):
        monkeypatch.setattr("fewshot_iqa.score.READERS", readers)
        monkeypatch.setattr(ViewSpec, "at_once", at_once)
        found.append(list(scorer.stream(pictures)))
    assert found[0] == found[1] == found[2]
    assert [score.quality is not None for score in found[0]] == [bool(i % 3) for i in range(40)]


def test_many_pictures_are_summarised(scorer, fsiqa, tmp_path):
    for i in range(LISTED + 5):
        Image.fromarray(grey(250 - i)).save(tmp_path / f"{i:02}.png")
    (tmp_path / "03.png").write_bytes(b"no picture")
    result = fsiqa("score", tmp_path, "--csv", tmp_path / "all.csv")
    assert result.code == 0
    names = [word.rsplit("/", 1)[-1] for word in result.output.split() if word.endswith(".png")]
    assert names == [f"{i:02}.png" for i in range(SHORT)] + [f"{LISTED + 4 - i:02}.png" for i in range(SHORT)]
    assert f"the first {SHORT} of {LISTED + 5}" in result.output
    assert "34 images: quality 0.912 on average, from 0.847 to 0.980; all are in" in result.output
    assert "03.png: not an image" in result.error
    assert "1 of 35 images could not be scored" in result.error
    rows = (tmp_path / "all.csv").read_text().splitlines()
    assert len(rows) == 1 + LISTED + 5
    result = fsiqa("score", tmp_path, "--worst", 2, "--json", tmp_path / "two.json")
    assert "the 2 worst of 35" in result.output
    assert "--csv FILE writes all" in result.output
    assert "03.png" not in result.output


def test_few_pictures_are_all_listed(scorer, fsiqa, tmp_path):
    for i in range(LISTED):
        Image.fromarray(grey(250 - i)).save(tmp_path / f"{i:02}.png")
    result = fsiqa("score", tmp_path)
    names = [word.rsplit("/", 1)[-1] for word in result.output.split() if word.endswith(".png")]
    assert names == [f"{i:02}.png" for i in range(LISTED)]
    assert "on average" not in result.output
    names = [word.rsplit("/", 1)[-1] for word in fsiqa("score", tmp_path, "--sort").output.split() if ".png" in word]
    assert names == [f"{i:02}.png" for i in range(LISTED)][::-1]


def test_an_error_of_one_picture_costs_no_other_its_score(scorer, monkeypatch):
    def predict(pictures):
        values = [each.views.mean() / 255 for each in pictures]
        if any(value > 0.9 for value in values):
            raise RuntimeError("out of memory.\nSee our advice.")
        return Prediction(np.array([np.nan if value < 0.1 else value for value in values]))

    monkeypatch.setattr(Brightness, "predict", lambda self, pictures: predict(pictures))
    found = list(scorer.stream([(str(level), grey(level)) for level in (100, 250, 200, 0)]))
    assert [score.quality for score in found] == [pytest.approx(100 / 255), None, pytest.approx(200 / 255), None]
    assert found[1].note == "cannot be scored (RuntimeError: out of memory)"
    assert found[3].note == "the model predicts nan: its weights are damaged"


def test_a_picture_of_too_many_crops_is_refused_alone():
    dense = Scorer(Brightness(), ViewSpec(crop=32, stride=1))
    few, many = dense.stream([("few", grey(9)), ("many", np.zeros((100, 200), np.uint8))])
    assert few.quality is not None
    assert many.note.startswith("200x100 pixels are 11661 crops of views.stride 1, more than 4096: reduce images first")
