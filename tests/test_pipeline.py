"""The main job on a miniature CLIP: meta-train, adapt, score, as commands and from Python."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import fewshot_iqa as fsiqa_package
from fewshot_iqa import rng
from fewshot_iqa.config import load_config, load_task
from fewshot_iqa.data.readers import read_table
from fewshot_iqa.data.splits import split_by_group
from fewshot_iqa.model import checkpoint
from fewshot_iqa.model.clip import create_clip
from fewshot_iqa.model.quality import QualityModel
from fewshot_iqa.recipes import metatraining
from fewshot_iqa.resources import SHIPPED, asset
from tests.conftest import photograph, sets

TASK = ["task.hold_out=[darken]", "task.episodes={tasks_per_step: 2, support: 3, query: 2}"]


def metatrain(fsiqa, small, photographs, out, *more):
    task = [*TASK, "task.distortions=[jpeg, white_noise, gaussian_blur, darken]"]
    result = fsiqa("metatrain", "--config", "grmp", "--images", photographs, "--out", out, *sets(small + task), *more)
    assert result.code == 0, result.error or result.output
    return result


@pytest.fixture
def start(fsiqa, small, photographs, tmp_path):
    metatrain(fsiqa, small, photographs, tmp_path / "meta")
    return tmp_path / "meta"


@pytest.fixture
def closed(small, monkeypatch):
    """Options that make meta-training by the default method quick."""
    monkeypatch.setattr("fewshot_iqa.recipes.prior.MOST", 4)
    task = [*TASK, "task.distortions=[jpeg, white_noise, darken]"]
    return sets([text for text in [*small, *task] if not text.startswith("adapt.")])


def test_three_commands(fsiqa, small, start, rated, tmp_path):
    out, report, scores = tmp_path / "adapted", tmp_path / "report.json", tmp_path / "scores.csv"
    adapted = fsiqa(
        "adapt", "--task", "csv", "--root", rated.parent, "--labels", rated, "--shots", 3,
        "--from", start, "--out", out, "--json", report,
    )  # fmt: skip
    assert adapted.code == 0, adapted.error or adapted.output
    assert "before adaptation" in adapted.output
    (trial,) = json.loads(report.read_text())["trials"]
    assert trial["shots"] == 3
    assert trial["pool"] + trial["test"] == 6
    assert {"srcc", "plcc", "plcc_logistic", "krcc", "rmse"} < set(trial)

    scored = fsiqa("score", out, rated.parent, "--csv", scores)
    assert scored.code == 0
    with scores.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == sorted(row["image"] for row in rows)
    assert len(rows) == 6
    assert all(0 <= float(row["quality"]) <= 1 for row in rows)
    low, high = checkpoint.provenance(out)["scale"]
    for row in rows:
        assert float(row["rating"]) == pytest.approx(low + (high - low) * float(row["quality"]), abs=0.05)

    model = fsiqa_package.load(out)
    paths = [row["image"] for row in rows]
    np.testing.assert_allclose(model.score(paths), [float(row["quality"]) for row in rows], atol=1e-4)
    assert model.score(paths[2]) == pytest.approx(model.score(paths)[2], abs=1e-6)


def test_ridge_is_a_method_like_the_others(fsiqa, miniature, rated, tmp_path):
    out = tmp_path / "ridge"
    overrides = sets([f"clip={miniature}", "views.crop=32"])
    table = ["--task", "csv", "--root", rated.parent, "--labels", rated, "--shots", 4, "--test", "0.34"]
    result = fsiqa("adapt", "--config", "ridge", *table, "--out", out, *overrides)
    assert result.code == 0, result.error
    assert "started from the CLIP alone" in result.output
    assert set(load_file(out / "weights.safetensors")) == {"head.weight", "head.bias"}
    model = fsiqa_package.load(out)
    scores = model.score([str(path) for path in sorted(rated.parent.glob("photo*.png"))])
    assert len(set(scores)) > 2
    assert all(0 <= score <= 1 for score in scores)


def test_the_shipped_prompts_are_scored_with_and_adapted_by_default(fsiqa, rated, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no runs/metatrain here
    picture = str(rated.parent / "photo0.png")
    result = fsiqa("score", picture, "--json", tmp_path / "scores.json")
    assert result.code == 0, result.error
    assert "shipped prompts" in result.output
    (score,) = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert score["quality"] == pytest.approx(fsiqa_package.load().score(picture), abs=1e-4)
    assert score["rating"] is None

    table = ["--task", "csv", "--root", rated.parent, "--labels", rated, "--shots", 2, "--test", "0.34"]
    result = fsiqa("adapt", *table, "--out", tmp_path / "adapted", "--set", "views.count=1")
    assert "csv, gp_prompts: 2 shots of 4, tested on 2 pictures" in result.output
    assert "started from the shipped prompts" in result.output
    assert checkpoint.provenance(tmp_path / "adapted")["start"] == str(SHIPPED)
    assert checkpoint.provenance(SHIPPED)["base"] == checkpoint.provenance(tmp_path / "adapted")["base"]
    assert "name the images" in fsiqa("score", tmp_path / "adapted").error


def test_scores_do_not_depend_on_order_or_company(start, photographs):
    model = fsiqa_package.load(start)
    paths = sorted(photographs.iterdir())
    forward, backward = model.score(paths), model.score(paths[::-1])
    np.testing.assert_allclose(forward, backward[::-1], atol=1e-6)


def test_metatrain_changes_only_prompts(start):
    weights = load_file(start / "weights.safetensors")
    assert {name.split(".")[0] for name in weights} == {"text", "visual"}
    chosen = checkpoint.provenance(start)
    history = checkpoint.provenance(start.with_name("meta-last"))["history"]
    assert [entry["step"] for entry in history] == [0, 1, 2]
    assert chosen["step"] == max(history, key=lambda entry: entry["srcc"] + entry["plcc"] - entry["rmse"])["step"]


def test_an_interrupted_run_leaves_the_finished_one(fsiqa, small, start, photographs, monkeypatch):
    before = checkpoint.provenance(start)
    with monkeypatch.context() as patch:
        patch.setattr(metatraining.meta, "outer_step", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        task = [*TASK, "task.distortions=[jpeg, darken]"]
        assert (
            fsiqa(
                "metatrain",
                "--config",
                "grmp",
                "--images",
                photographs,
                "--out",
                start,
                "--seed",
                1,
                *sets(small + task),
            ).code
            != 0
        )
    assert checkpoint.provenance(start) == before


def test_held_out_types_may_be_given_by_number(fsiqa, small, photographs, tmp_path):
    names = [
        "task.distortions=[jpeg, white_noise]",
        "task.hold_out=['10']",
        "task.episodes={tasks_per_step: 9, support: 2}",
    ]
    result = fsiqa(
        "metatrain", "--config", "grmp", "--images", photographs, "--out", tmp_path / "m", *sets([*small, *names])
    )
    assert result.code == 0, result.error
    assert checkpoint.provenance(tmp_path / "m")["tasks"] == 1


def test_resume_refuses_another_run(fsiqa, small, start, photographs):
    task = [*TASK, "task.distortions=[jpeg, white_noise, gaussian_blur, darken]"]
    command = ("metatrain", "--config", "grmp", "--images", photographs, "--out", start, "--resume")
    assert "another 'seed'" in fsiqa(*command, *sets(small + task), "--seed", 9).error
    assert "another 'meta'" in fsiqa(*command, *sets([*small, *task, "meta.inner_steps=4"])).error
    assert "another 'source'" in fsiqa(*command, *sets([*small, *task, "task.levels=[1, 5]"])).error


def adapt_weights(fsiqa, start, labels, out, *more):
    result = fsiqa(
        "adapt", "--task", "csv", "--labels", labels, "--shots", 3, "--test", 0.4, "--from", start, "--out", out, *more
    )  # fmt: skip
    assert result.code == 0, result.error
    return load_file(out / "weights.safetensors"), checkpoint.provenance(out)


@pytest.mark.parametrize("by_gradients", [True, False])
def test_weights_depend_on_the_seed_and_the_shots_and_on_no_test_rating(fsiqa, start, table, by_gradients, tmp_path):
    rows = [{"image": f"photo{i}.png", "score": 10 * i + 5} for i in range(6)]
    method = ("--config", start) if by_gradients else sets(["head={kind: gp}", "adapt=null"])
    one, learned = adapt_weights(fsiqa, start, table(rows), tmp_path / "one", *method)
    two, _ = adapt_weights(fsiqa, start, table(rows), tmp_path / "two", *method)
    assert ("head.train_y" in one) != by_gradients
    assert all(torch.equal(one[name], two[name]) for name in one)

    source = load_task("csv", [f"labels={tmp_path / 'ratings.csv'}", "test=0.4"])
    _, unseen = split_by_group(read_table(source), 0.4, seed=0)
    for record in unseen:
        rows[int(record.path.stem[-1])]["score"] = 1000 - record.rating
    three, changed = adapt_weights(fsiqa, start, table(rows), tmp_path / "three", *method)
    assert all(torch.equal(one[name], three[name]) for name in one)
    assert changed["rmse"] != learned["rmse"]
    four, _ = adapt_weights(fsiqa, start, table(rows), tmp_path / "four", "--seed", 5, *method)
    assert not all(torch.equal(one[name], four[name]) for name in one)


def test_a_checkpoint_works_from_any_directory(start, photographs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = fsiqa_package.load(start).score(photographs / "photo0.png")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert fsiqa_package.load(start).score(photographs / "photo0.png") == expected


@pytest.mark.parametrize(("name", "architecture"), [("grmp", None), ("grmp_vitb16", "ViT-B-16-quickgelu")])
def test_shipped_configurations_fit_their_clip(name, architecture):
    config = load_config(name)
    model = QualityModel(config.model, config.head, create_clip(architecture or str(asset("tiny_clip.json"))))
    assert set(model.trainable(config.meta.trainable)) == {n for n, _ in model.named_parameters() if n[:4] != "clip"}
    tuned = model.trainable(config.adapt.trainable)
    assert any(name.startswith("clip.transformer.") for name in tuned)
    assert any(name.startswith("clip.visual.transformer.") for name in tuned)


def test_meta_training_stops_where_validations_are_no_better(fsiqa, small, photographs, tmp_path):
    still = [*small, "meta.outer_lr=1e-30", "meta.steps=4", "meta.patience=2"]
    result = metatrain(fsiqa, still, photographs, tmp_path / "meta")
    assert "stopped after step 2: no better than before (meta.patience: 2)" in result.error
    assert [entry["step"] for entry in checkpoint.provenance(tmp_path / "meta-last")["history"]] == [0, 1, 2]


META_SGD = [
    "meta.algorithm=maml", "meta.inner_optimizer=sgd", "meta.inner_lr=0.1", "meta.learn_lr=true",
    "meta.outer_optimizer=adam", "meta.outer_lr=1e-2",
]  # fmt: skip


def assert_same_run(one, two):
    for end in ("", "-last"):
        for name in ("weights", "state") if end else ("weights",):
            files = [Path(f"{folder}{end}/{name}.safetensors") for folder in (one, two)]
            assert files[0].is_file() == files[1].is_file()
            left, right = (load_file(file) if file.is_file() else {} for file in files)
            assert set(left) == set(right)
            assert all(torch.equal(left[key], right[key]) for key in left)
        assert checkpoint.provenance(Path(f"{one}{end}")) == checkpoint.provenance(Path(f"{two}{end}"))


@pytest.mark.parametrize("method", [[], META_SGD, ["meta.algorithm=reptile", "meta.outer_optimizer=adam"]])
def test_a_resumed_run_ends_like_one_that_was_not(fsiqa, small, photographs, tmp_path, method):
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    metatrain(fsiqa, [*small, *method], photographs, whole)
    metatrain(fsiqa, [*small, *method, "meta.steps=1"], photographs, halved)
    metatrain(fsiqa, [*small, *method], photographs, halved, "--resume")
    assert_same_run(whole, halved)
    learned = checkpoint.provenance(whole.with_name("whole-last"))["inner_lr"]
    assert (len(set(learned.values())) > 1) == (method is META_SGD)


def test_a_run_killed_at_any_moment_goes_on(fsiqa, closed, photographs, tmp_path, monkeypatch):
    """Each write and rename of the run is the last one once; then the run is resumed."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    command = ["metatrain", "--images", photographs, *closed, *sets(META_SGD), "--out", broken]
    assert fsiqa(*command[:-1], whole).code == 0
    moments = [(Path, "rename"), (Path, "replace"), (Path, "write_bytes"), (metatraining.meta, "outer_step")]
    for owner, name in moments:
        for survived in range(1, 20):
            for leftover in tmp_path.glob("broken*"):
                shutil.rmtree(leftover)
            calls, real = iter(range(survived)), getattr(owner, name)

            def dying(*arguments, calls=calls, real=real, **keys):
                if next(calls, None) is None:
                    raise KeyboardInterrupt
                return real(*arguments, **keys)

            with monkeypatch.context() as patch:
                patch.setattr(owner, name, dying)
                finished = fsiqa(*command).code == 0
            if finished:
                break
            if (tmp_path / "broken-last").exists():
                assert fsiqa(*command, "--resume").code == 0
                assert_same_run(whole, broken)
        assert finished
        assert survived > 1


