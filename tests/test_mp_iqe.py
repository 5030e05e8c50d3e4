"""MP-IQE: its two alignments, its decoder, its targets, and what it explains."""

import csv
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from fewshot_iqa import rng
from fewshot_iqa.config import CLASSES, ModelSpec, load_config
from fewshot_iqa.config.heads import FusionSpec
from fewshot_iqa.errors import InputError
from fewshot_iqa.finetune import finetune
from fewshot_iqa.losses import FunctionLoss, WeightedSum, label_cross_entropy
from fewshot_iqa.model.checkpoint import build, provenance
from fewshot_iqa.model.clip import load_clip
from fewshot_iqa.model.heads.fusion import FusionHead, FusionLayer
from fewshot_iqa.model.quality import attend, pool_windows
from fewshot_iqa.types import Batch, Features, Prediction
from tests.conftest import seeded, sets


@pytest.fixture
def overrides(miniature):
    return [
        f"clip={miniature}",
        "views={crop: 32, count: 1}",
        "model.branches.distortion.windows=2",
        "head.heads=2",
        "adapt.batch=4",
        "adapt.steps=3",
        "meta.steps=2",
        "meta.validate_every=1",
    ]


@pytest.fixture
def settings(overrides):
    return load_config("mp_iqe", overrides)


@pytest.fixture
def model(settings):
    return build(settings)


def batch(n: int) -> Batch:
    targets = {"quality": seeded(n)}
    targets |= {name: F.one_hot(torch.arange(n) % len(of), len(of)).float() for name, of in CLASSES.items()}
    return Batch(seeded(n, 3, 32, 32), targets)


def test_trainable_parameters_are_contexts_visual_prompts_and_the_decoder(miniature):
    model = build(load_config("mp_iqe", [f"clip={miniature}", "views.crop=32", "head.heads=2"]))
    width, vision, layers = model.clip.text_width, model.clip.vision_width, model.clip.vision_layers
    shapes = {name: tuple(value.shape) for name, value in model.trainable(["text.*", "visual.*"]).items()}
    assert shapes == {
        "text.scene.context": (8, width),
        "text.distortion.context": (8, width),
        "visual.main.tokens": (layers, 4, vision),
    }
    head = {name.split(".")[1] for name in model.trainable(["head.*"])}
    assert head == {"reduce", "layers", "score"}
    assert len(model.head.layers) == 3
    assert len(model.text["scene"].tokens) == len(CLASSES["scene"]) == 9
    assert len(model.text["distortion"].tokens) == len(CLASSES["distortion"]) == 11


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_equation_10_against_a_plain_loop(count):
    patches, text = seeded(2, 16, 5).double(), F.normalize(seeded(3, 5).double(), dim=-1)
    temperature = 0.07
    similarity = F.normalize(pool_windows(patches, count), dim=-1) @ text.T
    found = attend(similarity, temperature).numpy()
    grid, edges = (
        patches.numpy().reshape(2, 4, 4, 5),
        [(i * 4 // count, -(-(i + 1) * 4 // count)) for i in range(count)],
    )
    for b in range(2):
        windows = [grid[b, a:z, c:d].max(axis=(0, 1)) for a, z in edges for c, d in edges]
        for p in range(3):
            s = np.array([w @ text[p].numpy() / np.linalg.norm(w) for w in windows])
            weights = np.exp(s / temperature) / np.exp(s / temperature).sum()
            assert found[b, p] == pytest.approx((weights * s).sum(), abs=1e-12)


def test_equation_10_at_its_ends():
    similarity = seeded(2, 9, 4).double() * 2 - 1
    assert torch.allclose(attend(similarity, 1e-6), similarity.amax(dim=1))
    assert torch.allclose(attend(similarity, 1e6), similarity.mean(dim=1), atol=1e-6)
    one = similarity[:, :1]
    assert torch.allclose(attend(one, 0.1), one[:, 0])


def test_label_loss_by_hand():
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 0.0, 3.0], [9.0, 9.0, 9.0]]).double()
    target = torch.tensor([[1.0, 0, 0], [0.5, 0, 0.5], [0, 0, 0]]).double()
    first = math.log(math.e**2 + 1 + math.e) - 2
    second = math.log(2 + math.e**3) - 1.5
    assert label_cross_entropy(logits, target).item() == pytest.approx((first + second) / 2 / 3, abs=1e-12)
    assert label_cross_entropy(logits, torch.zeros(3, 3).double()).item() == 0


