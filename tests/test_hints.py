"""What is asked or said about ratings that run the other way, and about predictions that are all the same."""

import warnings
from dataclasses import replace

import pandas as pd
import pytest

import fewshot_iqa
from fewshot_iqa.config import load_config
from fewshot_iqa.errors import InputError, InputWarning
from fewshot_iqa.predictor import ModelPredictor
from fewshot_iqa.recipes.draws import Draw
from fewshot_iqa.recipes.trial import Memory, Method, warn_reversed
from fewshot_iqa.score import Scorer
from fewshot_iqa.types import Record, Scale
from tests.conftest import photograph

CLOSED = "head: {kind: gp, prompt_mean_weight: 1}"
GRADIENTS = "adapt: {trainable: [clip.visual.ln_post.*], steps: 1, lr: 1e-6, optimizer: sgd}"


def said(recorded):
    return [str(each.message) for each in recorded if "run against" in str(each.message)]


@pytest.fixture
def named(tmp_path):
    """Write a method on the phrases of CLIP-IQA; returns its path."""

    def write(text):
        (tmp_path / "method.yaml").write_text(f"base: clip_iqa\ndescription: of phrases\n{text}\n")
        return str(tmp_path / "method.yaml")

    return write


@pytest.fixture
def quicker(miniature):
    return [f"clip={miniature}", "views={short_side: null, crop: 32, count: 1}"]


@pytest.fixture
def rows(tmp_path, quicker):
    """Sixteen pictures, and the quality that the phrases predict of each as its score."""
    for i in range(16):
        photograph(i).save(tmp_path / f"{i:02}.png")
    files = sorted(tmp_path.glob("*.png"))
    settings = load_config("clip_iqa", quicker)
    scorer = Scorer(ModelPredictor(Method(settings).build(0)), settings.views)
    scores = [score.quality for score in scorer.stream([(str(file), file) for file in files])]
    return pd.DataFrame({"image": [file.name for file in files], "score": scores})


@pytest.fixture
def drawn(rows, tmp_path):
    """A draw of shots whose ratings are `sign` times what the phrases predict, and of test ratings in reverse."""

    def draw(sign, shots=12, lower_is_better=False):
        records = [
            Record(tmp_path / name, (sign if i < shots else -sign) * score, group=name)
            for i, (name, score) in enumerate(zip(rows["image"], rows["score"], strict=True))
        ]
        low, high = min(r.rating for r in records), max(r.rating for r in records)
        scale = Scale(high, low) if lower_is_better else Scale(low, high)
        return Draw(0, records[:shots], records[shots:], scale, shots)

    return draw


@pytest.mark.parametrize("learning", [CLOSED, GRADIENTS])
def test_shots_against_the_zero_shot_predictions_are_asked_about(named, quicker, drawn, learning):
    method, memory = Method(load_config(named(learning), quicker)), Memory()
    with pytest.warns(
        InputWarning, match=r"prompts see \(SRCC -1.00\): are lower ones better\? then --lower-is-better"
    ):
        assert warn_reversed(method, [drawn(-1)], memory)
    with pytest.warns(InputWarning, match=r"SRCC -1.00\): are higher ones better\? lower_is_better is set"):
        assert warn_reversed(method, [drawn(1, lower_is_better=True)], memory)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not warn_reversed(method, [drawn(1)], memory)  # though its test ratings are reversed
        assert not warn_reversed(method, [drawn(-1, lower_is_better=True)], memory)
        assert not warn_reversed(method, [drawn(-1, shots=9)], memory)
        assert not warn_reversed(method, [], memory)


def test_nothing_is_asked_where_nothing_is_seen(named, quicker, drawn):
    """By a method without a zero-shot score, fresh prompts, a method that does not learn, several scales."""
    draw, memory = drawn(-1), Memory()
    apart = replace(draw, scale=replace(draw.scale, per_subset=True))
    phrases = Method(load_config(named(CLOSED), quicker))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("ridge", "coop", "clip_iqa"):
            assert not warn_reversed(Method(load_config(name, quicker)), [draw], memory)
        assert not warn_reversed(phrases, [apart], memory)
        assert not warn_reversed(phrases, [replace(draw, source_side=384)], memory)


def test_adapt_and_curve_ask_once(named, quicker, rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = rows.assign(score=-rows["score"])
    given = {"root": tmp_path, "overrides": quicker}
    for table, options, asked in [(other, {}, 1), (rows, {}, 0), (other, {"lower_is_better": True}, 0)]:
        with warnings.catch_warnings(record=True) as recorded:
            warnings.simplefilter("always")
            fewshot_iqa.adapt(named(CLOSED), labels=table, shots=12, out=tmp_path / "out", **given, **options)
        assert len(said(recorded)) == asked
    methods = {label: (named(CLOSED), ()) for label in ("one", "two")}
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        fewshot_iqa.curve(methods, labels=other, shots=10, seeds=1, out=tmp_path / "curve", **given)
    assert len(said(recorded)) == 1


def test_a_column_of_differences_is_asked_about(rows, tmp_path, quicker, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = rows.rename(columns={"score": "DMOS"})
    given = {"labels": table, "root": tmp_path, "shots": 12, "overrides": quicker, "out": tmp_path / "out"}
    with pytest.raises(InputError, match="low values are mostly the good ones: add --lower-is-better"):
        fewshot_iqa.adapt("ridge", **given)
    for options, asked in [({}, 1), ({"lower_is_better": True}, 0)]:
        with warnings.catch_warnings(record=True) as recorded:
            warnings.simplefilter("always")
            fewshot_iqa.adapt("ridge", score_column="DMOS", **given, **options)
        assert sum("high values of 'DMOS' are taken for good" in str(each.message) for each in recorded) == asked


@pytest.mark.parametrize(
    ("method", "wrong", "hint"),
    [
        ("ridge", ["head.penalties=[1e12]"], "try more ratings, or another method by --config"),
        ("linear", ["adapt.steps=1", "adapt.optimizer=sgd", "adapt.lr=1e4"], r"try a lower adapt.lr \(now 10000\)"),
    ],
)
@pytest.mark.parametrize("shots", [None, 8])
def test_predictions_that_are_all_the_same_are_told(quicker, rows, tmp_path, method, wrong, hint, shots):
    given = {"labels": rows, "root": tmp_path, "shots": shots, "folds": 2, "out": tmp_path / "out"}
    with pytest.warns(InputWarning, match=f"nearly the same quality of all pictures .*: {hint}"):
        fewshot_iqa.adapt(method, overrides=[*quicker, *wrong], **given)
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        fewshot_iqa.adapt("ridge", overrides=quicker, **given)
    assert not [each for each in recorded if "nearly the same" in str(each.message)]


def test_ratings_beyond_any_scale_are_refused(rows, tmp_path, quicker):
    huge = rows.assign(score=[1e308 * (-1) ** i for i in range(len(rows))])
    given = {"root": tmp_path, "overrides": quicker, "out": tmp_path / "out"}
    with pytest.raises(InputError, match=r"row .*: the score 1e\+308 is beyond 1e\+30: no rating scale"):
        fewshot_iqa.adapt("ridge", labels=huge, **given)
    with pytest.raises(InputError, match=r"--range -1e\+308,1e\+308: ratings beyond 1e\+30 are not read"):
        fewshot_iqa.adapt("ridge", labels=rows, range=(-1e308, 1e308), **given)
    with pytest.raises(InputError, match="has no finite span"):
        Scale(-1e308, 1e308)
