"""The protocol of adaptation and learning curves, on a miniature CLIP."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from fewshot_iqa import metrics
from fewshot_iqa.config import TableTask, ViewSpec, load_config
from fewshot_iqa.data.readers import read_table
from fewshot_iqa.data.splits import folds_by_group
from fewshot_iqa.errors import InputError
from fewshot_iqa.evaluation import compare, over_trials
from fewshot_iqa.images import fixed_views, read_image
from fewshot_iqa.model import checkpoint
from fewshot_iqa.model.backbone import Backbone
from fewshot_iqa.model.quality import AT_ONCE
from fewshot_iqa.recipes import protocol
from fewshot_iqa.recipes.adaptation import start_of
from fewshot_iqa.resources import METATRAINED
from fewshot_iqa.score import Scorer
from fewshot_iqa.types import Prediction
from tests.conftest import photograph, sets

FIGURES = {"srcc", "plcc", "plcc_logistic", "krcc", "rmse"}


@pytest.fixture
def quick(miniature):
    """Overrides for every method."""
    return sets([f"clip={miniature}", "views={short_side: null, crop: 32, count: 1}"])


@pytest.fixture
def rows(table):
    """Eight pictures in two subsets, two of which look like two others."""
    path = table([{"image": f"photo{i}.png", "score": 10 * i, "group": i, "subset": "ab"[i % 2]} for i in range(8)])
    for i in (6, 7):
        shutil.copy(path.with_name(f"photo{i - 6}.png"), path.with_name(f"photo{i}.png"))
    return path


def command(rows, out, *more):
    return ("--task", "csv", "--labels", rows, "--test", "0.5", "--out", out, *more)


def test_seeds_are_told_one_by_one_and_together(fsiqa, rows, quick, tmp_path):
    table = command(rows, tmp_path / "out", "--config", "ridge", "--shots", 3, "--json", tmp_path / "out.json")
    result = fsiqa("adapt", *table, "--seeds", 4, *quick)
    assert result.code == 0, result.error
    assert "median of 4 trials" in result.output
    assert "within a" in result.output
    facts = json.loads((tmp_path / "out.json").read_text())
    assert {"task", "method", "shots", "seeds", "median", "iqr", "config", "versions"} <= set(facts)
    assert (facts["method"], facts["shots"]) == ("ridge", "3")
    assert [trial["seed"] for trial in facts["trials"]] == [0, 1, 2, 3]
    for trial in facts["trials"]:
        assert FIGURES | {"zero_shot", "within", "seconds", "peak_mb"} < set(trial)
        assert set(trial["within"]["a"]) == FIGURES
    values = [trial["rmse"] for trial in facts["trials"]]
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    assert facts["median"]["rmse"] == pytest.approx(middle)
    assert facts["iqr"]["rmse"] == pytest.approx(high - low)
    assert checkpoint.provenance(tmp_path / "out")["rmse"] == values[0]
    alone = fsiqa("adapt", *table, "--seed", 2, *quick)
    assert alone.code == 0
    again = json.loads((tmp_path / "out.json").read_text())["trials"]
    assert [trial["rmse"] for trial in again] == [pytest.approx(values[2], abs=1e-6)]


def test_places_are_told_from_the_working_directory_on(fsiqa, rows, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for out in ("inside", tmp_path.parent / "outside"):
        result = fsiqa("adapt", *command(rows, out, "--config", "ridge", "--shots", 3), *quick)
        assert f"started from the CLIP alone; saved in {out}" in result.output


def test_each_picture_of_each_trial_can_be_looked_at(fsiqa, rows, quick, tmp_path):
    table, figures = tmp_path / "pictures.csv", tmp_path / "out.json"
    files = ("--csv", table, "--json", figures)
    result = fsiqa(
        "adapt", *command(rows, tmp_path / "out", "--config", "gp", "--shots", 3, *files), "--seeds", 2, *quick
    )
    assert result.code == 0, result.error
    told, trials = pd.read_csv(table), json.loads(figures.read_text())["trials"]
    assert len(told) == 2 * (3 + 4)
    for seed, trial in enumerate(trials):
        shots, test = (told[(told.seed == seed) & (told.part == part)] for part in ("shot", "test"))
        assert shots.predicted.isna().all()
        assert (shots.rated.min(), shots.rated.max()) == (0, 1)  # the scale is the shots'
        assert not set(zip(shots.image, shots.rating, strict=True)) & set(zip(test.image, test.rating, strict=True))
        assert metrics.report(test.predicted, test.rated)["srcc"] == pytest.approx(trial["srcc"])
        assert metrics.report(test.predicted, test.rated)["rmse"] == pytest.approx(trial["rmse"], abs=1e-4)
        assert (test.predicted_sd > 0).all()


def test_each_group_is_in_the_test_of_one_fold(fsiqa, rows, quick, tmp_path):
    table = ("--task", "csv", "--labels", rows, "--out", tmp_path / "out", "--config", "ridge", "--shots", 4)
    result = fsiqa("adapt", *table, "--folds", 4, "--json", tmp_path / "out.json", *quick)
    assert result.code == 0, result.error
    trials = json.loads((tmp_path / "out.json").read_text())["trials"]
    assert [(trial["seed"], trial["fold"], trial["test"]) for trial in trials] == [(0, fold, 2) for fold in range(4)]
    assert "give one of them" in fsiqa("adapt", *table, "--folds", 4, "--test", 0.5, *quick).error
    assert "8 groups only" in fsiqa("adapt", *table, "--folds", 9, *quick).error

    records = read_table(TableTask(kind="table", description="", labels=rows))
    splits = folds_by_group(records, 3, seed=5)
    tested = [record.group for _, test in splits for record in test]
    assert sorted(tested) == sorted(record.group for record in records)
    for pool, test in splits:
        assert not {record.group for record in pool} & {record.group for record in test}


def test_a_subset_is_a_column_or_a_part_of_the_name(table):
    labels = table([{"image": f"photo{i}.png", "score": i, "subset": "x" if i else ""} for i in range(3)])
    task = {"kind": "table", "description": "", "labels": labels}
    assert [r.subset for r in read_table(TableTask(**task))] == [None, "x", "x"]
    assert [r.subset for r in read_table(TableTask(**task, subset=r"o(\d)"))] == ["0", "x", "x"]


@pytest.mark.parametrize("pattern", ["ss", "(", "(a)(b)"])
def test_a_pattern_of_subsets_has_one_group(fsiqa, rows, pattern, tmp_path):
    result = fsiqa("adapt", *command(rows, tmp_path / "out"), "--set", f"task.subset='{pattern}'")
    assert result.code == 2
    assert "subset" in result.error


def test_agreement_within_a_subset():
    report = compare(Prediction(torch.tensor([1, 2, 3, 4, 1, 2])), [1, 2, 3, 4, 2, 1], [*"aaaa", None, None])
    assert report.within == {"a": metrics.report([1, 2, 3, 4], [1, 2, 3, 4])}
    median, iqr = over_trials(
        [{"x": 1.0, "in": {"y": None}}, {"x": 2.0, "in": {"y": 3.0}}, {"x": None, "in": {"y": None}}]
    )
    assert median == {"x": 1.5, "in": {"y": 3.0}}
    assert iqr == {"x": 0.5, "in": {"y": 0.0}}
    assert over_trials([{"x": None}]) == ({"x": None}, {"x": None})


def test_the_logistic_straightens_what_bends():
    x = np.random.default_rng(0).random(200)
    bent = 0.1 + 0.8 / (1 + np.exp(-(x - 0.6) / 0.05))
    assert metrics.plcc(x, bent) < 0.95
    assert metrics.plcc_logistic(x, bent) == pytest.approx(1, abs=1e-6)
    assert metrics.plcc_logistic(5 * x + 3, 100 * bent) == pytest.approx(1, abs=1e-6)
    assert np.isnan(metrics.plcc_logistic(np.ones(9), np.arange(9)))
    assert metrics.report([1, 2, 3], [1, 2, 3])["plcc_logistic"] is None


def assert_same(one, two):
    """Features differ in the last bits by the pictures beside them, and two shots enlarge that."""
    for name in FIGURES:
        assert one[name] == (None if two[name] is None else pytest.approx(two[name], rel=1e-3))


def curve(fsiqa, rows, quick, tmp_path, *more):
    folder = tmp_path / "curve"
    return fsiqa(
        "curve", "--task", "csv", "--labels", rows, "--test", "0.5", "--methods", "ridge,coop,clip_iqa",
        "--shots", "2,100%", "--seeds", 2, "--out", folder, "--csv", tmp_path / "curve.csv",
        "--figure", tmp_path / "curve.png", "--json", tmp_path / "curve.json", *quick, *more,
    )  # fmt: skip


def test_a_curve_goes_on_where_it_stopped(fsiqa, rows, quick, tmp_path):
    methods = tmp_path / "coop.yaml"
    methods.write_text("description: quick\nbase: coop\nadapt: {steps: 2, batch: 4}\n")
    result = curve(fsiqa, rows, quick, tmp_path, "--methods", f"ridge,{methods},clip_iqa")
    assert result.code == 0, result.error
    assert (tmp_path / "curve.png").stat().st_size > 5000
    found = pd.read_csv(tmp_path / "curve.csv")
    assert list(zip(found["method"], found["shots"], found["trials"], strict=True)) == [
        (method, count, 2) for method in ("ridge", "coop", "clip_iqa") for count in (2, 4)
    ]
    told = json.loads((tmp_path / "curve.json").read_text())["curve"]
    both = [f"{found['srcc'][i]:.3f} ({found['srcc_iqr'][i]:.3f})" for i in (0, 1)]
    assert "method 2 4 " in result.output
    assert f"ridge {' '.join(both)} coop" in result.output
    values = [trial["srcc"] for trial in told["ridge"]["100%"]["trials"]]
    assert found["srcc"][1] == pytest.approx(np.median(values), abs=1e-4)
    assert found["srcc_a"][1] == pytest.approx(told["ridge"]["100%"]["median"]["within"]["a"]["srcc"], abs=1e-4)

    # the same trial as adapt's
    adapted = command(rows, tmp_path / "out", "--config", "ridge", "--shots", 2, "--seed", 1)
    assert fsiqa("adapt", *adapted, "--json", tmp_path / "out.json", *quick).code == 0
    (alone,) = json.loads((tmp_path / "out.json").read_text())["trials"]
    beside = told["ridge"]["2"]["trials"][1]
    assert_same(alone, beside)

    lost = tmp_path / "curve" / "coop-2-seed1.json"
    kept = tmp_path / "curve" / "coop-2-seed0.json"
    before, since = lost.read_text(), kept.stat().st_mtime_ns
    lost.unlink()
    again = curve(fsiqa, rows, quick, tmp_path, "--methods", f"ridge,{methods},clip_iqa", "--workers", 2)
    assert again.code == 0, again.error
    assert kept.stat().st_mtime_ns == since
    one, two = (json.loads(text)["trials"][0] for text in (before, lost.read_text()))
    assert_same(one, two)
    assert "another source" in curve(fsiqa, rows, quick, tmp_path, "--lower-is-better").error

    sure = curve(fsiqa, rows, quick, tmp_path, "--methods", "ridge,gp", "--out", tmp_path / "sure")
    assert "coverage of 90 % intervals" in sure.output
    assert "coverage" not in result.output


@pytest.mark.parametrize("method", ["ridge", "gp", "clip_iqa"])
@pytest.mark.parametrize("scores", [[10, 20, 30, 40, 50, 60], [1, 1, 1, 5, 5, 5], [5, 5, 5, 5, 5, 6]])
def test_two_shots_and_ties_are_enough(fsiqa, table, quick, method, scores, tmp_path):
    labels = table([{"image": f"photo{i}.png", "score": score} for i, score in enumerate(scores)])
    result = fsiqa(
        "adapt", "--task", "csv", "--labels", labels, "--config", method, "--shots", 2, "--seeds", 3,
        "--set", "task.range=[0, 100]", "--out", tmp_path / "out", "--json", tmp_path / "out.json", *quick,
    )  # fmt: skip
    assert result.code == 0, result.error
    facts = json.loads((tmp_path / "out.json").read_text())
    assert all(np.isfinite(trial["rmse"]) for trial in facts["trials"])
    assert (facts["median"].get("coverage") is None) == (method != "gp")
    assert fsiqa("score", tmp_path / "out", labels.parent).code == 0


def test_what_cannot_be_learned_from_is_told_before_anything_else(fsiqa, table, quick, tmp_path):
    rows = [{"image": f"photo{i}.png", "score": 7 if i else 8, "group": "one"} for i in range(6)]
    task = ("--task", "csv", "--labels", table(rows), "--config", "gp", "--out", tmp_path / "out", *quick)
    assert "all 6 pictures are of one group ('one')" in fsiqa("adapt", *task, "--shots", 2).error
    for i, row in enumerate(rows):
        row["group"] = str(i)
    table(rows)
    assert "the training pool holds only 5 pictures" in fsiqa("adapt", *task, "--shots", 6).error
    # one of the seeds draws equal ratings: nothing is computed for the others
    error = fsiqa("adapt", *task, "--shots", 2, "--seeds", 9).error
    assert "the ratings to learn from all equal 7" in error
    assert not (tmp_path / "out").exists()


def test_a_score_tells_how_sure_it_is(fsiqa, rated, quick, tmp_path):
    task = ("--task", "csv", "--labels", rated, "--config", "gp", "--shots", 3, "--out", tmp_path / "out", *quick)
    assert fsiqa("adapt", *task).code == 0
    result = fsiqa("score", tmp_path / "out", rated.parent, "--csv", tmp_path / "scores.csv")
    assert "±" in result.output
    scores = pd.read_csv(tmp_path / "scores.csv")
    low, high = checkpoint.provenance(tmp_path / "out")["scale"]
    assert (scores["quality_std"] > 0).all()
    np.testing.assert_allclose(scores["rating_std"], (high - low) * scores["quality_std"], atol=0.02)


def test_windows_cover_a_picture_from_edge_to_edge():
    image = torch.arange(3 * 50 * 70).view(3, 50, 70) % 251
    views = ViewSpec(crop=32, stride=16)
    windows = fixed_views(image.byte(), views)
    assert windows.shape == (3 * 4, 3, 32, 32)  # 18 and 38 pixels beyond the crop
    assert torch.equal(windows[0], image[:, :32, :32].byte())
    assert torch.equal(windows[-1], image[:, -32:, -32:].byte())
    assert fixed_views(image[:, :32, :33].byte(), views).shape[0] == 2
    assert fixed_views(image[:, :32, :32].byte(), views).shape[0] == 1


def test_many_windows_of_pictures_of_any_size(small, tmp_path):
    """Scored together, alone, and in pieces: the same."""
    model, paths = checkpoint.build(load_config("grmp", small)), []
    for i, size in enumerate([(200, 300), (40, 50), (33, 400)]):
        paths.append(tmp_path / f"large{i}.png")
        photograph(i, *size).save(paths[-1])
    views = ViewSpec(crop=32, stride=16)
    scorer = Scorer(model, views, None, "cpu")
    together = [score.quality for score in scorer.stream(paths)]
    assert fixed_views(read_image(paths[0]), views).shape[0] > 2 * AT_ONCE
    for path, quality in zip(paths[::-1], together[::-1], strict=True):
        assert scorer.score(path) == pytest.approx(quality, abs=1e-6)
        each = fixed_views(read_image(path), views)
        with torch.inference_mode():
            one_by_one = torch.stack([model(view[None] / 255).quality[0] for view in each]).mean()
        assert quality == pytest.approx(float(one_by_one), abs=1e-5)


def test_a_setting_is_chosen_inside_the_shots(fsiqa, rows, small, tmp_path, monkeypatch):
    honest, judged = protocol.evaluate_on, []

    def second_is_right(model, loader, records, device, title="validating", *further):
        """In each fold the second candidate predicts the ratings, the others their opposite."""
        report = honest(model, loader, records, device, title, *further)
        if title != "validating":
            return report
        judged.append({record.path.name for record in records})
        right = (len(judged) - 1) // 3 == 1
        return replace(report, predicted=[value if right else -value for value in report.rated])

    monkeypatch.setattr(protocol, "evaluate_on", second_is_right)
    task = (
        "--task",
        "csv",
        "--labels",
        rows,
        "--test",
        0.25,
        "--shots",
        6,
        "--from",
        "none",
        "--out",
        tmp_path / "out",
    )
    choose = sets([*small, "adapt.choose=[{lr: 1e-3}, {lr: 2e-3, steps: 1}, {lr: 3e-3}]", "views.count=1"])
    result = fsiqa("adapt", *task, *choose, "--json", tmp_path / "out.json")
    assert result.code == 0, result.error
    (trial,) = json.loads((tmp_path / "out.json").read_text())["trials"]
    assert trial["chosen"] == {"lr": 2e-3, "steps": 1}
    adapted = checkpoint.read_checkpoint_config(tmp_path / "out").adapt
    assert (adapted.lr, adapted.steps, adapted.choose) == (2e-3, 1, [])
    assert [len(set.union(*judged[i : i + 3])) for i in (0, 3, 6)] == [len(set.union(*judged))] * 3

    assert fsiqa("adapt", *task, *choose, "--shots", 2, "--json", tmp_path / "out.json").code == 0
    (trial,) = json.loads((tmp_path / "out.json").read_text())["trials"]
    assert trial["chosen"] == {"lr": 1e-3}
    assert "adapt.choose: rate" in fsiqa("adapt", *task, *sets([*small, "adapt.choose=[{rate: 1}]"])).error


def test_a_curve_never_mixes_results(fsiqa, rows, quick, tmp_path):
    """Of other ratings, other weights, another folder's."""

    def ridge(*more):
        return fsiqa(
            "curve", "--task", "csv", "--labels", rows, "--test", "0.5", "--methods", " ridge", "--shots", "2, 3",
            "--seeds", 1, "--out", tmp_path / "curve", *quick, *more,
        )  # fmt: skip

    assert ridge().code == 0
    text = rows.read_text()
    rows.write_text(text.replace(",70,", ",71,"))
    assert "another ratings" in ridge().error
    rows.write_text(text)
    architecture, _, weights = quick[1].removeprefix("clip=").rpartition(":")
    other = {name: 1.1 * value for name, value in load_file(weights).items()}
    save_file(other, tmp_path / "other.safetensors")
    assert ridge("--shots", "2, 50%").code == 0  # the same number, said twice
    assert "another 'ridge'" in ridge("--clip", f"{architecture}:{tmp_path / 'other.safetensors'}").error
    (tmp_path / "curve" / "study.json").write_text("")
    assert "not readable" in ridge().error
    (tmp_path / "curve" / "study.json").unlink()
    assert "holds something else" in ridge().error


