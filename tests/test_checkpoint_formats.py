"""Checkpoints of format 1, and keys of earlier versions."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import fewshot_iqa
from fewshot_iqa.config import load_config
from fewshot_iqa.errors import InputError
from fewshot_iqa.model import checkpoint
from tests.conftest import sets

METHODS = {
    "antonym": ("grmp", ["adapt.steps=2", "adapt.batch=4"]),
    "linear": ("linear", ["adapt.steps=3"]),
    "ridge": ("ridge", []),
    "gp": ("gp", ["head.lengthscale=3", "head.linear=[0.3]", "head.noise=[0.1]"]),
    "gp with prompts": (
        "gp_prompts",
        ["head.prompt_mean_weight=0.5", "head.synthetic_mean_weight=0", "head.linear=[0.3]", "head.noise=[0.1]"],
    ),
    "fusion": ("mp_iqe", ["model.branches.distortion.windows=2", "head.heads=2", "adapt.steps=2"]),
}


@pytest.fixture
def adapted(fsiqa, rated, quick, tmp_path):
    """Adapt by a method, and return the folder of the checkpoint."""

    def run(method, *more):
        name, changes = METHODS[method]
        task = ("adapt", "--config", name, "--from", "none", "--labels", rated, "--shots", 3, "--out", tmp_path / "out")
        result = fsiqa(*task, *quick, *sets(changes), *more)
        assert result.code == 0, result.error
        return tmp_path / "out"

    return run


def as_format_1(folder, target):
    """The checkpoint as version 0.1 wrote it: the head in `model`, `ridge` and `gp`, other names of the shots."""
    shutil.copytree(folder, target)
    config = yaml.safe_load((target / "config.yaml").read_text())
    head = config.pop("head")
    kind = head.pop("kind")
    config["model"] |= {"head": "antonym" if kind == "ridge" else kind, "prior": head.pop("prompt_mean_weight", 0)}
    config["model"]["fusion"] = head if kind == "fusion" else None
    config["ridge"] = head if kind == "ridge" else None
    if kind == "ridge":
        config["model"]["head"] = "linear"  # what ridge regression fits
    config["gp"] = (
        {name.replace("lengthscale", "length"): value for name, value in head.items()} if kind == "gp" else None
    )
    (target / "config.yaml").write_text(yaml.safe_dump(config))

    old = {"head.train_x": "head.inputs", "head.train_y": "head.quality"}
    weights = load_file(target / "weights.safetensors")
    if kind == "gp":
        (row,) = weights["head.hyperparameters"]
        weights["head.hyperparameters"] = row[3:].clone()
        weights["head.train_y"] -= float(row[1]) * weights.pop("head.train_p")
        assert not weights.pop("head.train_match").any()
        del weights["head.match_moments"]
        assert not weights.pop("head.prior_weight").any()
        del weights["head.prior_bias"]
    save_file({old.get(name, name): value for name, value in weights.items()}, target / "weights.safetensors")

    provenance = json.loads((target / "provenance.json").read_text())
    assert provenance.pop("format") == 2
    del provenance["sha256"]
    provenance["zero_step"] = provenance.pop("zero_shot")
    (target / "provenance.json").write_text(json.dumps(provenance))
    return target


@pytest.mark.parametrize("method", METHODS)
def test_format_1_is_read_and_scores_the_same(adapted, fsiqa, rated, method, tmp_path):
    new = adapted(method)
    old = as_format_1(new, tmp_path / "old")
    assert checkpoint.read_checkpoint_config(old) == checkpoint.read_checkpoint_config(new)
    assert checkpoint.provenance(old)["zero_shot"] == checkpoint.provenance(new)["zero_shot"]
    tables = [fewshot_iqa.load(folder).predict([rated.parent]) for folder in (new, old)]
    for column in ("quality", "quality_std", "rating", "rating_std"):
        np.testing.assert_allclose(tables[1][column], tables[0][column], rtol=1e-5)
    assert (tables[0]["quality_std"] > 0).all() == method.startswith("gp")
    assert fsiqa("score", old, rated.parent / "photo0.png").code == 0


@pytest.mark.parametrize("weights", [(0, 0.5), (0.5, 0)])
def test_a_gaussian_process_with_one_prior_mean_is_read(fsiqa, adapted, rated, weights, tmp_path):
    """It kept what its prior mean left of the shots' quality."""
    prompt, synthetic = weights
    settings = [f"head.prompt_mean_weight={prompt}", f"head.synthetic_mean_weight={synthetic}"]
    new = adapted("gp with prompts", *sets(settings))
    path = new / "weights.safetensors"
    found = load_file(path)
    generator = torch.Generator().manual_seed(0)
    found["head.prior_weight"] = torch.randn(found["head.prior_weight"].shape, generator=generator).double() / 1000
    found["head.prior_bias"].fill_(0.3)
    found["head.hyperparameters"][:, 1:3] = torch.tensor(weights)
    save_file(found, path)
    provenance = json.loads((new / "provenance.json").read_text())
    del provenance["sha256"]  # versions with one prior mean kept none
    (new / "provenance.json").write_text(json.dumps(provenance))
    expected = fewshot_iqa.load(new).predict([rated.parent])

    linear = found["head.train_x"].double() @ found["head.prior_weight"] + found["head.prior_bias"]
    found["head.train_y"] -= (prompt * found.pop("head.train_p") + synthetic * linear).float()
    del found["head.train_match"], found["head.match_moments"]
    found["head.hyperparameters"] = torch.cat([torch.ones(1, 1), found["head.hyperparameters"][:, 3:]], dim=1)
    save_file(found, path)
    again = fewshot_iqa.load(new).predict([rated.parent])
    np.testing.assert_allclose(again["quality"], expected["quality"], rtol=1e-5)
    np.testing.assert_allclose(again["quality_std"], expected["quality_std"], rtol=1e-5)


