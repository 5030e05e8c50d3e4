"""Heads on a miniature CLIP: few shots, ties, predicted deviations, the prompt mean, and crops of large pictures."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from fewshot_iqa.config import ViewSpec, load_config, with_overrides
from fewshot_iqa.data.loading import Loader
from fewshot_iqa.data.splits import folds_by_group
from fewshot_iqa.images import fixed_views, read_image
from fewshot_iqa.model import checkpoint
from fewshot_iqa.model.encoder import VIEWS_AT_ONCE
from fewshot_iqa.predictor import ModelPredictor
from fewshot_iqa.recipes.fitting import fit
from fewshot_iqa.score import Scorer
from fewshot_iqa.types import Record, Scale
from tests.conftest import photograph, seeded, sets


@pytest.mark.parametrize("method", ["ridge", "gp", "clip_iqa"])
@pytest.mark.parametrize("scores", [[10, 20, 30, 40, 50, 60], [1, 1, 1, 5, 5, 5], [5, 5, 5, 5, 5, 6]])
def test_two_shots_and_ties_are_enough(fsiqa, table, quick, method, scores, tmp_path):
    labels = table([{"image": f"photo{i}.png", "score": score} for i, score in enumerate(scores)])
    result = fsiqa(
        "adapt", "--task", "csv", "--labels", labels, "--config", method, "--shots", 2, "--seeds", 3,
        "--range", "0,100", "--out", tmp_path / "out", "--json", tmp_path / "out.json", *quick,
    )  # fmt: skip
    assert result.code == 0, result.error
    found = json.loads((tmp_path / "out.json").read_text())
    assert all(np.isfinite(trial["rmse"]) for trial in found["trials"])
    assert (found["median"].get("coverage") is None) == (method != "gp")
    assert fsiqa("score", tmp_path / "out", labels.parent).code == 0


def test_a_score_has_its_predicted_standard_deviation(fsiqa, rated, quick, tmp_path):
    task = ("--task", "csv", "--labels", rated, "--config", "gp", "--shots", 3, "--out", tmp_path / "out", *quick)
    assert fsiqa("adapt", *task).code == 0
    result = fsiqa("score", tmp_path / "out", rated.parent, "--csv", tmp_path / "scores.csv")
    assert "±" in result.output
    scores = pd.read_csv(tmp_path / "scores.csv")
    low, high = checkpoint.provenance(tmp_path / "out")["scale"]
    assert (scores["quality_std"] > 0).all()
    np.testing.assert_allclose(scores["rating_std"], (high - low) * scores["quality_std"], atol=0.02)


def test_many_crops_of_pictures_of_any_size(small, tmp_path):
    """Scored together, alone, and crop by crop: the same."""
    model, paths = checkpoint.build(load_config("grmp", small)), []
    for i, size in enumerate([(200, 300), (40, 50), (33, 400)]):
        paths.append(tmp_path / f"large{i}.png")
        photograph(i, *size).save(paths[-1])
    views = ViewSpec(crop=32, stride=16)
    together = Scorer(ModelPredictor(model), views).score(paths)
    assert fixed_views(read_image(paths[0]), views).shape[0] > 2 * VIEWS_AT_ONCE
    for path, quality in zip(paths[::-1], together[::-1], strict=True):
        assert Scorer(ModelPredictor(model), views).score(path) == pytest.approx(quality, abs=1e-6)
        with torch.inference_mode():
            each = [model(torch.from_numpy(crop)[None] / 255).mean[0] for crop in fixed_views(read_image(path), views)]
        assert quality == pytest.approx(float(torch.stack(each).mean()), abs=1e-5)


def test_a_gaussian_process_adds_what_the_prompts_leave_of_the_ratings(fsiqa, eight, quick, tmp_path):
    """Before shots quality is what the phrases predict; then, through the tower as it is trained by then, half of that
    and the posterior mean of the rest."""
    steps = sets(["adapt.trainable=[text.quality.*, clip.visual.ln_post.*]", "adapt.steps=3", "adapt.lr=1e-2"])
    files = ("--out", tmp_path / "out", "--json", tmp_path / "out.json", "--csv", tmp_path / "out.csv")
    task = ("--task", "csv", "--labels", eight, "--test", "0.25", "--shots", 5)
    result = fsiqa("adapt", *task, "--config", "grmp_gp", "--from", "none", *quick, *files, *steps)
    assert result.code == 0, result.error
    (trial,) = json.loads((tmp_path / "out.json").read_text())["trials"]
    assert -1 <= trial["cosine"] <= 1
    assert 0 <= trial["coverage"] <= 1
    assert "coverage" not in trial["zero_shot"]
    model = checkpoint.load(tmp_path / "out")[0]
    assert model.tuned == {"clip.visual.ln_post.weight", "clip.visual.ln_post.bias"}
    table = pd.read_csv(tmp_path / "out.csv")
    views = torch.stack(
        [torch.from_numpy(fixed_views(read_image(Path(image)), ViewSpec(crop=32, count=1))) for image in table.image]
    )
    shots = torch.tensor((table.part == "shot").to_numpy())
    quality = torch.tensor(table.quality, dtype=torch.float32)
    with torch.inference_mode():
        state = model.encode_prompts()
        predicted, features = model(views, state), model.encode(views, state)
        reported = torch.tensor(table.predicted_quality[~shots.numpy()].to_numpy()).float()
        torch.testing.assert_close(predicted.clamped().mean[~shots], reported, atol=1e-4, rtol=1e-4)
        assert predicted.std.min() > 0
        torch.testing.assert_close(model(features, state).mean, predicted.mean)
        rated, process = model.head.train_y.clone(), model(features, state).mean
        model.head.reset()
        phrases = model(views, state)
    assert phrases.std is None
    torch.testing.assert_close(phrases.mean, phrases.logits["quality"].softmax(-1)[:, 0])
    torch.testing.assert_close(rated.sort().values, quality[shots].sort().values, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(process, 0.5 * phrases.mean, atol=1e-3)


def test_after_gradients_a_head_is_fitted_out_of_fold(gallery, miniature):
    """On what models say of each shot that learned from the others."""
    table = pd.read_csv(gallery)
    records = [Record(gallery.parent / row.image, row.score, f"{row.Index // 2}") for row in table.itertuples()]
    trained = "adapt.trainable=[text.quality.*, clip.visual.ln_post.*]"
    quick = [
        f"clip={miniature}",
        "views={crop: 32, count: 5}",
        trained,
        "adapt.steps=3",
        "adapt.crops=null",
        "adapt.lr=1e-2",
    ]
    settings = load_config("grmp_gp", quick)
    alone = with_overrides(settings, head={"kind": "antonym"})
    loader, model, whole = Loader(settings.views, Scale(0, 11)), checkpoint.build(settings), checkpoint.build(alone)
    fit(model, loader, records, settings)
    fit(whole, loader, records, alone)
    for name in model.tuned:
        torch.testing.assert_close(model.state_dict()[name], whole.state_dict()[name])
    found = zip(model.head.train_x, model.head.train_p, model.head.train_y, strict=True)
    for rest, fold in folds_by_group(records, settings.adapt.folds, seed=settings.seed):
        assert not {record.group for record in rest} & {record.group for record in fold}
        other = checkpoint.build(alone)
        fit(other, loader, rest, alone)
        for record in fold:
            with torch.no_grad():
                features = other.encode(next(iter(loader.fixed_batches([record]))).inputs, other.encode_prompts())
                predicted = other(features).mean
            x, p, y = next(found)
            torch.testing.assert_close(x[None], features.matrix(), atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(p[None], predicted, atol=1e-5, rtol=1e-4)
            assert float(y) == pytest.approx(record.rating / 11)
    assert next(found, None) is None

    together = [replace(record, group="one") for record in records]
    fit(model, loader, together, settings)
    assert len(model.head.train_y) == len(records)  # no fold leaves a group: in sample


def test_a_gaussian_process_takes_over_the_prompts_of_grmp(fsiqa, eight, quick, tmp_path):
    """And predicts what they predict before its first shot."""
    task = ("--task", "csv", "--labels", eight, "--test", "0.25", "--shots", 3, *quick, "--set", "adapt.steps=1")
    found = {}
    fsiqa("adapt", *task, "--config", "grmp", "--from", "none", "--out", tmp_path / "start")
    for method in ("grmp", "grmp_gp"):
        files = ("--out", tmp_path / method, "--json", tmp_path / "out.json")
        result = fsiqa("adapt", *task, "--config", method, "--from", tmp_path / "start", *files)
        assert result.code == 0, result.error
        found[method] = json.loads((tmp_path / "out.json").read_text())["trials"][0]
    assert found["grmp"]["zero_shot"] == found["grmp_gp"]["zero_shot"]
    assert found["grmp"]["rmse"] != found["grmp_gp"]["rmse"]
    again = ("--config", tmp_path / "grmp_gp", "--from", tmp_path / "grmp_gp", "--out", tmp_path / "again")
    result = fsiqa("adapt", *task, *again, "--set", "adapt.lr=1e-3")
    assert result.code == 0, result.error  # from a process with other shots, which it does not keep
    assert len(checkpoint.load(tmp_path / "again")[0].head.train_y) == 3


class Single(torch.Tensor):
    """A tensor on a device that has no float64, as Apple's."""

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None):
        with torch._C.DisableTorchFunctionSubclass():
            found = function(*arguments, **(options or {}))
            if not isinstance(found, torch.Tensor):
                return found
            moved = function is torch.Tensor.cpu or (function is torch.Tensor.to and "cpu" in arguments[1:])
            if not moved and found.dtype == torch.float64:
                raise TypeError("the device has no float64")
            return found.as_subclass(torch.Tensor if moved else cls)


@pytest.mark.parametrize("method", ["ridge", "gp", "gp_prompts"])
def test_closed_forms_compute_on_the_cpu_whatever_the_device(method, miniature):
    settings = load_config(method, [f"clip={miniature}", "views={short_side: null, crop: 32, count: 1}"])
    model = checkpoint.build(settings)
    views, quality = seeded(12, 2, 3, 32, 32), seeded(12)
    with torch.no_grad():
        encoded = model.encode(views, model.encode_prompts())
        features = model.compare(encoded, model.encode_prompts(), list(model.quality_branches))
    found = []
    for there in (features, features.map(lambda value: value.as_subclass(Single))):
        rated = quality if there is features else quality.as_subclass(Single)
        model.head.fit(there[:8], rated[:8], variance=rated[:8] / 9)
        prediction = model.head.predict(there[8:])
        found.append([each.as_subclass(torch.Tensor) for each in (prediction.mean, prediction.std) if each is not None])
    assert type(prediction.mean) is Single
    assert all(torch.equal(*both) for both in zip(*found, strict=True))
    if model.head.on_cpu:
        assert model.head.to("meta").train_x.device.type == "cpu"
