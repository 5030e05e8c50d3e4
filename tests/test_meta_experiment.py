"""The experiment that compares starts of prompts, in miniature; and what a step of meta-training costs."""

import json

import numpy as np
import pytest

from fewshot_iqa.config import dump, human_means, load_config, load_experiment
from fewshot_iqa.recipes import meta_bench, meta_experiment
from tests.conftest import sets

ARMS = "arms={random: null, joint: {algorithm: joint}, maml: {algorithm: maml}}"


def test_held_out_types_are_disjoint():
    spec = load_experiment("experiments/meta_vs_none", ["choices=5"])
    chosen = [set(meta_experiment.held_types(spec, choice)) for choice in range(5)]
    assert all(len(types) == 5 for types in chosen)
    assert set.union(*chosen) == set(human_means())
    assert meta_experiment.held_types(spec, 5) != meta_experiment.held_types(spec, 0)


@pytest.fixture
def command(small, photographs, tmp_path):
    method = tmp_path / "method.yaml"
    method.write_text(dump(load_config("grmp", small)))
    plan = [f"config={method}", "choices=1", "seeds=2", "shots=[2, 4]", "test=9", ARMS]
    plan += ["meta.steps=1", "adapt.steps=1", "episodes={count: 1, support: 2, query: 2}"]
    return ["experiment", "meta-vs-none", "--images", photographs, "--out", tmp_path / "cells", *sets(plan)]


def test_the_experiment_goes_on_where_it_stopped(fsiqa, command, tmp_path, monkeypatch):
    report, figure = tmp_path / "result.json", tmp_path / "figure.png"
    cells, real = iter(range(4)), meta_experiment._cell

    def dying(*arguments):
        if next(cells, None) is None:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(meta_experiment, "_cell", dying)
        assert fsiqa(*command).code != 0
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").glob("choice*.json")}
    assert len(files) == 4
    result = fsiqa(*command, "--json", report, "--figure", figure)
    assert result.code == 0, result.error
    assert all(path.stat().st_mtime_ns == time for path, time in files.items())
    assert figure.stat().st_size > 5000
    table = json.loads(report.read_text())["table"]
    assert list(table) == ["random", "joint", "maml"]
    assert list(table["maml"]) == ["0", "2", "4"]
    found = {
        arm: [json.loads((tmp_path / "cells" / f"choice0-seed{s}-{arm}.json").read_text())["srcc"]["4"] for s in (0, 1)]
        for arm in table
    }
    assert table["maml"]["4"]["median"] == pytest.approx(np.median(found["maml"]), abs=1e-4)
    difference = np.median(np.subtract(found["maml"], found["random"]))
    assert table["maml"]["4"]["over_random"] == pytest.approx(difference, abs=1e-4)
    assert "another experiment" in fsiqa(*command, "--set", "test=8").error


def test_the_cost_of_one_task(small):
    settings = load_config("grmp", small)
    seconds, memory = meta_bench._cost(settings, None, support=2, query=2, repeats=1, device="cpu")
    assert seconds > 0
    assert memory >= 0


@pytest.mark.slow
def test_bench_meta(fsiqa, small, tmp_path):
    method, report = tmp_path / "method.yaml", tmp_path / "cost.json"
    method.write_text(dump(load_config("grmp", small)))
    result = fsiqa("bench", "meta", "--config", method, "--inner-steps", "1", "--support", 2, "--json", report)
    assert result.code == 0, result.error
    rows = json.loads(report.read_text())
    assert [row["algorithm"] for row in rows] == ["bilevel", "fomaml", "maml", "maml, recompute"]
    assert all(row["seconds"] > 0 and row["gigabytes"] >= 0 for row in rows)