def test_the_loss_is_that_of_the_paper(settings, model):
    some = batch(3)
    with torch.no_grad():
        output = model(some.inputs, branches=["scene", "distortion"])
        total = WeightedSum(settings.loss)(output, some.targets).item()
    parts = [label_cross_entropy(output.logits[name], some.targets[name]).item() for name in CLASSES]
    error = np.abs(output.mean.numpy() - some.targets["quality"].numpy())
    huber = np.where(error < 1, error**2 / 2, error - 0.5).mean()
    assert total == pytest.approx(sum(parts) + 0.5 * huber, rel=1e-5)


def test_the_decoder_by_its_gradient():
    spec = FusionSpec(kind="fusion", branches=["scene"], layers=2, heads=2)
    model = ModelSpec(branches={"scene": {"phrases": ["a.", "b.", "c."]}})
    clip = SimpleNamespace(vision_width=6, visual=SimpleNamespace(output_dim=4))
    with rng.scoped(0, "head"):
        head = FusionHead(spec, model, clip).double()
    phrases, tokens = seeded(3, 4).double().requires_grad_(), seeded(2, 5, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(head.decode, (phrases, tokens))
    each = torch.stack([head.decode(phrases, one[None])[0] for one in tokens])
    assert torch.allclose(head.decode(phrases, tokens), each)
    assert torch.allclose(head.decode(phrases.flip(0), tokens), head.decode(phrases, tokens))
    features = Features(4, {}, {"": torch.stack([tokens, tokens.flip(0)], dim=1)}, {"scene": phrases})
    assert torch.allclose(head.predict(features).mean, each.mean().expand(2))  # of two views


def test_a_layer_of_the_decoder_is_that_of_the_paper():
    """Equations 12 to 14, attention written out."""
    with rng.scoped(0, "layer"):
        layer = FusionLayer(4, heads=1).double()
    queries, tokens = seeded(1, 3, 4).double(), seeded(1, 5, 4).double() - 0.5

    def attention(module, query, value):
        q, k, v = (
            x @ w.T + b
            for x, w, b in zip(
                (query, value, value), module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3), strict=True
            )
        )
        return module.out_proj((q @ k.mT / 2).softmax(-1) @ v)

    normed = layer.norm_self(queries)
    between = attention(layer.self_attention, normed, normed) + queries
    expected = layer.mlp(attention(layer.cross_attention, layer.norm_cross(between), tokens) + between)
    torch.testing.assert_close(layer(queries, tokens), expected)