@pytest.mark.parametrize("method", ["antonym", "gp with prompts"])
def test_format_1_can_be_adapted_further_and_is_saved_in_the_present_one(adapted, fsiqa, rated, method, tmp_path):
    new = adapted(method)
    old = as_format_1(new, tmp_path / "old")
    found = []
    for start in (new, old):
        task = ("adapt", "--config", start, "--from", start, "--labels", rated, "--shots", 3, "--seed", 1)
        result = fsiqa(*task, "--out", tmp_path / "further")
        assert result.code == 0, result.error
        found.append(load_file(tmp_path / "further" / "weights.safetensors"))
        assert json.loads((tmp_path / "further" / "provenance.json").read_text())["format"] == 2
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_format_1_of_meta_training(fsiqa, small, photographs, tmp_path):
    """Its tasks per step were called the number of episodes."""
    task = ["task.distortions=[jpeg, darken]", "task.hold_out=[darken]", "meta.steps=1"]
    task.append("task.episodes={tasks_per_step: 2, support: 3, query: 2}")
    out = tmp_path / "meta"
    assert (
        fsiqa("metatrain", "--config", "grmp", "--images", photographs, "--out", out, *sets([*small, *task])).code == 0
    )
    provenance = json.loads((out / "provenance.json").read_text())
    del provenance["format"]
    provenance["source"]["episodes"]["count"] = provenance["source"]["episodes"].pop("tasks_per_step")
    (out / "provenance.json").write_text(json.dumps(provenance))
    assert checkpoint.provenance(out)["source"]["episodes"]["tasks_per_step"] == 2
    assert "count" not in checkpoint.provenance(out)["source"]["episodes"]
    assert fsiqa("score", out, photographs).code == 0


def test_what_is_no_format_is_refused_by_the_name_of_its_file(adapted, tmp_path):
    old = as_format_1(adapted("ridge"), tmp_path / "old")
    config = (old / "config.yaml").read_text()
    (old / "config.yaml").write_text(config.replace("penalties", "penalty"))
    with pytest.raises(
        InputError, match=r"old/config\.yaml: unknown key head\.penalty\. Did you mean 'head\.penalties'"
    ):
        fewshot_iqa.load(old)


@pytest.mark.parametrize(
    ("name", "old", "given", "in_file"),
    [
        ("grmp", "model.head=linear", "model.head is now called head.kind", None),
        ("grmp", "model.prior=0.5", "model.prior is now called head.prompt_mean_weight", None),
        ("mp_iqe", "model.fusion.heads=2", "model.fusion is now called head", None),
        ("ridge", "ridge.penalties=[1]", "ridge.penalties is now called head.penalties", "ridge is now called head"),
        ("gp", "gp.length=2", "gp.length is now called head.lengthscale", "gp is now called head"),
        ("gp", "gp={}", "gp is now called head", None),
    ],
)
def test_an_old_key_is_answered_with_the_new_one(fsiqa, tmp_path, name, old, given, in_file):
    with pytest.raises(InputError) as refused:
        load_config(name, [old])
    assert str(refused.value) == f"--set {old}: {given}"
    key, _, value = old.partition("=")
    content = yaml.safe_load(value)
    for part in reversed(key.split(".")):
        content = {part: content}
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({"base": name, "description": "of an earlier version", **content}))
    result = fsiqa("configs", own)
    assert result.code == 2
    assert result.error == f"fsiqa: {own}: {in_file or given}\n"


def test_an_old_key_of_a_task_is_answered_with_the_new_one(fsiqa):
    result = fsiqa("metatrain", "--set", "task.episodes.count=3")
    assert result.code == 2
    assert "episodes.count is now called" in result.error
    assert "episodes.tasks_per_step" in result.error
