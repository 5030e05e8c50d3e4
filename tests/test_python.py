"""The package from Python: evaluating on a second table, options by name, and what a cache may not cost."""

import io
import os

import numpy as np
import open_clip
import pandas as pd
import pytest
from PIL import Image

import fewshot_iqa
from fewshot_iqa import InputError, InputWarning
from fewshot_iqa.features import FeatureCache
from fewshot_iqa.resources import SHIPPED
from fewshot_iqa.types import Features
from tests.conftest import photograph

pytestmark = pytest.mark.filterwarnings("ignore::fewshot_iqa.InputWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rated")
    for i in range(12):
        photograph(i, 60, 72).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def frame():
    return pd.DataFrame({"file": [f"{i}.png" for i in range(12)], "stars": [1 + i % 5 for i in range(12)]})


@pytest.fixture
def options(miniature):
    return {"clip": miniature, "overrides": ["views={crop: 32, count: 1}"]}


@pytest.fixture
def adapted(frame, folder, options, tmp_path):
    return fewshot_iqa.adapt("gp", labels=frame, root=folder, range=(1, 5), out=tmp_path / "gp", **options)


def test_a_frame_is_learned_from_and_evaluated_on(adapted, frame, folder, tmp_path):
    assert len(adapted.pictures) == 12
    assert adapted.metrics["agreement"]["pictures"] == 12
    found = fewshot_iqa.evaluate(tmp_path / "gp", labels=frame, root=folder)
    predicted = adapted.model.predict([folder / name for name in frame.file])
    np.testing.assert_allclose(found.pictures.predicted_rating, predicted.rating, atol=1e-5)
    np.testing.assert_allclose(found.pictures.rating, frame.stars)
    error = ((predicted.rating - frame.stars) ** 2).mean() ** 0.5
    assert found.metrics["rmse"] == pytest.approx(error, rel=1e-4)
    inside = (predicted.rating - frame.stars).abs() <= 1.6449 * predicted.rating_std
    assert found.metrics["coverage"] == pytest.approx(inside.mean())
    assert len(repr(adapted)) < 600


def test_another_range_is_that_of_the_predictions(adapted, frame, folder):
    tenfold = frame.assign(stars=10 * frame.stars)
    found = fewshot_iqa.evaluate(adapted.model, labels=tenfold, root=folder, range=(10, 50))
    alike = fewshot_iqa.evaluate(adapted.model, labels=frame, root=folder)
    assert found.metrics["rmse"] == pytest.approx(10 * alike.metrics["rmse"], rel=1e-4)
    with pytest.raises(InputError, match="run the other way"):
        fewshot_iqa.evaluate(adapted.model, labels=frame, root=folder, lower_is_better=True)


def test_pictures_that_cannot_be_read_are_counted(adapted, frame, folder, tmp_path):
    for name in frame.file[:6]:
        os.link(folder / name, tmp_path / name)
    for name in frame.file[6:]:
        (tmp_path / name).touch()
    with pytest.warns(InputWarning, match="6 of 12 pictures cannot be read"):
        found = fewshot_iqa.evaluate(adapted.model, labels=frame, root=tmp_path)
    assert found.metrics["pictures"] == 6


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"lower_is_beter": True}, "no option lower_is_beter. Did you mean 'lower_is_better'?"),
        ({"folds": 1}, "--folds 1: at least two"),
        ({"seeds": 0}, "--seeds 0"),
        ({"labels": 3}, "--labels: expected"),
    ],
)
def test_options_are_checked_by_name(keys, message, frame, folder, options):
    with pytest.raises(InputError) as error:
        fewshot_iqa.adapt("ridge", **{"labels": frame, "root": folder, **options, **keys})
    assert message in str(error.value)


def test_ratings_that_hardly_differ_are_learned_without_folds(frame, folder, options, tmp_path):
    two = frame[:2].assign(stars=[8.4, 8.6])
    found = fewshot_iqa.adapt("ridge", labels=two, root=folder, out=tmp_path / "two", **options)
    assert found.metrics["agreement"] is None
    assert np.isfinite(found.model.score(folder / "3.png"))


def test_a_curve_takes_one_method_and_one_number(frame, folder, options, tmp_path):
    keys = {"labels": frame, "root": folder, "range": (1, 5), "folds": 2, "seeds": 2, "out": tmp_path / "c"}
    found = fewshot_iqa.curve("ridge", shots=4, **keys, **options)
    assert list(found.table.method) == ["ridge"]
    assert "zero_shot" not in found.table
    assert found.plot(tmp_path / "c.png").axes
    with Image.open(tmp_path / "c.png") as image:
        assert image.width > 500
    assert "Curve of ridge" in repr(found)


def test_an_open_file_is_a_picture(adapted, folder):
    content = io.BytesIO((folder / "2.png").read_bytes())
    assert adapted.model.score(content) == pytest.approx(adapted.model.score(folder / "2.png"), abs=1e-6)
    with pytest.raises(InputError, match="not an image"):
        adapted.model.score(io.BytesIO(b"text"))
    with pytest.raises(InputError, match="a URL"):
        adapted.model.score("https://example.org/a.png")


def test_words_near_learned_prompts_are_those_of_the_greatest_cosine():
    shipped = fewshot_iqa.load()
    model = shipped.predictor.model
    vectors = model.text["quality"].context.detach().numpy()
    embeddings = model.clip.token_embedding.weight.detach().numpy()
    tokenizer = open_clip.tokenizer.SimpleTokenizer()
    found = []
    for vector in vectors:
        cosine = embeddings @ vector / np.linalg.norm(embeddings, axis=1) / np.linalg.norm(vector)
        found.append([tokenizer.decode([token]).strip() for token in np.argsort(-cosine)[:7]])
    assert shipped.nearest_words(count=7) == shipped.nearest_words("quality", 7) == found
    assert len(shipped.nearest_words(count=50_000)[0]) == len(embeddings)


def test_words_near_prompts_that_are_not_there(adapted):
    shipped = fewshot_iqa.load()
    for call, message in (
        (lambda: shipped.nearest_words("scene"), "scene has no learned context; those with one: quality"),
        (lambda: shipped.nearest_words("qualiti"), "qualiti has no learned context"),
        (lambda: shipped.nearest_words(count=0), "at least one"),
        (lambda: adapted.model.nearest_words(), "no branch of this method has one"),
        (lambda: fewshot_iqa.load(SHIPPED / "model.onnx").nearest_words(), "exported"),
    ):
        with pytest.raises(InputError, match=message):
            call()


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path, monkeypatch):
    features = Features(2, {"": np_tensor()})
    cache = FeatureCache(tmp_path / "cache")
    monkeypatch.setattr("fewshot_iqa.features.to_bytes", lambda *_: (_ for _ in ()).throw(OSError("No space left")))
    with pytest.warns(InputWarning, match="nothing more is kept there"):
        cache.put("0" * 32, features)
    cache.put("1" * 32, features)
    assert cache.get("0" * 32) is not None
    assert FeatureCache(tmp_path / "cache").get("0" * 32) is None


def np_tensor():
    import torch

    return torch.ones(1, 1, 3)
