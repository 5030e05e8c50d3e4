"""Exported models predict what their checkpoints predict, without torch; what cannot be exported is refused."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pandas as pd
import pytest
from scipy.stats import spearmanr

import fewshot_iqa
from fewshot_iqa import runtime
from fewshot_iqa.data.synthetic import wheel_photograph
from fewshot_iqa.errors import InputError, InputWarning
from fewshot_iqa.model.formats import weights_fingerprint
from fewshot_iqa.recipes import exporting
from fewshot_iqa.recipes.exporting import PHOTOGRAPHS, export
from fewshot_iqa.recipes.loading import EXPORTED, load_fastest
from fewshot_iqa.resources import SHIPPED
from tests.conftest import photograph, sets


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Pictures of several sizes."""
    folder = tmp_path_factory.mktemp("of_several_sizes")
    for i, size in enumerate([(60, 72), (48, 48), (90, 50), (200, 300), (40, 40)]):
        photograph(i, *size).save(folder / f"photo{i}.png")
    return folder


def adapt(fsiqa, method, eight, miniature, out, *changes):
    views = f"views={{short_side: 48, crop: 32, count: {1 if method == 'ridge' else 5}}}"
    few = ["adapt.steps=1"] if method in {"grmp_gp", "mp_iqe", "clip_agiqa"} else []
    options = sets([f"clip={miniature}", views, *few, *changes])
    result = fsiqa("adapt", "--config", method, "--labels", eight, "--from", "none", "--out", out, *options)
    assert result.code == 0, result.error


@pytest.mark.parametrize("method", ["gp_prompts", "ridge", "mp_iqe", "clip_agiqa"])
def test_an_exported_model_predicts_the_same(fsiqa, method, eight, miniature, photos, tmp_path):
    out, model = tmp_path / "out", tmp_path / "model.onnx"
    adapt(fsiqa, method, eight, miniature, out)
    result = fsiqa("export", out, model)
    assert result.code == 0, result.error
    assert str(model) in result.output
    tables = []
    for source in (out, model):
        assert fsiqa("score", source, photos, "--csv", tmp_path / "scores.csv").code == 0
        tables.append(pd.read_csv(tmp_path / "scores.csv"))
    assert len(tables[0]) == 5
    for column in ("quality", "quality_std", "rating", "rating_std"):
        expected, found = tables[0][column].to_numpy(float), tables[1][column].to_numpy(float)
        tolerance = 1e-4 if "quality" in column else 1e-4 * 70  # ratings are from 0 to 70
        assert found == pytest.approx(expected, abs=tolerance + 1e-4, nan_ok=True)  # and rounded to 4 digits
    assert tables[0].quality_std.notna().all() == (method == "gp_prompts")


def test_an_exported_model_tells_the_likeliest_phrases(fsiqa, eight, miniature, photos, tmp_path):
    out = tmp_path / "out"
    adapt(fsiqa, "mp_iqe", eight, miniature, out)
    about = json.loads((out / "provenance.json").read_text())
    about["labels"] = {"distortion": 8}  # as if the ratings had named distortions
    (out / "provenance.json").write_text(json.dumps(about))
    export(out)
    exported, plain = load_fastest(out), fewshot_iqa.load(out)
    assert isinstance(exported.predictor, runtime.ExportedModel)
    pictures = [(str(path), path) for path in sorted(photos.iterdir())]
    expected = [score.likeliest for score in plain.stream(pictures, explain=True)]
    assert [score.likeliest for score in exported.stream(pictures, explain=True)] == expected
    assert all(each["distortion"] for each in expected)


def test_the_shipped_prompts_come_exported():
    """In the same weights: scores differ by rounding alone."""
    exported, plain = load_fastest(SHIPPED), fewshot_iqa.load(device="cpu")
    assert isinstance(exported.predictor, runtime.ExportedModel)
    assert exported.predictor.about["weights"] == weights_fingerprint(SHIPPED)
    assert not exported.predictor.about["int8"]
    paths = [wheel_photograph(name) for name in PHOTOGRAPHS]
    assert exported.score(paths) == pytest.approx(plain.score(paths), abs=1e-4)


def test_8_bit_scores_are_near(tmp_path):
    found = export(SHIPPED, tmp_path / "small.onnx", int8=True)
    assert 0 < found.difference < 0.01
    assert found.size < 0.8 * (SHIPPED / EXPORTED).stat().st_size
    paths = [wheel_photograph(name) for name in PHOTOGRAPHS]
    scores = fewshot_iqa.load(tmp_path / "small.onnx").score(paths)
    assert spearmanr(scores, fewshot_iqa.load(device="cpu").score(paths)).statistic > 0.8
    weights = [each for each in onnx.load(tmp_path / "small.onnx").graph.initializer if each.data_type == 3]
    assert max(np.abs(onnx.numpy_helper.to_array(each)).max() for each in weights) <= 64  # 7 of 8 bits