def test_a_curve_goes_past_what_fails(fsiqa, rows, quick, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("base: coop\ndescription: bad\nadapt: {optimizer: sgd, lr: 1e38, steps: 3}\n")
    task = ("curve", "--task", "csv", "--labels", rows, "--folds", 2, "--shots", 2, "--out", tmp_path / "curve", *quick)
    failed = fsiqa(*task, "--methods", f"ridge,{bad},clip_iqa", "--seeds", 2, "--workers", 2)
    assert failed.code == 2
    assert "bad-2-seed" in failed.error
    assert "lower adapt.lr" in failed.error
    assert "2 trials failed" in failed.error
    done = fsiqa(*task, "--methods", "ridge,clip_iqa", "--seeds", 2, "--json", tmp_path / "curve.json")
    assert done.code == 0, done.error
    told = json.loads((tmp_path / "curve.json").read_text())
    trials = told["curve"]["ridge"]["2"]["trials"]
    assert [(trial["seed"], trial["fold"]) for trial in trials] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert set(told["methods"]) == {"ridge", "clip_iqa"}


def test_overrides_are_for_the_methods_that_have_them(fsiqa, rows, quick, tmp_path):
    task = (
        "curve",
        "--task",
        "csv",
        "--labels",
        rows,
        "--test",
        0.5,
        "--shots",
        2,
        "--out",
        tmp_path / "curve",
        *quick,
    )
    sections = sets(["adapt.steps=1", "ridge={penalties: [1]}"])
    result = fsiqa(*task, "--methods", "ridge,coop", "--seed", 3, "--seeds", 1, *sections)
    assert result.code == 0, result.error
    assert {path.name for path in (tmp_path / "curve").glob("*seed*")} == {"ridge-2-seed3.json", "coop-2-seed3.json"}
    assert "begins from meta-trained" in fsiqa(*task, "--methods", "ridge,coop", "--from", "shipped").error


def test_a_method_without_a_meta_stage_begins_from_fresh_prompts(small, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    model = checkpoint.build(load_config("grmp", small))
    checkpoint.save(tmp_path / "runs" / "metatrain", model, load_config("grmp", small), {})
    assert start_of(load_config("grmp", small), None) == METATRAINED
    without = load_config("grmp_no_meta", [text for text in small if not text.startswith("meta")])
    assert start_of(without, None) is None


def test_figures_that_some_trials_lack():
    assert over_trials([{"in": {"a": 1.0}}, {"in": {"a": 3.0, "b": 5.0}}])[0] == {"in": {"a": 2.0, "b": 5.0}}
    assert over_trials([{"srcc": None}, {"srcc": 0.8}, {"srcc": None}])[0] == {
        "srcc": 0.0
    }  # constants agree with nothing


def test_changes_to_choose_from_are_laid_over_what_is_there(small):
    change = ["adapt.choose=[{regularizer: {scope: global}}, {regularizer: null}]"]
    spec = load_config("grmp", [*small, *change]).adapt
    one, two = spec.candidates()
    assert (one.regularizer.scope, one.regularizer.strength) == ("global", spec.regularizer.strength)
    assert two.regularizer is None
    with pytest.raises(InputError, match="no branch is named 'scenes'"):
        load_config("grmp", [*small, "adapt.choose=[{regularizer: {branch: scenes}}]"])


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("ridge", "head.penalties=[0]"),
        ("gp", "head.noise=[-5]"),
        ("gp", "head.linear=[2]"),
        ("gp", "ridge={}"),
        ("linear", "loss=[{kind: mse, branch: quality}]"),
        ("coop", "loss=[{kind: soft_cross_entropy}]"),
    ],
)
def test_what_does_not_fit_a_method(name, wrong):
    with pytest.raises(InputError, match=r"ridge|gp|loss"):
        load_config(name, [wrong])


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


