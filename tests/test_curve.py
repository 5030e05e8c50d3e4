"""Learning curves on a miniature CLIP: cells, resuming, overrides, and the table and figure that come of them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr

import fewshot_iqa
from fewshot_iqa.recipes.draws import Draw
from fewshot_iqa.recipes.trial import subset_mean_trial
from fewshot_iqa.types import Record, Scale
from tests.conftest import sets

METRICS = ("srcc", "plcc", "plcc_logistic", "krcc", "rmse")


@pytest.fixture
def curve(fsiqa, eight, quick, tmp_path):
    """Run the command on half of eight pictures as test; later options win."""

    def run(*more):
        task = ("curve", "--task", "csv", "--labels", eight, "--test", "0.5", "--out", tmp_path / "curve")
        return fsiqa(*task, "--json", tmp_path / "curve.json", *quick, *more)

    return run


def assert_same(one, two):
    """Features differ in the last bits by the pictures beside them, and two shots enlarge that."""
    for name in METRICS:
        assert one[name] == (None if two[name] is None else pytest.approx(two[name], rel=1e-3))


@pytest.fixture
def coop(tmp_path):
    """A quick method that learns by gradients."""
    method = tmp_path / "coop.yaml"
    method.write_text("description: quick\nbase: coop\nadapt: {steps: 2, batch: 4}\n")
    return method


def test_the_table_and_the_figure_hold_medians_over_the_trials(curve, coop, tmp_path):
    result = curve(
        "--methods", f"ridge,{coop},clip_iqa", "--shots", "2,100%", "--seeds", 2,
        "--csv", tmp_path / "curve.csv", "--figure", tmp_path / "curve.png",
    )  # fmt: skip
    assert result.code == 0, result.error
    assert (tmp_path / "curve.png").stat().st_size > 5000
    table = pd.read_csv(tmp_path / "curve.csv")
    methods = ("ridge", "coop", "clip_iqa", "subset mean")
    assert list(zip(table["method"], table["shots"], table["trials"], strict=True)) == [
        (method, count, 2) for method in methods for count in (2, 4)
    ]
    found = json.loads((tmp_path / "curve.json").read_text())["curve"]
    both = [f"{table['srcc'][i]:.3f} ({table['srcc_iqr'][i]:.3f})" for i in (0, 1)]
    assert "method 2 4 " in result.output
    assert f"ridge {' '.join(both)} coop" in result.output
    assert "coverage" not in result.output
    for i, count in enumerate(("2", "100%")):
        cell = found["ridge"][count]
        values = [trial["srcc"] or 0.0 for trial in cell["trials"]]  # a constant agrees with nothing
        assert table["srcc"][i] == pytest.approx(np.median(values), abs=1e-4)
        low, high = np.quantile(values, (0.25, 0.75))
        assert table["srcc_iqr"][i] == pytest.approx(high - low, abs=1e-4)
        within = cell["median"]["within"]["a"]["rmse"]
        assert within == pytest.approx(np.median([trial["within"]["a"]["rmse"] for trial in cell["trials"]]))
    last = found["ridge"]["100%"]["median"]["within"]["a"]["srcc"]
    assert table["srcc_a"][1] == pytest.approx(last, abs=1e-4)


@pytest.mark.filterwarnings("ignore::fewshot_iqa.InputWarning")
def test_from_python_a_curve_has_a_table_and_a_figure(eight, quick, tmp_path):
    found = fewshot_iqa.curve(
        ["ridge", "clip_iqa"], labels=eight, test=0.5, shots=[2, 4], seeds=2, out=tmp_path / "curve",
        overrides=quick[1::2],
    )  # fmt: skip
    assert list(found.table["shots"]) == [2, 4, 2, 4, 2, 4]
    figure = found.plot(tmp_path / "curve.svg")
    assert (tmp_path / "curve.svg").is_file()
    (axes,) = figure.axes
    for line, (method, rows) in zip(axes.lines, found.table.groupby("method", sort=False), strict=True):
        assert line.get_label() == method
        np.testing.assert_allclose(line.get_xdata(), rows["shots"])
        np.testing.assert_allclose(line.get_ydata(), rows["srcc"])


def test_methods_are_compared_on_the_draws_that_both_have(curve, coop, monkeypatch, tmp_path):
    monkeypatch.setattr("fewshot_iqa.recipes.curve.SEEDS", 5)
    monkeypatch.setattr("fewshot_iqa.recipes.curve.SEEDS_OF_GRADIENTS", 3)
    result = curve("--methods", f"clip_iqa,ridge,{coop}", "--shots", 3, "--reference", "ridge")
    assert result.code == 0, result.error
    assert "mean SRCC of ridge, and how others differ from it on the same draws" in result.output
    found = {name: cells["3"] for name, cells in json.loads((tmp_path / "curve.json").read_text())["curve"].items()}
    assert [len(found[name]["trials"]) for name in ("clip_iqa", "ridge", "coop", "subset mean")] == [5, 5, 3, 5]
    assert "over_reference" not in found["ridge"]
    ahead = [
        (one["srcc"] or 0) - (two["srcc"] or 0)
        for one, two in zip(found["coop"]["trials"], found["ridge"]["trials"], strict=False)
    ]
    over = found["coop"]["over_reference"]
    assert over["difference"] == pytest.approx(np.mean(ahead))
    assert (over["draws"], over["wins"]) == (3, sum(value > 0 for value in ahead))
    assert f"{over['wins']} of 3" in result.output
    assert f"{over['difference']:+.3f}" in result.output
    assert min(ahead) <= over["interval"][0] <= np.mean(ahead) <= over["interval"][1] <= max(ahead)
    assert "none of clip_iqa, ridge" in curve("--methods", "clip_iqa,ridge", "--reference", "rigde").error


def test_the_subset_mean_is_that_of_the_shots():
    def record(subset, rating):
        return Record(Path(f"{subset}{rating}.png"), rating, group=f"{subset}{rating}", subset=subset)

    shots = [record("a", 1), record("a", 3), record("b", 5)]
    test = [record("a", 2), record("b", 4), record("c", 5)]  # of c there is no shot: the mean of all, 3
    entry = subset_mean_trial(Draw(0, shots, test, Scale(1, 5), pool=3))
    assert entry["rmse"] == pytest.approx(np.sqrt(np.mean([0, 0.25**2, 0.5**2])))
    assert entry["srcc"] == pytest.approx(spearmanr([2, 5, 3], [2, 4, 5]).statistic)
    assert set(entry["within"]) == {"a", "b", "c"}


def test_a_trial_is_the_one_of_adapt(curve, fsiqa, eight, quick, tmp_path):
    assert curve("--methods", "ridge", "--shots", 2, "--seeds", 2).code == 0
    beside = json.loads((tmp_path / "curve.json").read_text())["curve"]["ridge"]["2"]["trials"][1]
    result = fsiqa(
        "adapt", "--labels", eight, "--test", "0.5", "--config", "ridge", "--shots", 2, "--seed", 1,
        "--out", tmp_path / "out", "--json", tmp_path / "out.json", *quick,
    )  # fmt: skip
    assert result.code == 0, result.error
    (alone,) = json.loads((tmp_path / "out.json").read_text())["trials"]
    assert_same(alone, beside)


def test_a_curve_goes_on_where_it_stopped(curve, coop, tmp_path):
    plan = ("--methods", f"ridge,{coop}", "--shots", "2,100%", "--seeds", 2)
    assert curve(*plan).code == 0
    lost, kept = (tmp_path / "curve" / f"coop-2-seed{seed}.json" for seed in (1, 0))
    before, since = lost.read_text(), kept.stat().st_mtime_ns
    lost.unlink()
    again = curve(*plan, "--workers", 2)
    assert again.code == 0, again.error
    assert kept.stat().st_mtime_ns == since
    one, two = (json.loads(text)["trials"][0] for text in (before, lost.read_text()))
    assert_same(one, two)
    assert "another source" in curve(*plan, "--lower-is-better").error


def test_coverage_is_shown_of_methods_that_predict_a_deviation(curve, tmp_path):
    result = curve("--methods", "ridge,gp", "--shots", "2,4", "--seeds", 2)
    assert "mean coverage of 90 % intervals" in result.output
    cells = json.loads((tmp_path / "curve.json").read_text())["curve"]["gp"]
    shown = [f"{sum(trial['coverage'] for trial in cell['trials']) / 2:.3f}" for cell in cells.values()]
    rows = [line.split() for line in result.stdout.splitlines() if line.split()[:1] == ["gp"]]
    assert [row[6] for row in rows[:2]] == shown


def test_a_curve_never_mixes_results(curve, eight, quick, tmp_path):
    """Of other ratings, other weights, another folder's."""

    def ridge(*more):
        return curve("--methods", " ridge", "--shots", "2, 3", "--seeds", 1, *more)

    assert ridge().code == 0
    text = eight.read_text()
    eight.write_text(text.replace(",70,", ",71,"))
    assert "another ratings" in ridge().error
    eight.write_text(text)
    architecture, _, weights = quick[1].removeprefix("clip=").rpartition(":")
    other = {name: 1.1 * value for name, value in load_file(weights).items()}
    save_file(other, tmp_path / "other.safetensors")
    assert ridge("--shots", "2, 50%").code == 0  # the same number twice
    assert "another 'ridge'" in ridge("--clip", f"{architecture}:{tmp_path / 'other.safetensors'}").error
    (tmp_path / "curve" / "study.json").write_text("")
    assert "not readable" in ridge().error
    (tmp_path / "curve" / "study.json").unlink()
    assert "holds something else" in ridge().error


