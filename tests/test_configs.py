"""Configurations of methods: bases, candidates, numbers of steps, and keys that do not go together."""

import re

import pytest

from fewshot_iqa.config import load_config, load_task
from fewshot_iqa.errors import InputError


def test_candidates_change_only_the_keys_that_they_name(small):
    change = ["adapt.choose=[{regularizer: {scope: global}}, {regularizer: null}]"]
    spec = load_config("grmp", [*small, *change]).adapt
    one, two = spec.candidates()
    assert (one.regularizer.scope, one.regularizer.strength) == ("global", spec.regularizer.strength)
    assert two.regularizer is None
    with pytest.raises(InputError, match="no branch is named 'scenes'"):
        load_config("grmp", [*small, "adapt.choose=[{regularizer: {branch: scenes}}]"])


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("ridge", "head.penalties=[0]", "head.penalties.0 = 0: expected above 0"),
        ("gp", "head.noise=[-5]", "head.noise.0 = -5: expected above 0"),
        ("gp", "head.linear=[2]", "head.linear.0 = 2: expected at most 1"),
        ("gp", "head.penalties=[1]", "unknown key head.penalties"),
        ("gp", "head.kind=svr", "head.kind = 'svr': expected one of antonym, linear, ridge, gp, fusion"),
        ("linear", "adapt=null", "head.kind linear: is learned by gradients: add the section adapt"),
        ("linear", "loss=[{kind: mse, branch: quality}]", "loss.0.branch: no branch is named 'quality'"),
        ("coop", "loss=[{kind: soft_cross_entropy}]", "loss: soft_cross_entropy needs a branch"),
        ("grmp_gp", "model.quality=none", "model.quality: no branch with phrases is named 'none'"),
        ("grmp_gp", "loss=[{kind: mse}]", "loss: before the head gp is fitted, a term needs a branch"),
        ("grmp_gp", "head.prompt_mean_weight=2", "head.prompt_mean_weight.0 = 2: expected at most 1"),
    ],
)
def test_keys_that_do_not_fit_a_method(name, wrong, message):
    with pytest.raises(InputError, match=re.escape(message)):
        load_config(name, [wrong])


@pytest.mark.parametrize(
    ("method", "override"),
    [
        ("q" * 5000, "seed=1"),
        ("q" * 5000 + ".yaml", "seed=1"),
        ("grmp", "q" * 5000),
        ("grmp", "q" * 5000 + "=1"),
        ("grmp", f"adapt.{'q' * 5000}=1"),
        ("grmp", f"adapt.lr={'q' * 5000}"),
        ("grmp", f"loss.{'q' * 5000}=1"),
        ("grmp", f"model.quality={'q ' * 5000}"),
    ],
)
def test_what_is_quoted_is_cut(method, override):
    with pytest.raises(InputError, match=r"qqq\.\.\.|q q\.\.\.") as refused:
        load_config(method, [override])
    assert len(str(refused.value)) <= 2000


def test_a_pattern_that_is_none_is_said_briefly():
    with pytest.raises(InputError, match=r"group = '\(q+\.\.\.: not a pattern \(missing \), unterminated") as refused:
        load_task("csv", [f"group='({'q' * 5000}'"])
    assert len(str(refused.value)) < 400


def test_a_configuration_builds_on_another(tmp_path):
    (tmp_path / "below.yaml").write_text("base: grmp\ndescription: below\nadapt: {lr: 3e-5}\n")
    (tmp_path / "top.yaml").write_text("base: below.yaml\ndescription: top\nadapt: {steps: 7, regularizer: null}\n")
    top, grmp = load_config(str(tmp_path / "top.yaml")), load_config("grmp")
    assert (top.adapt.lr, top.adapt.steps, top.adapt.regularizer) == (3e-5, 7, None)
    assert top.adapt.trainable == grmp.adapt.trainable
    assert top.model == grmp.model
    (tmp_path / "below.yaml").write_text("base: top.yaml\ndescription: below\n")
    with pytest.raises(InputError, match="is based on this file"):
        load_config(str(tmp_path / "top.yaml"))


def test_epochs_are_passes_over_the_shots():
    adapt = load_config("grmp", ["adapt.steps=null", "adapt.epochs=3"]).adapt
    assert [adapt.steps_for(shots) for shots in (2, 5, 20, 200)] == [3, 3, 4, 38]
    adapt = load_config("grmp", ["adapt.steps=20", "adapt.epochs=3"]).adapt
    assert [adapt.steps_for(shots) for shots in (2, 5, 20, 200)] == [3, 3, 4, 20]
    assert load_config("grmp", ["adapt.steps=20", "adapt.epochs=null"]).adapt.steps_for(2) == 20
    with pytest.raises(InputError, match="give steps, epochs, or both"):
        load_config("grmp", ["adapt.steps=null", "adapt.epochs=null"])
