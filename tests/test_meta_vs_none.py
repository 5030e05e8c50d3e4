"""The experiment that compares starts of prompts, in miniature; and what a step of meta-training costs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fewshot_iqa.config import (
    MetaVsNoneSpec,
    dump,
    kadid_mos_table,
    load_config,
    load_experiment,
    load_task,
    with_overrides,
)
from fewshot_iqa.data.loading import FeatureLoader
from fewshot_iqa.data.synthetic import KADID_SCALE
from fewshot_iqa.pretraining.captions import is_held_out
from fewshot_iqa.studies import meta_vs_none
from fewshot_iqa.studies.meta_vs_none_data import draw_split, held_types
from fewshot_iqa.types import Features
from tests.conftest import photograph, sets

ARMS = "arms={random: null, joint: {algorithm: joint}, maml: {algorithm: maml}}"


def test_held_out_types_are_disjoint():
    spec = load_experiment("experiments/meta_vs_none", ["choices=5"], kind=MetaVsNoneSpec)
    chosen = [set(held_types(spec, choice)) for choice in range(5)]
    assert all(len(types) == 5 for types in chosen)
    assert set.union(*chosen) == set(kadid_mos_table())
    assert held_types(spec, 5) != held_types(spec, 0)


@pytest.fixture(params=["grmp", "coop"])
def command(request, small, photographs, tmp_path):
    """The experiment in miniature, with visual prompts and without."""
    method = tmp_path / "method.yaml"
    prompts = [text for text in small if request.param == "grmp" or text.split(".")[0] not in ("model", "meta")]
    method.write_text(dump(load_config(request.param, prompts)))
    plan = ["meta.trainable=[text.quality.*]", "meta.validate_every=1"] if request.param == "coop" else []
    plan += [f"config={method}", "choices=1", "seeds=2", "shots=[2, 4]", "test=9", ARMS]
    plan += ["meta.steps=1", "steps=[1, 2]", "episodes={tasks_per_step: 1, support: 2, query: 2}"]
    return ["experiment", "meta-vs-none", "--images", photographs, "--out", tmp_path / "cells", *sets(plan)]


def test_the_experiment_goes_on_where_it_stopped(fsiqa, command, tmp_path):
    report, figure = tmp_path / "result.json", tmp_path / "figure.png"
    assert fsiqa(*command).code == 0
    files = [tmp_path / "cells" / f"choice0-seed{seed}.json" for seed in (0, 1)]
    before, since = [json.loads(file.read_text()) for file in files], files[0].stat().st_mtime_ns
    assert [list(run) for run in before] == [["random", "joint", "maml"]] * 2
    files[1].write_text(json.dumps({"random": before[1]["random"]}))  # as if it had been stopped there
    result = fsiqa(*command, "--json", report, "--figure", figure)
    assert result.code == 0, result.error
    after = [json.loads(file.read_text()) for file in files]
    assert files[0].stat().st_mtime_ns == since
    assert after == before
    assert figure.stat().st_size > 5000
    found = json.loads(report.read_text())
    table = found["table"]
    read_once = (tmp_path / "cells" / meta_vs_none.FEATURES).exists()
    assert ("linear" in found) == ("ridge regression" in result.output) == read_once
    assert list(table) == ["random", "joint", "maml"]
    assert list(table["maml"]) == ["1", "2"]
    assert list(table["maml"]["2"]) == ["0", "2", "4"]
    values = {arm: np.array([run[arm]["2"]["4"] for run in after]) for arm in table}
    assert table["maml"]["2"]["4"]["median"] == pytest.approx(np.median(values["maml"]), abs=1e-4)
    difference = np.median(values["maml"] - values["random"])
    assert table["maml"]["2"]["4"]["over_random"] == pytest.approx(difference, abs=1e-4)
    assert "another test" in fsiqa(*command, "--set", "test=8").error
    assert "another 'maml'" in fsiqa(*command, "--set", "arms.maml.inner_lr=1e-2").error


def test_ridge_regression_on_embeddings(photographs):
    """It predicts quality where the features hold it, and the pictures that it learns from show where."""
    spec = load_experiment("experiments/meta_vs_none", ["held_photographs=0.7"], kind=MetaVsNoneSpec)
    source = with_overrides(load_task("synthetic"), root=photographs, hold_out=[])
    pictures = draw_split(spec, source, 0, 0, pretrained=False)
    noise = torch.Generator().manual_seed(0)
    found = {}
    for column, part in enumerate((pictures.training, pictures.pool + pictures.test)):
        for record in part:
            embedding = torch.randn(1, 1, 24, generator=noise)
            embedding[..., column] = 9 * (record.rating - 3)  # quality, of training pictures in another column
            found[record.pixels] = Features(24, {"": embedding})
    features = FeatureLoader(load_config("coop").views, KADID_SCALE, found)
    assert meta_vs_none.ridge_srcc(features, pictures.pool, pictures.test) > 0.9
    assert abs(meta_vs_none.ridge_srcc(features, pictures.training, pictures.test)) < 0.5


def test_training_shots_and_test_share_no_photograph_and_no_distortion(photographs):
    spec = load_experiment("experiments/meta_vs_none", ["held_photographs=0.7"], kind=MetaVsNoneSpec)
    source = with_overrides(load_task("synthetic"), root=photographs, hold_out=[])
    drawn = [draw_split(spec, source, 1, seed, pretrained=False) for seed in range(4)]
    for pictures in drawn:
        training, pool, test = (
            {record.path for record in part} for part in (pictures.training, pictures.pool, pictures.test)
        )
        assert (len(training), len(pool), len(test)) == (2, 2, 2)
        assert len(training | pool | test) == 6
        target = {record.distortion for record in pictures.pool + pictures.test}
        assert target == set(held_types(spec, 1))
        assert not target & {record.distortion for record in pictures.training}
    assert len({tuple(sorted({r.path for r in pictures.training})) for pictures in drawn}) > 1


def test_the_embedded_clip_is_tested_on_what_it_never_saw(tmp_path):
    names = [Path(f"{i}.png") for i in range(999)]
    for name in [n for n in names if is_held_out(n)][:4] + [n for n in names if not is_held_out(n)][:16]:
        photograph(int(name.stem)).save(tmp_path / name)
    spec = load_experiment("experiments/meta_vs_none", kind=MetaVsNoneSpec)
    source = with_overrides(load_task("synthetic"), root=tmp_path, hold_out=[])
    pictures = draw_split(spec, source, 0, 0, pretrained=True)
    target = {record.path for record in pictures.pool + pictures.test}
    assert target == {path for path in tmp_path.iterdir() if is_held_out(path)}
    assert len({record.path for record in pictures.training}) == 20 - round(20 * spec.held_photographs)


def test_a_mistake_claims_no_folder(fsiqa, command, tmp_path):
    for wrong in ("meta.stpes=3", "shots=[900]", "shots=[1]"):
        assert fsiqa(*command, "--set", wrong).code == 2
        assert not (tmp_path / "cells").exists()
    (tmp_path / "file").touch()
    assert "cannot be written" in fsiqa(*command, "--out", tmp_path / "file").error


@pytest.mark.slow
def test_the_memory_of_second_order(fsiqa, small, tmp_path):
    """With `recompute` it does not grow with the inner steps."""
    report = tmp_path / "cost.json"
    result = fsiqa("bench", "meta", "--inner-steps", "1,4", "--json", report)
    assert result.code == 0, result.error
    memory = {(row["algorithm"], row["inner_steps"]): row["gigabytes"] for row in json.loads(report.read_text())}
    assert memory["maml", 4] > 2 * memory["maml", 1]
    assert memory["maml, recompute", 4] < 1.3 * memory["maml, recompute", 1]


@pytest.mark.slow
def test_runs_in_processes(fsiqa, command, tmp_path):
    for workers in (1, 2):
        result = fsiqa(*command, "--workers", workers, "--out", tmp_path / f"by{workers}")
        assert result.code == 0, result.error
    for file in (tmp_path / "by1").iterdir():
        assert file.read_text() == (tmp_path / "by2" / file.name).read_text()
