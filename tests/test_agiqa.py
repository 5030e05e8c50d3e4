"""CLIP-AGIQA: guided prompts, ratings of alignment, and the released tables of AI-generated images."""

import csv
import json
import os

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

import fewshot_iqa
from fewshot_iqa.config import load_config
from fewshot_iqa.errors import InputError
from fewshot_iqa.evaluation import compare
from fewshot_iqa.finetune import finetune
from fewshot_iqa.losses import WeightedSum
from fewshot_iqa.model.checkpoint import build, load
from fewshot_iqa.model.clip import load_clip
from fewshot_iqa.types import Batch, Prediction
from tests.conftest import photograph, seeded, sets

DATA = os.environ.get("FSIQA_DATA")


@pytest.fixture
def overrides(miniature):
    return [f"clip={miniature}", "views={crop: 32, count: 1}", "adapt.steps=3", "adapt.batch=4"]


@pytest.fixture
def model(overrides):
    return build(load_config("clip_agiqa", overrides))


def test_trainable_parameters_are_the_contexts_the_visual_prompts_and_their_links(model):
    layers, width, vision = 12, model.clip.text_width, model.clip.vision_width
    shapes = {name: tuple(value.shape) for name, value in model.trainable(["text.*", "visual.*"]).items()}
    expected = {}
    for branch, visual in (("quality", "main"), ("alignment", "align")):
        expected[f"text.{branch}.context"] = (8, width)
        expected[f"text.{branch}.deeper"] = (layers - 1, 8, width)
        expected[f"visual.{visual}.tokens"] = (layers, 8, vision)
    for i in range(layers):
        expected[f"visual.main.link.{i}.weight"] = (vision, 2 * vision)
        expected[f"visual.main.link.{i}.bias"] = (vision,)
    assert shapes == expected


def test_visual_prompts_of_quality_depend_on_those_of_alignment_only_one_way(model):
    images = seeded(2, 3, 32, 32)
    with torch.no_grad():
        before = model(images, branches=["alignment"])
        model.visual["align"].tokens.copy_(seeded(12, 8, 16))
        after = model(images, branches=["alignment"])
        model.visual["main"].tokens.copy_(seeded(12, 8, 16) - 1)
        last = model(images, branches=["alignment"])
    assert not torch.allclose(before.mean, after.mean, atol=1e-5)
    assert not torch.allclose(before.logits["alignment"], after.logits["alignment"], atol=1e-5)
    assert not torch.allclose(after.mean, last.mean, atol=1e-5)
    assert torch.equal(after.logits["alignment"], last.logits["alignment"])  # nothing leads back


def test_deeper_context_replaces_it_at_its_layer(model):
    prompts = model.text["quality"]
    with torch.no_grad():
        whole = model.clip.encode_text(prompts.tokens, prompts.context, prompts.deeper)
        one = model.clip.encode_text(prompts.tokens, prompts.context, prompts.deeper[:1])
        x = model.clip.token_embedding(prompts.tokens)
        length = x.shape[1]
        mask = torch.full((length, length), float("-inf")).triu(1)
        x[:, 1:9] = prompts.context
        x = x + model.clip.positional_embedding[:length]
        for i, block in enumerate(model.clip.transformer.resblocks):
            if i:
                x[:, 1:9] = prompts.deeper[i - 1]
            x = block(x, attn_mask=mask)
        x = model.clip.ln_final(x)[torch.arange(2), prompts.tokens.argmax(-1)] @ model.clip.text_projection
    torch.testing.assert_close(whole, x)
    assert not torch.allclose(whole, one)


def test_prompts_behind_the_patches_against_a_plain_walk(model):
    tower, images = model.clip.visual, seeded(2, 3, 32, 32)
    with torch.no_grad():
        prompts = model.visual["align"]()
        found, patches = model.clip.encode_image(images, prompts, at_end=True)
        x = tower.conv1(images).flatten(2).mT
        x = torch.cat([tower.class_embedding.expand(2, 1, -1), x], dim=1) + tower.positional_embedding
        x = tower.ln_pre(torch.cat([x, prompts[0].expand(2, -1, -1)], dim=1))
        for i, block in enumerate(tower.transformer.resblocks):
            if i:
                x[:, -8:] = prompts[i]
            x = block(x)
    torch.testing.assert_close(found, tower.ln_post(x[:, 0]) @ tower.proj)
    torch.testing.assert_close(patches, x[:, 1:-8])