def test_a_method_that_fails_does_not_stop_the_others(fsiqa, eight, quick, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("base: coop\ndescription: bad\nadapt: {optimizer: sgd, lr: 1e38, steps: 3}\n")
    task = ("curve", "--task", "csv", "--labels", eight, "--folds", 2, "--shots", 2, "--out", tmp_path / "curve")
    failed = fsiqa(*task, *quick, "--methods", f"ridge,{bad},clip_iqa", "--seeds", 2, "--workers", 2)
    assert failed.code == 2
    assert "bad-2-seed" in failed.error
    assert "lower adapt.lr" in failed.error
    assert "2 trials failed" in failed.error
    report = tmp_path / "curve.json"
    done = fsiqa(*task, *quick, "--methods", "ridge,clip_iqa", "--seeds", 2, "--json", report)
    assert done.code == 0, done.error
    found = json.loads(report.read_text())
    trials = found["curve"]["ridge"]["2"]["trials"]
    assert [(trial["seed"], trial["fold"]) for trial in trials] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert set(found["methods"]) == {"ridge", "clip_iqa"}


def test_overrides_are_for_the_methods_that_have_them(curve, tmp_path):
    plan = ("--methods", "ridge,coop", "--shots", 2, "--seed", 3, "--seeds", 1)
    result = curve(*plan, *sets(["adapt.steps=1", "head.penalties=[1]"]))
    assert result.code == 0, result.error
    assert {path.name for path in (tmp_path / "curve").glob("*seed*")} == {"ridge-2-seed3.json", "coop-2-seed3.json"}
    methods = json.loads((tmp_path / "curve.json").read_text())["methods"]
    assert methods["ridge"]["config"]["head"]["penalties"] == [1]
    assert methods["coop"]["config"]["adapt"]["steps"] == 1
    assert "none of these methods has meta" in curve(*plan, "--set", "meta.steps=1").error
    assert "begins from meta-trained" in curve(*plan, "--from", "shipped").error


def test_methods_side_by_side_find_what_each_finds_alone(curve, tmp_path):
    """Of one picture, features through other pixels are other features."""
    other = tmp_path / "other.yaml"
    other.write_text("base: ridge\ndescription: other pixels\nmodel: {normalize: none}\n")
    found = {}
    for name, methods in (("both", f"ridge,{other}"), ("alone", other)):
        report = tmp_path / f"{name}.json"
        files = ("--out", tmp_path / name, "--json", report, "--cache", tmp_path / "cache")
        plan = ("--shots", 3, "--seeds", 1, "--methods", methods, "--set", "head.penalties=[0.1]")
        result = curve(*plan, *files)
        assert result.code == 0, result.error
        found[name] = {label: cells["3"] for label, cells in json.loads(report.read_text())["curve"].items()}
    rmse = {name: {label: cell["median"]["rmse"] for label, cell in of.items()} for name, of in found.items()}
    assert rmse["both"]["other"] == pytest.approx(rmse["alone"]["other"], rel=1e-3)
    assert rmse["both"]["ridge"] != pytest.approx(rmse["alone"]["other"], rel=1e-3)


def test_many_subsets_are_in_the_csv_alone(curve, monkeypatch, tmp_path):
    plan = ("--methods", "ridge", "--shots", 3, "--seeds", 1)
    assert "SRCC within each subset" in curve(*plan).output
    monkeypatch.setattr("fewshot_iqa.cli.curves.SHOWN", 1)
    assert "SRCC within each subset" not in curve(*plan, "--csv", tmp_path / "curve.csv").output
    assert "srcc_a" in pd.read_csv(tmp_path / "curve.csv")