def test_scoring_without_torch(photos):
    """With the runtime, `fsiqa score photo.jpg` imports no torch."""
    code = (
        "import sys; from fewshot_iqa.cli import main; sys.argv = ['fsiqa', 'score', sys.argv[1]]\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'pandas', 'scipy', 'sklearn', 'open_clip'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(photos / "photo3.png")]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    assert "ONNX Runtime" in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"


def test_a_checkpoint_is_scored_by_what_was_exported_from_it(fsiqa, eight, miniature, photos, tmp_path, monkeypatch):
    out, photo = tmp_path / "out", photos / "photo0.png"
    adapt(fsiqa, "ridge", eight, miniature, out)
    assert "ONNX" not in fsiqa("score", out, photo).output
    assert fsiqa("export", out).code == 0
    assert "scored with ONNX Runtime" in fsiqa("score", out, photo).output
    for options in (["--device", "cpu"], ["--cache", tmp_path / "cache"]):
        assert "ONNX" not in fsiqa("score", out, photo, *options).output
    monkeypatch.setattr("fewshot_iqa.recipes.loading.has_runtime", lambda: False)
    assert "ONNX" not in fsiqa("score", out, photo).output
    monkeypatch.undo()
    exported = (out / EXPORTED).read_bytes()
    shutil.rmtree(out)
    adapt(fsiqa, "ridge", eight, miniature, out, "head.penalties=[1000]")
    (out / EXPORTED).write_bytes(exported)  # of other weights
    assert "ONNX" not in fsiqa("score", out, photo).output


def test_an_export_that_differs_is_not_kept(fsiqa, eight, miniature, tmp_path, monkeypatch):
    out = tmp_path / "out"
    model = out / EXPORTED
    adapt(fsiqa, "ridge", eight, miniature, out)
    monkeypatch.setattr(exporting, "TOLERANCE", {False: -1.0, True: -1.0})
    model.write_bytes(b"an earlier one")
    with pytest.raises(InputError, match=r"differs by .* in quality; nothing was kept"):
        export(out)
    assert model.read_bytes() == b"an earlier one"
    assert not list(out.glob("*.part"))


class Mean:
    """A head from Python."""

    def fit(self, features, quality, *, groups=()):
        self.mean = float(quality.mean())

    def predict(self, features):
        return fewshot_iqa.Prediction(features.matrix()[:, 0] * 0 + self.mean)


def test_what_cannot_be_exported(fsiqa, eight, miniature, tmp_path):
    changes = [f"clip={miniature}", "views={short_side: null, crop: 32, count: 1}"]
    fewshot_iqa.adapt("ridge", labels=eight, head=Mean(), out=tmp_path / "mean", overrides=changes)
    assert "a head from Python" in fsiqa("export", tmp_path / "mean").error
    for arguments, message in {
        (tmp_path,): "not a checkpoint", (SHIPPED, "model.pt"): "model.pt: name a .onnx file",
        (SHIPPED, tmp_path / "no" / "such" / "model.onnx"): "does not exist",
    }.items():  # fmt: skip
        result = fsiqa("export", *arguments)
        assert result.code == 2
        assert message in result.error


def test_files_that_are_no_exported_model(fsiqa, photos, tmp_path, monkeypatch):
    (tmp_path / "text.onnx").write_text("no model")
    one = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    same = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "other", [one], [same])
    other = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(other, tmp_path / "other.onnx")
    shipped, photo = SHIPPED / EXPORTED, photos / "photo0.png"
    (tmp_path / "prompts.csv").write_text("image,prompt\nphoto0.png,a cat\n")
    for arguments, message in {
        (tmp_path / "none.onnx", photo): "none.onnx: no such file; `fsiqa export CHECKPOINT",
        (tmp_path / "text.onnx", photo): "not a model that ONNX Runtime reads",
        (tmp_path / "other.onnx", photo): "not from `fsiqa export`",
        (shipped, photo, "--device", "cpu"): "takes no device",
        (shipped, photo, "--cache", tmp_path): "takes no cache",
        (shipped, photo, "--prompts", tmp_path / "prompts.csv"): "reads no prompts",
        (shipped, photo, "--explain"): "learned no phrases",
        (shipped, photo, "--map", tmp_path / "map.png"): "draws no map",
        (photo, shipped): "is a model, no image: name it first",
        (shipped,): "name the images to score",
    }.items():  # fmt: skip
        result = fsiqa("score", *arguments)
        assert result.code == 2, arguments
        assert message in result.error, result.error
        assert len(result.error.strip().splitlines()) == 1
    with pytest.raises(InputError, match="gives no features"):
        fewshot_iqa.load(shipped).features(photo)
    monkeypatch.setattr(runtime, "has_runtime", lambda: False)
    assert "pip install 'fewshot-iqa[fast]'" in fsiqa("score", shipped, photo).error


def test_a_broken_export_is_told_and_not_used(fsiqa, eight, miniature, tmp_path):
    folder = tmp_path / "adapted"
    adapt(fsiqa, "ridge", eight, miniature, folder)
    (folder / EXPORTED).write_bytes(b"broken")
    with pytest.warns(InputWarning, match=r"not a model .* not used: `fsiqa export .*adapted` makes it anew"):
        assert not isinstance(load_fastest(folder).predictor, runtime.ExportedModel)
    export(folder)  # inside a checkpoint it is replaced
    assert isinstance(load_fastest(folder).predictor, runtime.ExportedModel)


def test_what_is_no_export_is_not_replaced(fsiqa, eight, miniature, tmp_path):
    folder, theirs = tmp_path / "adapted", tmp_path / "theirs.ONNX"
    adapt(fsiqa, "ridge", eight, miniature, folder)
    theirs.write_bytes(b"another program's")
    assert "it is not replaced: name another file" in fsiqa("export", folder, theirs).error
    assert theirs.read_bytes() == b"another program's"
    with pytest.raises(InputError, match=r"name a \.onnx file"):
        export(folder, tmp_path / "model")
    assert "is exported already" in fsiqa("export", theirs, tmp_path / "other.onnx").error
    assert "not a model that ONNX Runtime reads" in fsiqa("score", theirs, eight.parent).error
