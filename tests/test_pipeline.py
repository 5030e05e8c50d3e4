"""The main job on a miniature CLIP: meta-train, adapt, score, as commands and from Python."""

import csv
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import fewshot_iqa as fsiqa_package
from fewshot_iqa.model import checkpoint
from tests.conftest import photograph, sets


def metatrain(fsiqa, small, photographs, out, *more):
    task = ["task.distortions=[jpeg, white_noise, gaussian_blur, darken]", "task.hold_out=[darken]"]
    result = fsiqa("metatrain", "--images", photographs, "--out", out, *sets(small + task), *more)
    assert result.code == 0, result.error or result.output
    return result


@pytest.fixture
def start(fsiqa, small, photographs, tmp_path):
    metatrain(fsiqa, small, photographs, tmp_path / "meta")
    return tmp_path / "meta"


def test_three_commands(fsiqa, small, start, rated, tmp_path):
    out, report, scores = tmp_path / "adapted", tmp_path / "report.json", tmp_path / "scores.csv"
    adapted = fsiqa(
        "adapt", "--task", "csv", "--root", rated.parent, "--labels", rated, "--shots", 3,
        "--from", start, "--out", out, "--json", report,
    )  # fmt: skip
    assert adapted.code == 0, adapted.error or adapted.output
    assert "before adaptation" in adapted.output
    facts = json.loads(report.read_text())
    assert facts["shots"] == 3
    assert facts["pool"] + facts["test"] == 6
    assert set(facts["metrics"]) == {"srcc", "plcc", "krcc", "rmse"}

    scored = fsiqa("score", out, rated.parent, "--csv", scores)
    assert scored.code == 0
    with scores.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == sorted(row["image"] for row in rows)
    assert len(rows) == 6
    assert all(0 <= float(row["quality"]) <= 1 for row in rows)
    low, high = facts["scale"]
    for row in rows:
        assert float(row["rating"]) == pytest.approx(low + (high - low) * float(row["quality"]), abs=0.05)

    model = fsiqa_package.load(out)
    paths = [row["image"] for row in rows]
    np.testing.assert_allclose(model.score(paths), [float(row["quality"]) for row in rows], atol=1e-4)
    assert model.score(paths[2]) == pytest.approx(model.score(paths)[2], abs=1e-6)


def test_scores_do_not_depend_on_order_or_company(start, photographs):
    model = fsiqa_package.load(start)
    paths = sorted(photographs.iterdir())
    forward, backward = model.score(paths), model.score(paths[::-1])
    np.testing.assert_allclose(forward, backward[::-1], atol=1e-6)


def test_metatrain_changes_only_prompts(start):
    weights = load_file(start / "weights.safetensors")
    assert {name.split(".")[0] for name in weights} == {"text", "visual"}
    facts = checkpoint.facts(start)
    best = max(facts["history"], key=lambda entry: entry["srcc"])
    assert facts["step"] == best["step"]


def test_a_resumed_run_ends_like_one_that_was_not(fsiqa, small, photographs, tmp_path):
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    metatrain(fsiqa, small, photographs, whole)
    metatrain(fsiqa, [*small, "meta.steps=1"], photographs, halved)
    metatrain(fsiqa, small, photographs, halved, "--resume")
    one, two = (load_file(f"{folder}-last/weights.safetensors") for folder in (whole, halved))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_adapt_trains_what_the_globs_name(fsiqa, small, start, rated, tmp_path):
    only = "adapt.trainable=[clip.visual.ln_post.*]"
    result = fsiqa(
        "adapt", "--task", "csv", "--root", rated.parent, "--labels", rated, "--shots", 3,
        "--from", start, "--out", tmp_path / "a", "--set", only,
    )  # fmt: skip
    assert result.code == 0, result.error
    before, after = load_file(start / "weights.safetensors"), load_file(tmp_path / "a" / "weights.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert set(after) - set(before) == {"clip.visual.ln_post.weight", "clip.visual.ln_post.bias"}


def test_lower_is_better_turns_the_scale(fsiqa, small, start, rated, tmp_path):
    for flags, order in (([], [5.0, 55.0]), (["--lower-is-better"], [55.0, 5.0])):
        out = tmp_path / f"scale{len(flags)}"
        result = fsiqa(
            "adapt", "--task", "csv", "--root", rated.parent, "--labels", rated, "--shots", "100%",
            "--test", 0.01, "--from", start, "--out", out, *flags,
        )  # fmt: skip
        assert result.code == 0, result.error
        scale = checkpoint.facts(out)["scale"]
        assert (scale[0] < scale[1]) == (order[0] < order[1])


def test_scale_comes_from_the_shots_alone(fsiqa, start, table, tmp_path):
    path = table([{"image": f"photo{i}.png", "score": i, "group": i} for i in range(6)])
    result = fsiqa(
        "adapt", "--task", "csv", "--root", path.parent, "--labels", path, "--shots", 2, "--from", start,
        "--out", tmp_path / "a",
    )  # fmt: skip
    assert result.code == 0, result.error
    assert sorted(checkpoint.facts(tmp_path / "a")["scale"]) != [0, 5]


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
    assert "3 of 5 images could not be scored" in result.output
    rows = {row["image"].split("/")[-1]: row for row in json.loads(report.read_text())["scores"]}
    assert rows["good.png"]["quality"] is not None
    assert rows["good.png"]["note"] == ""
    assert "smaller than the 32 pixel crop" in rows["small.png"]["note"]
    assert "empty" in rows["empty.jpg"]["note"]
    assert rows["text.png"]["quality"] is None
    assert "truncated.png" in rows["truncated.png"]["note"]
    with pytest.warns(UserWarning, match="not an image"):
        scores = fsiqa_package.load(start).score([folder / "good.png", folder / "text.png"])
    assert np.isnan(scores).tolist() == [False, True]