def test_closed_forms_share_only_what_is_the_same(fsiqa, rows, quick, tmp_path):
    """Two methods side by side find what each finds alone."""
    other = tmp_path / "other.yaml"
    other.write_text("base: ridge\ndescription: other pixels\nmodel: {normalize: none}\n")
    task = ("curve", "--task", "csv", "--labels", rows, "--test", "0.5", "--shots", 3, "--seeds", 1, *quick)
    task += ("--set", "head.penalties=[0.1]")
    for name, methods in (("both", f"ridge,{other}"), ("alone", other)):
        files = ("--out", tmp_path / name, "--json", tmp_path / f"{name}.json")
        result = fsiqa(*task, "--methods", methods, *files)
        assert result.code == 0, result.error
    both, alone = (json.loads((tmp_path / f"{name}.json").read_text())["curve"] for name in ("both", "alone"))
    assert both["other"]["3"]["median"]["rmse"] == pytest.approx(alone["other"]["3"]["median"]["rmse"], rel=1e-3)
    assert both["ridge"]["3"]["median"]["rmse"] != pytest.approx(alone["other"]["3"]["median"]["rmse"], rel=1e-3)


def test_methods_on_the_plain_tower_share_one_reading(fsiqa, rows, quick, tmp_path, monkeypatch):
    read, summarize = [], Backbone.summarize
    monkeypatch.setattr(Backbone, "summarize", lambda clip, x, *more: read.append(len(x)) or summarize(clip, x, *more))
    task = ("curve", "--task", "csv", "--labels", rows, "--test", "0.5", "--shots", 3, "--seeds", 1, *quick)

    def median(*methods):
        files = ("--out", tmp_path / "-".join(methods), "--json", tmp_path / "curve.json")
        assert fsiqa(*task, "--methods", ",".join(methods), *files).code == 0
        told = json.loads((tmp_path / "curve.json").read_text())["curve"]
        return {method: told[method]["3"]["median"]["rmse"] for method in methods}

    together = median("ridge", "linear", "coop", "clip_iqa")
    once = sum(read)
    assert 0 < once <= 3 + 4
    for method, found in together.items():
        assert median(method)[method] == pytest.approx(found, rel=1e-4)
    assert sum(read) == 5 * once