def test_windows_in_bfloat16(model):
    images = seeded(2, 3, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rough = model(images).logits["distortion"]
    with torch.no_grad():
        torch.testing.assert_close(rough, model(images).logits["distortion"], rtol=0.05, atol=0.05 * rough.abs().max())


def test_of_several_views_the_mean_counts(model):
    images = seeded(2, 3, 3, 32, 32)
    with torch.no_grad():
        output = model(images)
        each = [model(images[:, i]) for i in range(3)]
    assert torch.allclose(output.mean, torch.stack([one.mean for one in each]).mean(0), atol=1e-6)
    mean = torch.stack([one.logits["distortion"] for one in each]).mean(0)
    assert torch.allclose(output.logits["distortion"], mean, atol=1e-4)
    assert set(output.logits) == {"scene", "distortion"}


def test_training_fits_sixteen_pictures_and_leaves_the_towers_alone(miniature, settings, model):
    some, before = batch(16), load_clip(miniature).state_dict()
    some = Batch(some.inputs * seeded(16, 3, 1, 1), some.targets)  # of sixteen colours
    spec = settings.adapt.model_copy(update={"steps": 250, "lr": 7e-3})
    loss, losses = WeightedSum(settings.loss), []
    params = model.train_only(spec.trainable)
    finetune(model, params, [some] * spec.steps, loss, spec, log=lambda one: losses.append(one["loss"]))
    with torch.no_grad():
        output = model(some.inputs)
    assert losses[-1] < losses[0] / 3
    assert (output.mean - some.targets["quality"]).abs().max() < 0.02
    assert (output.logits["scene"].argmax(1) == some.targets["scene"].argmax(1)).float().mean() > 0.5
    after = model.clip.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_rate_rises_and_falls(settings):
    """By SGD on a loss of gradient 1, a step is as long as the learning rate."""
    spec = settings.adapt.model_copy(update={"steps": 10, "warmup": 3, "lr": 1.0, "optimizer": "sgd"})
    spec = spec.model_copy(update={"weight_decay": 0.0})
    weight, seen = torch.nn.Parameter(torch.zeros(())), [0.0]

    class Constant(torch.nn.Module):
        def forward(self, inputs, branches=(), prompts=()):
            return Prediction(weight.expand(len(inputs)))

    loss = FunctionLoss(lambda prediction, targets: prediction.mean.mean())
    batches = [batch(2)] * spec.steps
    finetune(Constant(), {"w": weight}, batches, loss, spec, log=lambda _: seen.append(-weight.item()))
    cosine = [(1 + math.cos(math.pi * i / 7)) / 2 for i in range(7)]
    assert np.diff(seen) == pytest.approx([0.25, 0.5, 0.75, *cosine], abs=1e-6)


def test_score_shows_the_likeliest_scene_and_distortion(fsiqa, overrides, table, tmp_path):
    rows = [
        {
            "image": f"photo{i}.png",
            "score": i,
            "scene": "animal;night",
            "distortion": "jpeg" if i % 2 else "gaussian_blur",
        }
        for i in range(6)
    ]
    out = tmp_path / "out"
    result = fsiqa(
        "adapt", "--config", "mp_iqe", "--task", "csv", "--labels", table(rows), "--shots", 3, "--out", out,
        "--set", "adapt.regularizer={branch: scene, strength: 1}", *sets(overrides),
    )  # fmt: skip
    assert result.code == 0, result.error
    assert "label" not in result.error
    found, drawn = tmp_path / "scores.csv", tmp_path / "map.png"
    result = fsiqa("score", out, tmp_path / "photo0.png", "--explain", "--csv", found, "--map", drawn)
    assert result.code == 0, result.error
    with found.open() as file:
        (row,) = csv.DictReader(file)
    phrases = load_config("mp_iqe").model.branches
    for branch in ("scene", "distortion"):
        assert f"{row[branch]}." in phrases[branch].phrases
    with Image.open(drawn) as picture:
        assert picture.size[0] > 400
    result = fsiqa("score", out, tmp_path / "photo0.png", tmp_path / "photo1.png", "--map", drawn)
    assert "draws one image; 2 were given" in result.error


def test_pictures_without_labels_train_the_other_terms(fsiqa, overrides, rated, tmp_path):
    report = tmp_path / "report.json"
    result = fsiqa(
        "adapt", "--config", "mp_iqe", "--task", "csv", "--labels", rated, "--shots", 3, "--seeds", 2,
        "--out", tmp_path / "out", "--json", report, *sets(overrides),
    )  # fmt: skip
    assert result.code == 0, result.error
    assert result.error.count("no picture has a known label of its scene") == 1
    assert result.error.count("no picture has a known label of its distortion") == 1
    assert len(json.loads(report.read_text())["trials"]) == 2


def test_only_shots_count_as_labelled(fsiqa, overrides, table, tmp_path):
    """One picture is labelled; a seed that tests on it has learned nothing of scenes."""
    rows = [{"image": f"photo{i}.png", "score": i, "scene": "" if i else "plant"} for i in range(6)]
    task = ("adapt", "--config", "mp_iqe", "--task", "csv", "--labels", table(rows), "--shots", 2, *sets(overrides))
    learned = set()
    for seed in range(4):
        out = tmp_path / f"out{seed}"
        result = fsiqa(*task, "--seed", seed, "--out", out)
        count = provenance(out)["labels"]["scene"]
        learned.add(count)
        assert ("no picture has a known label of its scene" in result.error) == (not count)
    assert learned == {0, 1}


def test_metatrain(fsiqa, overrides, photographs, tmp_path):
    task = ["task.hold_out=[darken]", "task.distortions=[jpeg, white_noise, gaussian_blur, darken]"]
    task += ["task.episodes={tasks_per_step: 2, support: 3, query: 2}"]
    out = tmp_path / "meta"
    result = fsiqa(
        "metatrain", "--config", "mp_iqe", "--images", photographs, "--out", out, *sets(overrides + task)
    )  # fmt: skip
    assert result.code == 0, result.error
    result = fsiqa("score", out, photographs, "--explain")
    assert result.code == 0, result.error
    assert "distortion" in result.output
    assert "scene" not in result.output  # it had no labels to learn from


def test_methods_without_phrases_explain_nothing(fsiqa, miniature, rated, tmp_path):
    out = tmp_path / "out"
    quick = sets([f"clip={miniature}", "views.crop=32", "views.count=1"])
    assert (
        fsiqa("adapt", "--config", "ridge", "--task", "csv", "--labels", rated, "--shots", 3, "--out", out, *quick).code
        == 0
    )
    result = fsiqa("score", out, tmp_path / "photo0.png", "--explain")
    assert "--explain: this method has learned no phrases" in result.error
    result = fsiqa("score", out, tmp_path / "photo0.png", "--map", tmp_path / "map.png")
    assert "--map: this method has learned no phrases that it compares with windows" in result.error


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("head.branches=[scene, blur]", "no branch with phrases is named 'blur'"),
        ("head.layers=0", "head.layers = 0: expected above 0"),
        ("model.branches.scene.phrases=[a., b.]", "has not 9 phrases"),
        ("model.branches.scene.visual=null", "the same visual set"),
        ("loss=[{kind: cross_entropy, branch: scene}]", "cross_entropy needs a target"),
        ("loss=[{kind: smooth_l1, branch: scene}]", "smooth_l1 is on the quality"),
        ("head.heads=3", "do not divide"),
    ],
)
def test_settings_that_do_not_go_together(overrides, override, message):
    with pytest.raises(InputError, match=message):
        build(load_config("mp_iqe", [*overrides, override]))


