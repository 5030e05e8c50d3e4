"""What is evaluated is what is delivered: the predictions of the test, and those of the saved model."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import fewshot_iqa
from fewshot_iqa import metrics, resources
from fewshot_iqa.config import ViewSpec, load_config
from fewshot_iqa.images import to_picture

pytestmark = pytest.mark.filterwarnings("ignore::fewshot_iqa.InputWarning")
SAME = {"atol": 1e-5, "rtol": 0}


def adapt(name, labels, miniature, out, *more, **options):
    config = load_config(name)
    changes = [f"clip={miniature}", "views={short_side: 48, crop: 32, count: 5}", "task.alignment_range=[0, 5]"]
    if config.adapt:
        changes += ["adapt.steps=2", "adapt.batch=4"]
    if config.head.kind == "fusion":
        changes += ["model.branches.distortion.windows=2", "head.heads=2"]
    return fewshot_iqa.adapt(
        name, labels=labels, range=(0, 11), test=0.5, shots=5, start="none", out=out, overrides=[*changes, *more],
        **options,
    )  # fmt: skip


def prompts_of(labels):
    """{file name: prompt} of a table."""
    return dict(pd.read_csv(labels)[["image", "prompt"]].to_numpy())


def rows_of(result):
    return result.pictures[result.pictures.part == "test"]


def assert_delivered(found, rows):
    """A table of predictions, and the rows of the test of the same pictures."""
    found = found.set_index("image").loc[rows.image]
    for column in ("quality", "rating"):
        scale = 11 if column == "rating" else 1
        np.testing.assert_allclose(found[column] / scale, rows[f"predicted_{column}"] / scale, **SAME)
        std = rows.get(f"predicted_{column}_std")
        if std is not None:
            np.testing.assert_allclose(found[f"{column}_std"] / scale, std / scale, **SAME)
    assert found["quality_std"].isna().all() == ("predicted_quality_std" not in rows)


@pytest.mark.parametrize("name", [name for name in resources.available("configs") if name != "grmp_vitb16"])
def test_the_saved_model_predicts_what_was_tested(name, gallery, miniature, tmp_path, monkeypatch):
    """Whatever the order of the pictures, and however many are encoded together."""
    result = adapt(name, gallery, miniature, tmp_path / "out")
    rows = rows_of(result)
    assert len(rows) == 6
    (trial,) = result.metrics["trials"]
    assert metrics.report(rows.predicted_quality, rows.quality)["rmse"] == pytest.approx(trial["rmse"])
    assert rows.predicted_quality.between(0, 1).all()
    paths, model = list(rows.image), result.model
    prompts = prompts_of(gallery) if model.predictor.reads_prompts else None
    assert_delivered(model.predict(paths, prompts=prompts), rows)
    for together in (1, 3, 8):
        monkeypatch.setattr(ViewSpec, "at_once", property(lambda _, together=together: together))
        for order in (paths, paths[::-1], paths[2:] + paths[:2]):
            assert_delivered(fewshot_iqa.load(tmp_path / "out").predict(order, prompts=prompts), rows)
    for path, quality in zip(paths, rows.predicted_quality, strict=True):
        again = fewshot_iqa.load(tmp_path / "out").score(path, prompts=prompts)
        assert again == pytest.approx(quality, abs=1e-5)


@pytest.mark.parametrize("name", ["gp_prompts", "grmp", "mp_iqe", "ridge"])
def test_pictures_score_the_same_however_they_come_in(name, gallery, miniature, tmp_path):
    table = pd.read_csv(gallery).drop(columns="prompt")  # which goes by the name of a file
    rows = rows_of(adapt(name, table, miniature, tmp_path / "out", root=gallery.parent))
    model = fewshot_iqa.load(tmp_path / "out")
    for path, quality in zip(rows.image, rows.predicted_quality, strict=True):
        array = to_picture(path).transpose(1, 2, 0)
        pixels = torch.from_numpy(array).permute(2, 0, 1)
        forms = [Image.open(path), Image.fromarray(array), array, array / 255, pixels, pixels / 255, pixels[None]]
        for form in forms:
            assert np.ravel(model.score(form)) == pytest.approx([quality], abs=1e-5)


@pytest.mark.parametrize("changes", [["views.square=40"], ["views.stride=16"], ["views.count=8"], ["views.count=1"]])
def test_with_any_views(gallery, miniature, tmp_path, changes):
    short = [] if changes[0].startswith("views.square") else ["views.short_side=48"]
    rows = rows_of(adapt("gp", gallery, miniature, tmp_path / "out", "views={crop: 32}", *short, *changes))
    for order in (rows.image, rows.image[::-1]):
        assert_delivered(fewshot_iqa.load(tmp_path / "out").predict(list(order)), rows)


@pytest.mark.parametrize("name", ["gp_prompts", "clip_agiqa", "mp_iqe"])
def test_the_command_line_and_evaluate_find_the_metrics_of_the_test(fsiqa, name, gallery, miniature, tmp_path):
    # with seed 0 the six predictions of clip_agiqa lie so near each other that rounding moves PLCC
    result = adapt(name, gallery, miniature, tmp_path / "out", "seed=1")
    rows, report = rows_of(result), tmp_path / "scores.json"
    prompts = ("--prompts", gallery) if result.model.predictor.reads_prompts else ()
    assert fsiqa("score", tmp_path / "out", *rows.image, *prompts, "--json", report).code == 0
    scores = json.loads(report.read_text())["scores"]
    np.testing.assert_allclose([score["quality"] for score in scores], rows.predicted_quality, atol=5.1e-5)
    table = pd.DataFrame({"image": rows.image, "score": rows.rating})
    table["prompt"] = [prompts_of(gallery)[Path(image).name] for image in rows.image]
    found = fewshot_iqa.evaluate(tmp_path / "out", labels=table, root="/").metrics
    (trial,) = result.metrics["trials"]
    for metric in ("srcc", "plcc", "krcc"):
        assert found[metric] == pytest.approx(trial[metric], abs=1e-5)
    assert found["rmse"] == pytest.approx(11 * trial["rmse"], abs=1e-4)  # in the units of the ratings


def test_scoring_draws_no_random_numbers(gallery, miniature, tmp_path):
    """Dropout of visual prompts is of training alone."""
    rows = rows_of(adapt("grmp", gallery, miniature, tmp_path / "out", "model.visual.main.dropout=0.5"))
    model, before = fewshot_iqa.load(tmp_path / "out"), torch.random.get_rng_state()
    assert_delivered(model.predict(list(rows.image)), rows)
    assert torch.equal(torch.random.get_rng_state(), before)