def test_a_process_begins_from_what_prompts_tell(fsiqa, rows, quick, tmp_path):
    """Before shots quality is what the phrases tell; then, as the tower sees by then, half of that and what a process
    on the prompted tower's features learned of the rest."""
    steps = sets(["adapt.trainable=[text.quality.*, clip.visual.ln_post.*]", "adapt.steps=3", "adapt.lr=1e-2"])
    files = ("--out", tmp_path / "out", "--json", tmp_path / "out.json", "--csv", tmp_path / "out.csv")
    task = ("--task", "csv", "--labels", rows, "--test", "0.25", "--shots", 5)
    result = fsiqa("adapt", *task, "--config", "grmp_gp", "--from", "none", *quick, *files, *steps)
    assert result.code == 0, result.error
    (trial,) = json.loads((tmp_path / "out.json").read_text())["trials"]
    assert -1 <= trial["cosine"] <= 1
    assert 0 <= trial["coverage"] <= 1
    assert "coverage" not in trial["zero_shot"]
    model = checkpoint.load(tmp_path / "out")[0]
    assert model.tuned == {"clip.visual.ln_post.weight", "clip.visual.ln_post.bias"}
    told = pd.read_csv(tmp_path / "out.csv")
    views = torch.stack([fixed_views(read_image(Path(image)), ViewSpec(crop=32, count=1)) for image in told.image])
    shots = torch.tensor((told.part == "shot").to_numpy())
    rated = torch.tensor(told.rated, dtype=torch.float32)
    with torch.inference_mode():
        state = model.encode_prompts()
        judged = model(views, state)
        torch.testing.assert_close(judged.mean[~shots], torch.tensor(told.predicted[~shots.numpy()].to_numpy()).float())
        assert judged.std.min() > 0
        torch.testing.assert_close(model(model.summary(views, state), state).quality, judged.mean)
        process = model.head(model.summary(views, state).mean(dim=1)).quality
        known, left = model.head.inputs, model.head.quality
        model.head.forget()
        phrases = model(views, state)
    assert phrases.std is None
    torch.testing.assert_close(judged.mean, 0.5 * phrases.mean + process)
    torch.testing.assert_close(left, rated[shots] - 0.5 * phrases.mean[shots])
    prompted = model.clip.encode_image(
        (views[:, 0] / 255 - model.mean) / model.std, state.visual["main"], model.visual["main"].end_norm
    )[0]
    width = model.clip.visual.output_dim
    torch.testing.assert_close(known[:, :width], torch.nn.functional.normalize(prompted, dim=-1)[shots])