def test_the_ablation_prints_its_tables(fsiqa, overrides, table, tmp_path):
    rows = [{"image": f"photo{i}.png", "score": i, "scene": "animal", "distortion": "jpeg"} for i in range(6)]
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "config: mp_iqe\ntables:\n"
        "  components:\n    full: []\n    no visual prompts: ['model.visual={}', model.branches.scene.visual=null, "
        "model.branches.distortion.visual=null, 'adapt.trainable=[text.*, head.*]']\n"
        "  length:\n    2: [model.visual.main.length=2]\n    4: []\n"
    )
    report, out = tmp_path / "report.json", tmp_path / "out"
    command = (
        "experiment", "mp-iqe-ablation", "--plan", plan, "--task", "csv", "--labels", table(rows), "--shots", 3,
        "--seeds", 2, "--out", out, "--json", report, *sets(overrides),
    )  # fmt: skip
    result = fsiqa(*command)
    assert result.code == 0, result.error
    assert "components; medians of 2 draws" in result.output
    tables = json.loads(report.read_text())["tables"]
    assert list(tables) == ["components", "length"]
    assert list(tables["length"]) == ["2", "4"]
    assert tables["length"]["4"]["trials"] == tables["components"]["full"]["trials"]  # computed once
    shorter, longer = ([trial["srcc"] or 0 for trial in tables["length"][name]["trials"]] for name in ("2", "4"))
    difference = tables["length"]["4"]["over_first"]["difference"]
    assert difference == pytest.approx(sum(longer) / 2 - sum(shorter) / 2)
    assert f"{difference:+.3f}" in result.output
    assert len(list(out.glob("*seed*.json"))) == 3 * 2
    assert tables["components"]["full"]["median"]["distortion_accuracy"] in (0, 0.5, 1)
    assert "sets this itself" in fsiqa(*command, "--set", "model.visual.main.length=3").error
    rows[0]["distortion"] = "darken"
    table(rows)
    assert "holds results of another ratings" in fsiqa(*command).error
    plan.write_text("config: mp_iqe\ntables: [a]\n")
    assert "tables" in fsiqa(*command).error
