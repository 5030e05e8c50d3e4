"""The protocol of adaptation on a miniature CLIP: draws, seeds, folds, subsets, agreement, and what is reported."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file
from torch import equal

from fewshot_iqa import metrics
from fewshot_iqa.config import TableTask, load_config
from fewshot_iqa.data.readers import read_table
from fewshot_iqa.data.splits import folds_by_group
from fewshot_iqa.model import checkpoint
from fewshot_iqa.recipes.starts import find_start
from fewshot_iqa.resources import METATRAINED, SHIPPED
from tests.conftest import photograph, sets

METRICS = {"srcc", "plcc", "plcc_logistic", "krcc", "rmse"}


def command(labels, out, *more):
    return ("adapt", "--task", "csv", "--labels", labels, "--test", "0.5", "--out", out, *more)


def trials(file):
    return json.loads(file.read_text())["trials"]


def test_seeds_are_reported_one_by_one_and_together(fsiqa, eight, quick, tmp_path):
    report = tmp_path / "out.json"
    ridge = command(eight, tmp_path / "out", "--config", "ridge", "--shots", 3, "--json", report)
    result = fsiqa(*ridge, "--seeds", 4, *quick)
    assert result.code == 0, result.error
    assert "median of 4 trials" in result.output
    assert "within a" in result.output
    found = json.loads(report.read_text())
    assert {"task", "method", "shots", "trials", "median", "iqr", "config", "versions"} <= set(found)
    assert (found["method"], found["shots"], found["agreement"]) == ("ridge", "3", None)
    assert [trial["seed"] for trial in found["trials"]] == [0, 1, 2, 3]
    for trial in found["trials"]:
        assert METRICS | {"zero_shot", "within", "seconds", "peak_mb"} < set(trial)
        assert set(trial["within"]["a"]) == METRICS
    values = [trial["rmse"] for trial in found["trials"]]
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    assert found["median"]["rmse"] == pytest.approx(middle)
    assert found["iqr"]["rmse"] == pytest.approx(high - low)
    assert checkpoint.provenance(tmp_path / "out")["rmse"] == values[0]
    alone = fsiqa(*ridge, "--seed", 2, *quick)
    assert alone.code == 0
    assert [trial["rmse"] for trial in trials(report)] == [pytest.approx(values[2], abs=1e-6)]


def test_folders_are_shown_from_the_working_directory_on(fsiqa, eight, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for out in ("inside", tmp_path.parent / "outside"):
        result = fsiqa(*command(eight, out, "--config", "ridge", "--shots", 3), *quick)
        assert f"the model saved in {out}" in result.output


def test_the_table_of_pictures_holds_each_picture_of_each_trial(fsiqa, eight, quick, tmp_path):
    table, report = tmp_path / "pictures.csv", tmp_path / "out.json"
    files = ("--csv", table, "--json", report)
    result = fsiqa(*command(eight, tmp_path / "out", "--config", "gp", "--shots", 3, *files), "--seeds", 2, *quick)
    assert result.code == 0, result.error
    pictures = pd.read_csv(table)
    assert len(pictures) == 2 * (3 + 4)
    for seed, trial in enumerate(trials(report)):
        shots, test = (pictures[(pictures.seed == seed) & (pictures.part == part)] for part in ("shot", "test"))
        assert shots.predicted_quality.isna().all()
        assert (shots.quality.min(), shots.quality.max()) == (0, 1)  # the scale is the shots'
        assert not set(zip(shots.image, shots.rating, strict=True)) & set(zip(test.image, test.rating, strict=True))
        assert metrics.report(test.predicted_quality, test.quality)["srcc"] == pytest.approx(trial["srcc"])
        assert metrics.report(test.predicted_quality, test.quality)["rmse"] == pytest.approx(trial["rmse"], abs=1e-4)
        low, high = shots.rating.min(), shots.rating.max()
        for column in ("quality", "predicted_quality"):
            rating = test[{"quality": "rating"}.get(column, "predicted_rating")]
            np.testing.assert_allclose(rating, low + (high - low) * test[column], rtol=1e-3)
        np.testing.assert_allclose(test.predicted_rating_std, (high - low) * test.predicted_quality_std, rtol=1e-3)
        assert (test.predicted_quality_std > 0).all()


def test_each_group_is_in_the_test_of_one_fold(fsiqa, eight, quick, tmp_path):
    table = ("adapt", "--task", "csv", "--labels", eight, "--out", tmp_path / "out", "--config", "ridge", "--shots", 4)
    result = fsiqa(*table, "--folds", 4, "--json", tmp_path / "out.json", *quick)
    assert result.code == 0, result.error
    found = trials(tmp_path / "out.json")
    assert [(trial["seed"], trial["fold"], trial["test"]) for trial in found] == [(0, fold, 2) for fold in range(4)]
    assert "give one of them" in fsiqa(*table, "--folds", 4, "--test", 0.5, *quick).error
    assert "8 groups only" in fsiqa(*table, "--folds", 9, *quick).error

    records = read_table(TableTask(kind="table", description="", labels=eight))
    splits = folds_by_group(records, 3, seed=5)
    tested = [record.group for _, test in splits for record in test]
    assert sorted(tested) == sorted(record.group for record in records)
    for pool, test in splits:
        assert not {record.group for record in pool} & {record.group for record in test}


def test_without_shots_every_rating_is_learned_from_and_predicted_out_of_fold(fsiqa, eight, quick, tmp_path):
    files = ("--json", tmp_path / "out.json", "--csv", tmp_path / "out.csv", "--out", tmp_path / "out")
    result = fsiqa("adapt", "--labels", eight, "--config", "gp", *files, *quick)
    assert result.code == 0, result.error
    assert "learned from 8 ratings" in result.output
    found, pictures = json.loads((tmp_path / "out.json").read_text()), pd.read_csv(tmp_path / "out.csv")
    assert found["shots"] == "all"
    assert [(trial["fold"], trial["shots"], trial["test"]) for trial in found["trials"]] == [
        (fold, 7, 1) for fold in range(8)
    ]
    assert sorted(pictures.rating) == [10 * i for i in range(8)]  # each once
    agreed = found["agreement"]
    assert agreed["pictures"] == agreed["groups"] == 8
    for name in ("srcc", "plcc", "rmse"):  # in the units of the ratings, pooled over the folds
        value = getattr(metrics, name)(pictures.predicted_rating, pictures.rating)
        assert agreed[name] == pytest.approx(value, rel=1e-3)
    inside = abs(pictures.predicted_rating - pictures.rating) <= 1.6449 * pictures.predicted_rating_std
    assert agreed["coverage"] == pytest.approx(inside.mean())
    assert checkpoint.provenance(tmp_path / "out")["shots"] == 8
    assert len(checkpoint.load(tmp_path / "out")[0].head.train_y) == 8
    assert checkpoint.provenance(tmp_path / "out")["scale"] == [0, 70]


def test_out_of_fold_predictions_do_not_depend_on_the_picture_s_own_rating(fsiqa, table, quick, tmp_path):
    rows = [{"image": f"photo{i}.png", "score": 10 * i} for i in range(6)]
    task = ("adapt", "--config", "ridge", "--range", "0,50", "--out", tmp_path / "out", "--csv", tmp_path / "out.csv")
    predicted = []
    for score in (30, 0):
        rows[3]["score"] = score
        assert fsiqa(*task, "--labels", table(rows), *quick).code == 0
        pictures = pd.read_csv(tmp_path / "out.csv").set_index("image")
        pictures.index = [name.rpartition("/")[2] for name in pictures.index]
        predicted.append(pictures.predicted_rating)
    assert predicted[0]["photo3.png"] == predicted[1]["photo3.png"]
    assert any(predicted[0][f"photo{i}.png"] != predicted[1][f"photo{i}.png"] for i in (0, 1, 2, 4, 5))


def test_folds_of_all_ratings_keep_groups_whole(fsiqa, table, quick, tmp_path):
    rows = [{"image": f"photo{i % 6}.png", "score": i, "group": i % 6, "distortion": i} for i in range(30)]
    task = ("adapt", "--labels", table(rows), "--config", "ridge", "--out", tmp_path / "out", *quick)
    files = ("--json", tmp_path / "out.json", "--csv", tmp_path / "out.csv")
    result = fsiqa(*task, *files)
    assert result.code == 0, result.error
    assert "5 folds" in result.output
    assert [trial["test"] for trial in trials(tmp_path / "out.json")] == [10, 5, 5, 5, 5]
    assert pd.read_csv(tmp_path / "out.csv").groupby("group").fold.nunique().max() == 1
    assert fsiqa(*task, *files, "--folds", 3).code == 0
    assert [trial["test"] for trial in trials(tmp_path / "out.json")] == [10, 10, 10]


@pytest.fixture
def dozens(tmp_path):
    """A table of 24 photographs, the more contrast the better."""
    rows = []
    for i in range(24):
        pixels = np.asarray(photograph(i)).astype(float)
        Image.fromarray((128 + (pixels - 128) * i / 23).astype(np.uint8)).save(tmp_path / f"{i}.png")
        rows.append({"image": f"{i}.png", "score": i})
    pd.DataFrame(rows).to_csv(tmp_path / "rated.csv", index=False)
    return tmp_path / "rated.csv"


@pytest.mark.parametrize("options", [["--shots", 4, "--test", 0.5], ["--shots", "100%", "--folds", 3], []])
def test_the_order_of_the_rows_changes_nothing(fsiqa, eight, quick, options, tmp_path):
    """Also where pictures of two groups hold the same, so that their groups become one."""
    for copied in ("0.png", "9.png"):
        (tmp_path / copied).write_bytes((tmp_path / "photo1.png").read_bytes())
    rows, found = pd.read_csv(eight), []
    rows = pd.concat([rows, pd.DataFrame({"image": ["9.png", "0.png"], "score": [5, 50], "group": ["y", "z"]})])
    for order in (rows, rows[::-1], pd.concat([rows[5:], rows[:5]])):
        order.to_csv(eight, index=False)
        out = tmp_path / "out"
        result = fsiqa(
            "adapt", "--config", "ridge", "--labels", eight, "--out", out, "--csv", "pictures.csv", *options, *quick
        )
        assert result.code == 0, result.error
        weights = {
            name: value.tolist() for file in out.glob("*.safetensors") for name, value in load_file(file).items()
        }
        found.append((Path("pictures.csv").read_text(), weights))
    assert found[0] == found[1] == found[2]


def test_the_learning_curve_tells_what_more_ratings_bring(fsiqa, dozens, quick, tmp_path):
    task = ("adapt", "--labels", dozens, "--root", tmp_path, "--config", "gp", "--out", tmp_path / "out", *quick)
    result = fsiqa(*task)
    assert result.code == 0, result.error
    found = checkpoint.provenance(tmp_path / "out")["learning_curve"]
    assert found["shots"] == [5, 10, 19]
    first, last = found["srcc"][1:]
    fall = (last - first) / (1 / 10 - 1 / 19)
    assert found["gain"] == pytest.approx(max(0, fall * (1 / 24 - 1 / 44)))
    assert last > 0.5
    assert found["more"] == 20
    assert "20 more ratings would bring" in result.output
    more = f"for more: fsiqa suggest {tmp_path} --rated {dozens} -n 20 -o more.csv"
    assert (more in result.output) == (found["gain"] >= 0.01)
    assert "next: fsiqa score" in result.output


def test_no_learning_curve_where_it_would_take_minutes_or_tell_nothing(fsiqa, dozens, eight, quick, tmp_path):
    for labels, config in ((dozens, "coop"), (eight, "gp")):
        few = [] if config == "gp" else ["--set", "adapt.steps=1"]
        result = fsiqa("adapt", "--labels", labels, "--config", config, "--out", tmp_path / "out", *quick, *few)
        assert result.code == 0, result.error
        assert "more ratings" not in result.output
        assert "next: fsiqa score" in result.output
        assert checkpoint.provenance(tmp_path / "out")["learning_curve"] is None


def test_pictures_of_one_group_are_learned_from_without_a_test(fsiqa, table, quick, tmp_path):
    rows = [{"image": f"photo{i}.png", "score": i, "group": "one"} for i in range(6)]
    task = ("adapt", "--labels", table(rows), "--config", "ridge", "--out", tmp_path / "out", *quick)
    result = fsiqa(*task, "--json", tmp_path / "out.json")
    assert result.code == 0, result.error
    assert "all images are of one group" in result.output
    assert json.loads((tmp_path / "out.json").read_text())["agreement"] is None
    assert checkpoint.provenance(tmp_path / "out")["shots"] == 6


def test_a_subset_is_a_column_or_a_part_of_the_name(table):
    labels = table([{"image": f"photo{i}.png", "score": i, "subset": "x" if i else ""} for i in range(3)])
    task = {"kind": "table", "description": "", "labels": labels}
    assert [r.subset for r in read_table(TableTask(**task))] == [None, "x", "x"]
    assert [r.subset for r in read_table(TableTask(**task, subset=r"o(\d)"))] == ["0", "x", "x"]


@pytest.mark.parametrize("pattern", ["ss", "(", "(a)(b)"])
def test_a_pattern_of_subsets_has_one_group(fsiqa, eight, pattern, tmp_path):
    result = fsiqa(*command(eight, tmp_path / "out"), "--set", f"task.subset='{pattern}'")
    assert result.code == 2
    assert "subset" in result.error


def test_draws_that_teach_nothing_are_refused_before_anything_is_computed(fsiqa, table, quick, tmp_path):
    rows = [{"image": f"photo{i}.png", "score": 7 if i else 8, "group": "one"} for i in range(6)]
    task = ("adapt", "--task", "csv", "--labels", table(rows), "--config", "gp", "--out", tmp_path / "out", *quick)
    assert "all 6 pictures are of one group ('one')" in fsiqa(*task, "--shots", 2).error
    for i, row in enumerate(rows):
        row["group"] = str(i)
    table(rows)
    assert "the training pool holds only 5 pictures" in fsiqa(*task, "--shots", 6).error
    # one of the seeds draws equal ratings: nothing is computed for the others
    error = fsiqa(*task, "--shots", 2, "--seeds", 9).error
    assert "the ratings to learn from all equal 7" in error
    assert not (tmp_path / "out").exists()


def test_a_scale_from_few_ratings_is_named_in_a_warning(fsiqa, eight, quick, tmp_path):
    task = command(eight, tmp_path / "out", "--config", "ridge", "--shots", "100%", *quick)
    assert "the rating scale was taken from the 4 ratings" in fsiqa(*task).error
    assert "rating scale" not in fsiqa(*task, "--range", "0,100").error
    assert checkpoint.provenance(tmp_path / "out")["scale"] == [0, 100]


@pytest.fixture
def brightness(tmp_path):
    """A table of twelve pictures, rated by how bright they are."""
    lines = ["image,score"]
    for i in range(12):
        photograph(i).point(lambda value, i=i: value * (i + 4) // 16).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{i}")
    (tmp_path / "ratings.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "ratings.csv"


def test_a_setting_is_chosen_inside_the_shots(fsiqa, brightness, quick, tmp_path):
    """The one that learns anything is taken, whatever the ratings of the test pictures are."""
    report, choose = tmp_path / "out.json", "adapt.choose=[{lr: 1e-9}, {lr: 1e-2, steps: 60}, {lr: 1e-8}]"
    task = ("adapt", "--labels", brightness, "--config", "linear", "--test", 0.25, "--range", "0,99", "--json", report)
    task += tuple(quick)
    first = fsiqa(*task, "--shots", 9, "--out", tmp_path / "first", "--set", choose)
    assert first.code == 0, first.error
    (trial,) = trials(report)
    assert trial["chosen"] == {"lr": 1e-2, "steps": 60}
    learned = checkpoint.read_checkpoint_config(tmp_path / "first").adapt
    assert (learned.lr, learned.steps, learned.choose) == (1e-2, 60, [])

    shots = {line.split(",")[0] for line in brightness.read_text().splitlines()[1:]}
    pictures = tmp_path / "pictures.csv"
    assert fsiqa(*task, "--shots", 9, "--out", tmp_path / "again", "--set", choose, "--csv", pictures).code == 0
    table = pd.read_csv(pictures)
    shots = {name.rpartition("/")[2] for name in table[table.part == "shot"].image}
    rated = dict(line.split(",") for line in brightness.read_text().splitlines()[1:])
    changed = {name: score if name in shots else str(99 - int(score)) for name, score in rated.items()}
    brightness.write_text("\n".join(["image,score", *(f"{name},{score}" for name, score in changed.items())]))
    assert fsiqa(*task, "--shots", 9, "--out", tmp_path / "changed", "--set", choose).code == 0
    (other,) = trials(report)
    assert other["chosen"] == trial["chosen"]
    assert other["rmse"] != trial["rmse"]
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("first", "changed"))
    assert all(equal(one[name], two[name]) for name in one)

    assert fsiqa(*task, "--shots", 2, "--out", tmp_path / "few", "--set", choose).code == 0  # fewer groups than folds
    assert trials(report)[0]["chosen"] == {"lr": 1e-9}
    assert "adapt.choose: unknown key rate" in fsiqa(*task, "--shots", 2, "--set", "adapt.choose=[{rate: 1}]").error


def test_methods_begin_from_what_fits_and_was_meta_trained(small, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    grmp, without = load_config("grmp", small), [text for text in small if not text.startswith("meta")]
    assert checkpoint.default_start(grmp) is None  # the shipped prompts are of another CLIP
    assert checkpoint.default_start(load_config("grmp")) == SHIPPED
    checkpoint.save(METATRAINED, checkpoint.build(grmp), grmp, {})
    assert checkpoint.default_start(grmp) == METATRAINED
    assert checkpoint.default_start(load_config("grmp")) == SHIPPED
    assert checkpoint.default_start(load_config("grmp_no_meta", without)) is None
    assert find_start("none") is None
    assert find_start("shipped") == SHIPPED


@pytest.mark.parametrize(("method", "trainable"), [("grmp", "text.quality.*"), ("linear", "head.*")])
def test_parameters_without_effect_on_the_scene_are_not_regularised(fsiqa, eight, quick, method, trainable, tmp_path):
    """What learns has no part in the scene phrases' distribution: QGR has nothing to keep."""
    task = command(eight, tmp_path / "out", "--config", method, "--shots", 4, "--from", "none")
    further = [f"adapt.trainable=[{trainable}]", "adapt.steps=2", "adapt.batch=2", "adapt.regularizer={branch: scene}"]
    if method == "linear":
        further.append("model.branches={scene: {phrases: [a cat., a dog.]}}")
    result = fsiqa(*task, *quick, *sets(further), "--json", tmp_path / "out.json")
    assert result.code == 0, result.error
    assert "cosine" not in trials(tmp_path / "out.json")[0]


def test_fresh_prompts_depend_on_the_seed_alone(fsiqa, eight, quick, tmp_path):
    """Not on what a process has built before: on the first model, on others beside it, in another process."""
    command = ("curve", "--labels", eight, "--test", 0.5, "--methods", "coop", "--shots", 2, "--set", "adapt.steps=1")
    found = []
    for name, more in (("two", ("--seeds", 2)), ("processes", ("--seeds", 2, "--workers", 2)), ("one", ("--seed", 1))):
        report = tmp_path / f"{name}.json"
        result = fsiqa(*command, *quick, "--seeds", 1, *more, "--out", tmp_path / name, "--json", report)
        assert result.code == 0, result.error
        found.append(json.loads(report.read_text())["curve"]["coop"]["2"]["trials"][-1])
    for trial in found[1:]:
        assert trial["zero_shot"]["rmse"] == pytest.approx(found[0]["zero_shot"]["rmse"], abs=1e-6)