def test_a_process_takes_over_the_prompts_of_grmp(fsiqa, rows, quick, tmp_path):
    """And tells what they tell before it has seen a shot."""
    task = ("--task", "csv", "--labels", rows, "--test", "0.25", "--shots", 3, *quick, "--set", "adapt.steps=1")
    told = {}
    fsiqa("adapt", *task, "--config", "grmp", "--from", "none", "--out", tmp_path / "start")
    for method in ("grmp", "grmp_gp"):
        files = ("--out", tmp_path / method, "--json", tmp_path / "out.json")
        result = fsiqa("adapt", *task, "--config", method, "--from", tmp_path / "start", *files)
        assert result.code == 0, result.error
        told[method] = json.loads((tmp_path / "out.json").read_text())["trials"][0]
    assert told["grmp"]["zero_shot"] == told["grmp_gp"]["zero_shot"]
    assert told["grmp"]["rmse"] != told["grmp_gp"]["rmse"]
    again = fsiqa("adapt", *task, "--from", tmp_path / "grmp_gp", "--out", tmp_path / "again", "--set", "adapt.lr=1e-3")
    assert again.code == 0, again.error  # from a process that knows other shots; these are forgotten
    assert len(checkpoint.load(tmp_path / "again")[0].head.quality) == 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["model.head=antonym", "gp=null"], "model.prior: is for the head gp, not for antonym"),
        (["model.quality=none"], "model.quality: no branch with phrases is named 'none'"),
        (
            ["model.branches.scene.visual=null"],
            "model.prior: all branches must look through the visual set of 'quality'",
        ),
        (["model.prior=0", "model.visual={}", "model.branches={}", "loss=[]"], "model.head gp: learns by gp, not by"),
    ],
)
def test_a_prior_needs_phrases_to_begin_from(changes, told):
    with pytest.raises(InputError, match=re.escape(told)):
        load_config("grmp_gp", changes)