def test_pictures_without_a_rating_of_alignment_train_quality_only(model, overrides):
    loss = WeightedSum(load_config("clip_agiqa", overrides).loss)
    params = model.train_only(["text.*", "visual.*"])
    images, quality = seeded(3, 3, 32, 32), seeded(3)

    def gradient(alignment):
        output = model(images, branches=loss.branches)
        value = loss(output, {"quality": quality, "alignment": torch.tensor(alignment)})
        return value.item(), torch.autograd.grad(value, [params["text.alignment.context"]], allow_unused=True)[0]

    nan = float("nan")
    none, untouched = gradient([nan] * 3)
    assert not untouched.any()
    one, moved = gradient([nan, 0.9, nan])
    assert moved.any()
    with torch.no_grad():
        predicted = model(images[1:2], branches=["alignment"]).logits["alignment"].softmax(-1)[0, 0].item()
    assert one - none == pytest.approx(0.1 * (predicted - 0.9) ** 2, rel=1e-3)


def test_a_head_on_frozen_features_leaves_alignment_to_its_own_prompts(fsiqa, overrides, table, tmp_path):
    """Quality is predicted from cached features, alignment through visual prompts that these were not encoded with."""
    rows = [{"image": f"photo{i}.png", "score": i, "alignment": 5 - i, "prompt": f"a {i // 2}"} for i in range(6)]
    out, report = tmp_path / "out", tmp_path / "report.json"
    method = [text for text in overrides if not text.startswith("adapt")] + ["adapt=null", "head={kind: gp}"]
    command = ("adapt", "--config", "clip_agiqa", "--labels", table(rows), "--shots", 2, "--test", 0.5, "--out", out)
    result = fsiqa(*command, "--json", report, "--set", "task.alignment_range=[0, 5]", *sets(method))
    assert result.code == 0, result.error
    assert json.loads(report.read_text())["trials"][0]["alignment_srcc"] is not None
    (tmp_path / "prompts.csv").write_text("image,prompt\nphoto0.png,a cat\n")
    files = ("--json", tmp_path / "scores.json", "--prompts", tmp_path / "prompts.csv")
    for _ in range(2):
        assert fsiqa("score", out, tmp_path / "photo0.png", "--cache", tmp_path / "cache", *files).code == 0
        (score,) = json.loads((tmp_path / "scores.json").read_text())["scores"]
        assert score["quality"] == pytest.approx(fewshot_iqa.load(out).score(tmp_path / "photo0.png"), abs=1e-4)
        assert 0 <= score["alignment"] <= 1


def test_training_lowers_the_loss_and_leaves_the_towers_alone(miniature, model, overrides):
    settings = load_config("clip_agiqa", overrides)
    images = seeded(6, 3, 32, 32) * seeded(6, 3, 1, 1)
    batch = Batch(images, {"quality": torch.linspace(0.2, 0.8, 6), "alignment": torch.linspace(0.7, 0.3, 6)})
    losses, spec = [], settings.adapt.model_copy(update={"steps": 150, "lr": 5e-3})
    params, loss = model.train_only(spec.trainable), WeightedSum(settings.loss)
    finetune(model, params, [batch] * spec.steps, loss, spec, log=lambda one: losses.append(one["loss"]))
    assert losses[-1] < losses[0] / 5
    after = model.clip.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in load_clip(miniature).state_dict().items())


def test_adapt_and_score(fsiqa, overrides, table, tmp_path):
    rows = [{"image": f"photo{i}.png", "score": i, "alignment": 5 - i, "prompt": f"a {i // 2}"} for i in range(6)]
    out, labels = tmp_path / "out", table(rows)
    command = ("adapt", "--config", "clip_agiqa", "--task", "csv", "--labels", labels, "--shots", 3, "--out", out)
    result = fsiqa(*command, "--set", "task.alignment_range=[0, 5]", *sets(overrides))
    assert result.code == 0, result.error
    assert "alignment" not in result.error
    result = fsiqa("score", out, tmp_path / "photo0.png", "--csv", tmp_path / "scores.csv")
    assert result.code == 0, result.error
    with (tmp_path / "scores.csv").open() as file:
        assert 0 <= float(next(csv.DictReader(file))["quality"]) <= 1
    (tmp_path / "prompts.csv").write_text("image,prompt\nphoto0.png,a cat\n")
    result = fsiqa("score", out, tmp_path / "photo0.png", "--prompts", tmp_path / "prompts.csv")
    assert "this method does not read prompts" in result.output
    result = fsiqa(*command, *sets(overrides))  # without its range the column says nothing
    assert result.code == 0, result.error
    assert result.error.count("no picture has a known label of its alignment") == 1


@pytest.fixture
def matching(overrides):
    return build(load_config("clip_agiqa_prompt", overrides))