def test_adapt_trains_what_the_globs_name(fsiqa, small, start, rated, tmp_path):
    only = "adapt.trainable=[clip.visual.ln_post.*]"
    result = fsiqa(
        "adapt", "--task", "csv", "--root", rated.parent, "--labels", rated, "--shots", 3,
        "--config", start, "--from", start, "--out", tmp_path / "a", "--set", only,
    )  # fmt: skip
    assert result.code == 0, result.error
    before, after = load_file(start / "weights.safetensors"), load_file(tmp_path / "a" / "weights.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert set(after) - set(before) == {"clip.visual.ln_post.weight", "clip.visual.ln_post.bias"}


def test_by_default_a_prior_mean_is_meta_trained_and_adapted_from(fsiqa, closed, photographs, rated, tmp_path):
    out = tmp_path / "meta"
    command = ("metatrain", "--images", photographs, "--out", out, *closed)
    result = fsiqa(*command)
    assert result.code == 0, result.error
    assert "prior mean" in result.output
    whole = load_file(out / "weights.safetensors")
    assert whole["head.prior_weight"].any()
    assert set(checkpoint.provenance(out)["prior"]) >= {"srcc", "rmse"}
    scores = fsiqa_package.load(out).predict([photographs])
    assert scores["quality"].nunique() > 2
    assert scores["quality_std"].isna().all()

    task = ("adapt", "--labels", rated, "--from", out, "--out", tmp_path / "adapted")
    assert fsiqa(*task).code == 0
    adapted = load_file(tmp_path / "adapted" / "weights.safetensors")
    assert len(adapted["head.train_y"]) == 6
    assert torch.equal(adapted["head.prior_weight"], whole["head.prior_weight"])
    refused = fsiqa(*task, "--set", "adapt.lr=1e-3")
    assert "--set adapt.lr=1e-3: this method has no section adapt (it learns in closed form" in refused.error

    assert fsiqa(*command, *sets(["meta.steps=1"])).code == 0
    assert fsiqa(*command, "--resume").code == 0
    again = load_file(out / "weights.safetensors")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_prompts_without_a_prior_mean_are_told(fsiqa, start, rated, tmp_path):
    settings = ("--config", start, *sets(["head={kind: gp, synthetic_mean_weight: 0.5}", "adapt=null"]))
    result = fsiqa("adapt", "--labels", rated, "--from", start, "--out", tmp_path / "adapted", *settings)
    assert result.code == 0, result.error
    assert f"{start} holds no linear predictor" in result.error


def test_lower_is_better_turns_the_scale(fsiqa, small, start, rated, tmp_path):
    for flags in ([], ["--lower-is-better"]):
        out = tmp_path / f"scale{len(flags)}"
        result = fsiqa(
            "adapt", "--task", "csv", "--root", rated.parent, "--labels", rated, "--shots", "100%",
            "--test", 0.01, "--from", start, "--out", out, *flags,
        )  # fmt: skip
        assert result.code == 0, result.error
        scale = checkpoint.provenance(out)["scale"]
        assert scale == sorted(scale, reverse=bool(flags))


def test_scale_comes_from_the_shots_alone(fsiqa, start, table, tmp_path):
    path = table([{"image": f"photo{i}.png", "score": i, "group": i} for i in range(6)])
    result = fsiqa(
        "adapt", "--task", "csv", "--root", path.parent, "--labels", path, "--shots", 2, "--from", start,
        "--out", tmp_path / "a",
    )  # fmt: skip
    assert result.code == 0, result.error
    assert sorted(checkpoint.provenance(tmp_path / "a")["scale"]) != [0, 5]


def test_score_marks_what_it_cannot_read_and_scores_the_rest(fsiqa, start, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    photograph(1).save(folder / "good.png")
    photograph(2, 20, 24).save(folder / "small.png")
    (folder / "empty.jpg").touch()
    (folder / "text.png").write_text("no picture")
    whole = (folder / "good.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    report = tmp_path / "scores.json"
    result = fsiqa("score", start, folder, "--json", report)
    assert result.code == 0
    assert "3 of 5 images could not be scored" in result.error
    rows = {Path(row["image"]).name: row for row in json.loads(report.read_text())["scores"]}
    assert rows["good.png"]["quality"] is not None
    assert rows["good.png"]["note"] == ""
    assert "smaller than the 32 pixel crop" in rows["small.png"]["note"]
    assert "empty" in rows["empty.jpg"]["note"]
    assert rows["text.png"]["quality"] is None
    assert "cannot be decoded" in rows["truncated.png"]["note"]
    with pytest.warns(UserWarning, match=r"text.png: not an image"):
        scores = fsiqa_package.load(start).score([folder / "good.png", folder / "text.png"])
    assert np.isnan(scores).tolist() == [False, True]


@pytest.mark.slow
def test_maml_on_a_vit_b16(fsiqa, photographs, tmp_path):
    with rng.scoped(0, "stand-in"):
        save_file(create_clip("ViT-B-16-quickgelu").state_dict(), tmp_path / "clip.safetensors")
    result = fsiqa(
        "metatrain", "--config", "grmp_vitb16", "--clip", f"ViT-B-16-quickgelu:{tmp_path / 'clip.safetensors'}",
        "--images", photographs, "--out", tmp_path / "meta",
        *sets(["meta.algorithm=maml", "meta.inner_steps=2", "meta.recompute=true", "meta.steps=1"]),
        *sets([*TASK, "task.distortions=[jpeg, darken]", "task.levels=[1, 5]"]),
    )  # fmt: skip
    assert result.code == 0, result.error
    assert "second order" in result.error
    assert len(checkpoint.provenance(tmp_path / "meta-last")["history"]) == 2


@pytest.mark.slow
@pytest.mark.skipif("FSIQA_DATA" not in os.environ, reason="FSIQA_DATA names no folder of data")
def test_adaptation_helps_on_real_photographs(fsiqa, tmp_path):
    """The embedded CLIP, fresh prompts, 200 shots of BIQ2021: better than before any step."""
    result = fsiqa(
        "adapt", "--task", "csv", "--root", Path(os.environ["FSIQA_DATA"]) / "biq2021", "--from", "none",
        "--labels", "Train (Images and MOS).csv", "--image-column", "Image Name", "--score-column", "MOS",
        "--config", "grmp", "--shots", 200, "--test", 0.1, "--out", tmp_path / "biq", "--set", "task.images=Images",
        "--set", "views.count=1",
    )  # fmt: skip
    assert result.code == 0, result.error
    found = checkpoint.provenance(tmp_path / "biq")
    assert found["srcc"] > found["zero_shot"]["srcc"] + 0.05