def test_through_prompts_that_stay_pictures_are_seen_once(fsiqa, rows, quick, tmp_path, monkeypatch):
    """Over seeds and numbers of shots, where all begin from the same prompts; and with the same result."""
    task = ("--task", "csv", "--labels", rows, "--test", "0.5", *quick)
    start = tmp_path / "start"
    fsiqa("adapt", *task, "--shots", 3, "--config", "grmp", "--from", "none", "--out", start, "--set", "adapt.steps=1")
    read, summarize = [], Backbone.summarize
    monkeypatch.setattr(Backbone, "summarize", lambda clip, x, *more: read.append(len(x)) or summarize(clip, x, *more))
    found = {}
    for begin in (start, "none"):
        files = ("--out", tmp_path / f"curve {begin != start}", "--json", tmp_path / "curve.json")
        command = ("curve", *task, "--methods", "gp_prompts", "--shots", "2,3", "--seeds", 2, "--from", begin, *files)
        result = fsiqa(*command)
        assert result.code == 0, result.error
        found[begin] = json.loads((tmp_path / "curve.json").read_text())["curve"]["gp_prompts"]["3"]["trials"][1]
        assert sum(read) == 8 if begin == start else sum(read) > 8 + 8  # of eight files; each seed's own prompts
    files = ("--out", tmp_path / "out", "--json", tmp_path / "out.json")
    options = ("--config", "gp_prompts", "--from", start, "--seed", 1)
    assert fsiqa("adapt", *task, "--shots", 3, *options, *files).code == 0
    (trial,) = json.loads((tmp_path / "out.json").read_text())["trials"]
    assert trial["rmse"] == pytest.approx(found[start]["rmse"], rel=1e-4)
    assert trial["zero_shot"]["rmse"] == pytest.approx(found[start]["zero_shot"]["rmse"], rel=1e-4)
    assert trial["rmse"] != pytest.approx(found["none"]["rmse"], rel=1e-3)