def test_the_logit_of_a_picture_and_its_own_prompt_is_their_scaled_cosine(matching):
    images, prompts = seeded(3, 2, 3, 32, 32), ["a cat on a mat", None, "word " * 200]
    with torch.no_grad():
        output = matching(images, branches=["alignment", "match"], prompts=prompts)
        alone = matching(images[:1], branches=["match"], prompts=prompts[:1])
        image = matching.encode(images[:1], matching.encode_prompts(), ["align"]).embedding("align")[0]
        learned = matching.text["match"]
        tokens = matching.clip.tokenize(prompts[:1], 8)
        text = F.normalize(matching.clip.encode_text(tokens, learned.context, learned.deeper), dim=-1)
    scale = matching.clip.logit_scale.exp()
    expected = torch.stack([scale * (image @ text[0]).mean(), scale * learned.threshold])
    torch.testing.assert_close(alone.logits["match"][0], expected)
    torch.testing.assert_close(output.logits["match"][0], expected)
    assert output.logits["match"][1].isnan().all()
    assert output.logits["match"][2].isfinite().all()  # cut to what the text tower reads
    with torch.no_grad():
        views = [matching(images[1:2, i], branches=["alignment"]).alignment for i in range(2)]
    torch.testing.assert_close(output.alignment[1:2], torch.stack(views).mean(dim=0))  # the other branch alone
    assert output.alignment.isfinite().all()


def test_gradients_reach_the_context_of_prompts_where_there_are_some(matching, overrides):
    loss = WeightedSum(load_config("clip_agiqa_prompt", overrides).loss)
    params = matching.train_only(["text.*", "visual.*", "clip.logit_scale"])
    images, alignment = seeded(3, 3, 32, 32), torch.tensor([0.9, 0.1, 0.5])
    targets = {"quality": seeded(3), "alignment": alignment}

    def gradient(prompts):
        value = loss(matching(images, branches=loss.branches, prompts=prompts), targets)
        found = torch.autograd.grad(value, list(params.values()), allow_unused=True)
        assert all(one is None or one.isfinite().all() for one in found)
        return dict(zip(params, found, strict=True))

    some = gradient(["a cat", None, "a dog"])
    assert some["text.match.context"].any()
    assert some["text.match.threshold"] != 0
    none = gradient([None] * 3)
    assert none["text.match.context"] is None or not none["text.match.context"].any()


def test_scores_with_prompts(fsiqa, overrides, table, tmp_path):
    rows = [{"image": f"photo{i}.png", "score": i, "alignment": 5 - i, "prompt": f"a {i // 2}"} for i in range(6)]
    out, labels, report = tmp_path / "out", table(rows), tmp_path / "report.json"
    result = fsiqa(
        "adapt", "--config", "clip_agiqa_prompt", "--task", "csv", "--labels", labels, "--shots", 2, "--out", out,
        "--json", report, "--set", "task.alignment_range=[0, 5]", "--test", "0.5", *sets(overrides),
    )  # fmt: skip
    assert result.code == 0, result.error
    assert -1 <= json.loads(report.read_text())["median"]["alignment_srcc"] <= 1
    (tmp_path / "prompts.csv").write_text("image,prompt\nphoto0.png,a cat\nphoto1.png,\n")
    images, found = [tmp_path / f"photo{i}.png" for i in range(2)], tmp_path / "scores.csv"
    result = fsiqa("score", out, *images, "--explain", "--csv", found)
    assert "has learned no phrases" in result.error
    assert not found.exists()  # nor would one that was there be lost
    result = fsiqa("score", out, *images, "--prompts", tmp_path / "prompts.csv", "--csv", found)
    assert result.code == 0, result.error
    assert "1 of 2 images have no prompt" in result.output
    with found.open() as file:
        assert all(0 <= float(row["alignment"]) <= 1 for row in csv.DictReader(file))
    table([{"name": f"photo{i}.png", "text": "a cat"} for i in range(2)], name="named.csv")
    columns = ("--image-column", "name", "--prompt-column", "text")
    assert fsiqa("score", out, *images, "--prompts", tmp_path / "named.csv", *columns).code == 0
    assert "no column 'image'" in fsiqa("score", out, *images, "--prompts", tmp_path / "named.csv").error
    assert "--prompts; give that too" in fsiqa("score", out, *images, *columns).error
    (tmp_path / "prompts.csv").write_text("image,prompt\nsd/0.png,a cat\nglide/0.png,a dog\n")
    result = fsiqa("score", out, *images, "--prompts", tmp_path / "prompts.csv")
    assert "two prompts for images named 0.png" in result.error
    (tmp_path / "prompts.csv").write_text("picture,prompt\n")
    result = fsiqa("score", out, *images, "--prompts", tmp_path / "prompts.csv")
    assert "prompts.csv" in result.error


