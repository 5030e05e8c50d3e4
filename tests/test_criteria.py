"""Tasks by criterion."""

import json

import numpy as np
import pytest

from fewshot_iqa.config import MetaVsNoneSpec, dump, load_config, load_experiment, load_task, with_overrides
from fewshot_iqa.data.criteria import CLEAN, Criterion, draw_criterion
from fewshot_iqa.data.episodes import meta_tasks
from fewshot_iqa.data.synthetic import KADID_SCALE, kadid_mos, synthetic_records
from fewshot_iqa.distortions import DISTORTIONS, FAMILIES, family
from fewshot_iqa.studies.meta_vs_none_data import draw_split
from tests.conftest import sets


def test_families_are_those_of_kadid():
    of = {name: [row.id for row in DISTORTIONS if family(row.name) == name] for name in FAMILIES}
    assert of["blur"] == [1, 2, 3]
    assert of["noise"] == [11, 12, 13, 14, 15]
    assert of["sharpness"] == [24, 25]
    assert sum(map(len, of.values())) == 25


def test_a_rating_by_a_criterion(photographs):
    source = with_overrides(load_task("synthetic"), root=photographs, distortions=["jpeg", "white_noise"])
    weights = dict.fromkeys(FAMILIES, 0.0) | {"noise": 0.5}
    records = synthetic_records(source)
    rated = [Criterion(weights, (0.0, 0.1), 0.0, 1.0, False).rate(record, 1) for record in records]
    for before, after in zip(records, rated, strict=True):
        lost = 0.5 * (CLEAN - kadid_mos("white_noise", before.level, normalize=True))
        lost = lost if before.distortion == "white_noise" else 0.0
        assert KADID_SCALE.quality(after.rating) == pytest.approx(min(CLEAN - lost + 0.1, 1))
        assert after.pixels == before.pixels
    graded = [Criterion(weights, (0.0,), -0.5, 1.5, True).rate(record, 0).rating for record in records]
    assert set(graded) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    assert len(set(graded)) > 1


def test_criteria_differ_as_raters_do():
    drawn = [draw_criterion(number, 4, seed=0) for number in range(200)]
    assert drawn[7] == draw_criterion(7, 4, seed=0)
    assert drawn[7] != draw_criterion(7, 4, seed=1)
    weights = np.array([list(each.weights.values()) for each in drawn])
    assert (weights > 0).any(axis=1).all()
    assert 0.3 < (weights == 0).mean() < 0.4
    assert abs(np.corrcoef(weights.T)[np.triu_indices(7, 1)]).max() < 0.25
    assert np.std([each.likings for each in drawn]) == pytest.approx(0.15, abs=0.02)


def test_tasks_by_criterion_hold_all_distortions(photographs):
    source = with_overrides(load_task("synthetic"), root=photographs, criteria=3, contents=2)
    records = synthetic_records(source)
    tasks = meta_tasks(records, source, seed=0)
    assert [task.name for task in tasks] == ["criterion 1", "criterion 2", "criterion 3"]
    for task in tasks:
        assert len(task.photographs) == 6
        assert [r.pixels for photograph in task.photographs for r in photograph] == [r.pixels for r in records]
    ratings = [[r.rating for photograph in task.photographs for r in photograph] for task in tasks]
    assert np.corrcoef(ratings)[np.triu_indices(3, 1)].max() < 0.95


def test_the_experiment_tests_on_a_criterion_that_is_held_out(fsiqa, small, photographs, tmp_path):
    source = with_overrides(load_task("synthetic"), root=photographs)
    overrides = ["criteria=2", "contents=2", "photographs=null", "choices=2", "seeds=1", "shots=[4]", "test=30"]
    spec = load_experiment("experiments/criteria", overrides, kind=MetaVsNoneSpec)
    one, other = (draw_split(spec, source, choice, 0, pretrained=False) for choice in (0, 1))
    assert {record.path for record in one.training}.isdisjoint(record.path for record in one.test)
    assert len({record.distortion for record in one.training}) == len({r.distortion for r in one.pool}) == 25
    assert [r.pixels for r in one.test] == [r.pixels for r in other.test]
    assert [r.rating for r in one.test] != [r.rating for r in other.test]

    method = tmp_path / "method.yaml"
    prompts = [text for text in small if text.split(".")[0] not in ("model", "meta")]
    method.write_text(dump(load_config("coop", prompts)))
    plan = [*overrides, f"config={method}", "steps=[1]", "meta={trainable: [text.quality.*], steps: 1}"]
    plan += ["episodes={tasks_per_step: 1, support: 2, query: 2}"]
    plan += ["arms={random: null, joint: {algorithm: joint}}"]
    task = ("experiment", "meta-vs-none", "--config", "experiments/criteria", "--images", photographs)
    result = fsiqa(*task, "--out", tmp_path / "cells", "--json", tmp_path / "found.json", *sets(plan))
    assert result.code == 0, result.error
    assert "held-out criteria" in result.output
    assert json.loads((tmp_path / "found.json").read_text())["runs"] == 2