def test_epochs_are_passes_over_the_shots():
    adapt = load_config("grmp", ["adapt.steps=null", "adapt.epochs=3"]).adapt
    assert [adapt.steps_for(shots) for shots in (2, 5, 20, 200)] == [3, 3, 4, 38]
    adapt = load_config("grmp", ["adapt.steps=20", "adapt.epochs=3"]).adapt
    assert [adapt.steps_for(shots) for shots in (2, 5, 20, 200)] == [3, 3, 4, 20]
    assert load_config("grmp", ["adapt.steps=20", "adapt.epochs=null"]).adapt.steps_for(2) == 20
    with pytest.raises(InputError, match="give steps, epochs, or both"):
        load_config("grmp", ["adapt.steps=null", "adapt.epochs=null"])


@pytest.mark.parametrize(("method", "trainable"), [("grmp", "text.quality.*"), ("linear", "head.*")])
def test_what_cannot_forget_needs_no_regularisation(fsiqa, rows, quick, method, trainable, tmp_path):
    """What learns has no part in the scene phrases' distribution: QGR has nothing to keep."""
    task = command(rows, tmp_path / "out", "--config", method, "--shots", 4, "--from", "none")
    further = [f"adapt.trainable=[{trainable}]", "adapt.steps=2", "adapt.batch=2", "adapt.regularizer={branch: scene}"]
    if method == "linear":
        further.append("model.branches={scene: {phrases: [a cat., a dog.]}}")
    result = fsiqa("adapt", *task, *quick, *sets(further), "--json", tmp_path / "out.json")
    assert result.code == 0, result.error
    assert "cosine" not in json.loads((tmp_path / "out.json").read_text())["trials"][0]