def test_the_default_reads_prompts(fsiqa, quick, table, tmp_path):
    """Of the table that it learns from, and where `score` is given them."""
    rows = [{"image": f"photo{i}.png", "score": i, "prompt": f"a {'cat' if i % 2 else 'dog'} {i}"} for i in range(6)]
    out, labels = tmp_path / "out", table(rows)
    result = fsiqa("adapt", "--from", "none", "--labels", labels, "--out", out, *quick)
    assert result.code == 0, result.error
    model = load(out)[0]
    assert model.head.train_match.std() > 0
    images = [tmp_path / f"photo{i}.png" for i in range(6)]
    found = {}
    for name, prompts in (("with", ("--prompts", labels)), ("without", ())):
        result = fsiqa("score", out, *images, *prompts, "--csv", tmp_path / f"{name}.csv")
        assert result.code == 0, result.error
        found[name] = pd.read_csv(tmp_path / f"{name}.csv")
        assert ("--prompts TABLE" in result.output) == (name == "without")
    assert list(found["with"]) == list(found["without"])  # no column of alignment, which it does not predict
    assert (found["with"]["quality"] - found["without"]["quality"]).abs().max() > 1e-4
    scorer, of = fewshot_iqa.load(out), {f"photo{i}.png": rows[i]["prompt"] for i in range(6)}
    np.testing.assert_allclose(scorer.predict(images, prompts=of)["quality"], found["with"]["quality"], atol=6e-5)
    assert scorer.score(images[0], prompts=of) == pytest.approx(found["with"]["quality"][0], abs=6e-5)
    table([{"image": "photo0.png", "prompt": "a dog 0"}], name="one.csv")
    assert (
        "5 of 6 images have no prompt there" in fsiqa("score", out, *images, "--prompts", tmp_path / "one.csv").output
    )


def test_metrics_of_alignment():
    predicted = torch.tensor([0.9, 0.2, 0.6, float("nan"), 0.1])
    output = Prediction(torch.zeros(5), alignment=predicted)

    def of(*rated):
        return compare(output, [0.0] * 5, alignment=rated).metrics

    nan = float("nan")
    assert of(1.0, 0.0, 0.0, 1.0, nan)["alignment_auc"] == 1
    assert of(0.0, 0.0, 1.0, 1.0, 0.0)["alignment_auc"] == pytest.approx(2 / 3)
    assert of(0.8, 0.3, 0.5, 0.9, nan)["alignment_srcc"] == 1
    assert of(0.1, 0.5, 0.3, 0.9, nan)["alignment_srcc"] == -1
    assert not {"alignment_auc", "alignment_srcc"} & set(of(*[nan] * 5))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.visual.main.link=other", "no visual set is named 'other'"),
        ("model.visual.align.link=main", "is itself linked"),
        ("model.visual.main.link=main", "is itself linked"),
        ("loss=[{kind: mse, target: alignment}]", "the target alignment needs a branch"),
        ("model.visual.main.length=4", "other lengths or depths"),
        ("loss=[{kind: cross_entropy, branch: alignment, target: alignment}]", "needs a target of classes"),
    ],
)
def test_settings_that_do_not_go_together(overrides, override, message):
    with pytest.raises(InputError, match=message):
        load_config("clip_agiqa", [*overrides, override])


def test_unseen_generators(fsiqa, overrides, tmp_path):
    names = [f"{model}_{i}.jpg" for model in ("glide", "sd1.5", "xl2.2") for i in range(3)]
    for i, name in enumerate(names):
        photograph(i).save(tmp_path / name)
    rows = [f"{name},a {i % 3},,,,{i / 2},0.1,{i / 3},0.1" for i, name in enumerate(names)]
    (tmp_path / "data.csv").write_text(
        "name,prompt,adj1,adj2,style,mos_quality,std_quality,mos_align,std_align\n" + "\n".join(rows)
    )
    report = tmp_path / "report.json"
    command = ("adapt", "--config", "ridge", "--task", "agiqa3k", "--root", tmp_path, "--shots", 3, "--json", report)
    quick = sets([text for text in overrides if not text.startswith("adapt")])
    result = fsiqa(*command, "--out", tmp_path / "out", "--test", "0.3", "--group", "model", *quick)
    assert result.code == 0, result.error
    entry = json.loads(report.read_text())["trials"][0]
    assert (entry["pool"], entry["test"]) == (6, 3)
    result = fsiqa(*command, "--out", tmp_path / "other", "--group", "maker", *quick)
    assert "no column 'maker'" in result.error
    assert "--group COLUMN" in result.error
