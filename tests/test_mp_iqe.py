"""MP-IQE: its two alignments, its decoder, its targets, and what it explains."""

import csv
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from fewshot_iqa import rng
from fewshot_iqa.config import CLASSES, ViewSpec, load_config, load_task, with_overrides
from fewshot_iqa.data.labels import _rows, classes_of
from fewshot_iqa.data.loading import Loader
from fewshot_iqa.data.readers import read_table
from fewshot_iqa.data.synthetic import synthetic_records
from fewshot_iqa.data.targets import distributions
from fewshot_iqa.errors import InputError
from fewshot_iqa.finetune import finetune
from fewshot_iqa.images import assemble, fixed_views
from fewshot_iqa.losses import WeightedSum, label_cross_entropy
from fewshot_iqa.model.checkpoint import build, facts
from fewshot_iqa.model.clip import load_clip
from fewshot_iqa.model.heads import FusionHead, FusionLayer, attend, pool_windows
from fewshot_iqa.types import Batch, Record, Scale
from tests.conftest import photograph, seeded, sets


@pytest.fixture
def overrides(miniature):
    return [
        f"clip={miniature}",
        "views={crop: 32, count: 1}",
        "model.branches.distortion.windows=2",
        "model.fusion.heads=2",
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
    with rng.scoped(0, "model"):
        return build(settings)


def batch(n: int) -> Batch:
    targets = {"quality": seeded(n)}
    targets |= {name: F.one_hot(torch.arange(n) % len(of), len(of)).float() for name, of in CLASSES.items()}
    return Batch(seeded(n, 3, 32, 32), targets)


def test_what_is_learned(miniature):
    model = build(load_config("mp_iqe", [f"clip={miniature}", "views.crop=32", "model.fusion.heads=2"]))
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


def test_the_loss_is_the_papers(settings, model):
    some = batch(3)
    with torch.no_grad():
        output = model(some.inputs, branches=["scene", "distortion"])
        total = WeightedSum(settings.loss)(output, some.targets).item()
    parts = [label_cross_entropy(output.logits[name], some.targets[name]).item() for name in CLASSES]
    error = np.abs(output.mean.numpy() - some.targets["quality"].numpy())
    huber = np.where(error < 1, error**2 / 2, error - 0.5).mean()
    assert total == pytest.approx(sum(parts) + 0.5 * huber, rel=1e-5)


def test_the_decoder_by_its_gradient():
    with rng.scoped(0, "head"):
        head = FusionHead(6, 4, layers=2, heads=2).double()
    phrases, tokens = seeded(3, 4).double().requires_grad_(), seeded(2, 5, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(head, (phrases, tokens))
    each = torch.stack([head(phrases, one[None])[0] for one in tokens])
    assert torch.allclose(head(phrases, tokens), each)
    assert torch.allclose(head(phrases.flip(0), tokens), head(phrases, tokens))


def test_a_layer_of_the_decoder_is_the_papers():
    """Equations 12 to 14, attention written out."""
    with rng.scoped(0, "layer"):
        layer = FusionLayer(4, heads=1).double()
    queries, tokens = seeded(1, 3, 4).double(), seeded(1, 5, 4).double() - 0.5

    def attention(module, asked, told):
        q, k, v = (
            x @ w.T + b
            for x, w, b in zip(
                (asked, told, told), module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3), strict=True
            )
        )
        return module.out_proj((q @ k.mT / 2).softmax(-1) @ v)

    asked = layer.norm_self(queries)
    between = attention(layer.self_attention, asked, asked) + queries
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


def test_it_learns_sixteen_pictures_and_leaves_the_towers_alone(miniature, settings, model):
    some, before = batch(16), load_clip(miniature).state_dict()
    some = Batch(some.inputs * seeded(16, 3, 1, 1), some.targets)  # of sixteen colours
    spec = settings.adapt.model_copy(update={"steps": 250, "lr": 1e-2})
    loss, told = WeightedSum(settings.loss), []
    params = model.train_only(spec.trainable)
    finetune(model, params, [some] * spec.steps, loss, spec, log=lambda one: told.append(one["loss"]))
    with torch.no_grad():
        output = model(some.inputs)
    assert told[-1] < told[0] / 3
    assert (output.mean - some.targets["quality"]).abs().max() < 0.02
    assert (output.logits["scene"].argmax(1) == some.targets["scene"].argmax(1)).float().mean() > 0.5
    after = model.clip.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_rate_rises_and_falls(settings, model):
    rates = []

    class Watched(torch.optim.Adam):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    spec = settings.adapt.model_copy(update={"steps": 10, "warmup": 3, "lr": 1.0, "optimizer": "adam"})
    original, torch.optim.Adam = torch.optim.Adam, Watched
    try:
        params = {"w": torch.nn.Parameter(torch.zeros(()))}

        class One(torch.nn.Module):
            def forward(self, images, branches=(), prompts=()):
                return type("O", (), {"quality": params["w"] + images.mean(dim=(1, 2, 3)), "logits": {}})

        quality = load_config("coop").loss
        finetune(One(), params, [batch(2)] * 10, WeightedSum(quality), spec)
    finally:
        torch.optim.Adam = original
    cosine = [(1 + math.cos(math.pi * i / 7)) / 2 for i in range(7)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, *cosine])


def test_labels_become_distributions():
    def record(**more):
        return Record(path=None, rating=0, group="", **more)

    records = [
        record(scene=("animal", "night"), distortion="realistic blur"),
        record(scene=("unheard of",), distortion="jpeg+darken"),
        record(),
    ]
    scenes, faults = distributions(records, "scene"), distributions(records, "distortion")
    assert scenes[0, [0, 5]].tolist() == [0.5, 0.5]
    assert scenes.sum(dim=1).tolist() == [1, 0, 0]
    assert faults[0].argmax() == CLASSES["distortion"].index("blur")
    two = [CLASSES["distortion"].index(name) for name in ("jpeg", "underexposure")]
    assert faults[1, two].tolist() == [0.5, 0.5]
    assert faults.sum(dim=1).tolist() == [1, 1, 0]


def test_every_type_of_kadid_has_its_class(photographs):
    by_class = {
        "jpeg2000": [9], "jpeg": [10], "noise": [11, 12, 13, 14, 15], "blur": [1, 2, 3, 5], "color": [4, 7, 8],
        "contrast": [24, 25], "overexposure": [16], "underexposure": [17], "spatial": [19, 20, 21, 23],
        "quantization": [6, 22], "other": [18],
    }  # fmt: skip
    records = synthetic_records(with_overrides(load_task("synthetic"), root=photographs, levels=[1], hold_out=[]))[:25]
    found = distributions(records, "distortion").argmax(dim=1).tolist()
    expected = {i: name for name, types in by_class.items() for i in types}
    assert [CLASSES["distortion"][i] for i in found] == [expected[i] for i in range(1, 26)]


def test_annotations_as_liqe_has_them(table, tmp_path):
    labels = table([{"image": f"photo{i}.png", "score": i} for i in range(3)])
    (tmp_path / "liqe.txt").write_text(
        "a/photo0.png\t1.5\trealistic blur\tanimal\tnight\tinvalid\n"
        "b/photo1.png\t1.5\twhite noise\tplant\tinvalid\tinvalid\n"
    )
    task = with_overrides(load_task("csv"), labels=labels, root=tmp_path, annotations=["liqe.txt"])
    records = read_table(task)
    assert [record.scene for record in records] == [("animal", "night"), ("plant",), ()]
    assert [record.distortion for record in records] == ["realistic blur", "white noise", None]
    batch = next(iter(Loader(ViewSpec(crop=32), Scale(0, 2)).fixed_batches(records)))
    assert batch.targets["scene"].sum(dim=1).tolist() == [1, 1, 0]
    (tmp_path / "liqe.txt").write_text("photo0.png,1.5,blur\n")
    with pytest.raises(InputError, match=r"liqe.txt, row 1: expected path, score, distortion"):
        read_table(task)


def test_folders_tell_annotated_pictures_apart(tmp_path):
    rows = []
    for folder in ("jp2k", "gblur"):
        (tmp_path / folder).mkdir()
        photograph(0).save(tmp_path / folder / "img1.png")
        rows.append(f"{folder}/img1.png")
    (tmp_path / "t.csv").write_text("image,score\n" + "".join(f"{row},{i}\n" for i, row in enumerate(rows)))
    (tmp_path / "a.txt").write_text("".join(f"{row}\t1\t{row[:4]}\tanimal\tinvalid\tinvalid\n" for row in rows))
    records = read_table(with_overrides(load_task("csv"), labels=tmp_path / "t.csv", annotations=[tmp_path / "a.txt"]))
    assert [record.distortion for record in records] == ["jp2k", "gblu"]
    (tmp_path / "a.txt").write_text("jp2k/img1.png\t1\tjp2k\tanimal\tinvalid\tinvalid\n")
    records = read_table(with_overrides(load_task("csv"), labels=tmp_path / "t.csv", annotations=[tmp_path / "a.txt"]))
    assert [record.distortion for record in records] == ["jp2k", None]


def test_commands_explain_what_they_see(fsiqa, overrides, table, tmp_path):
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


def test_what_lacks_labels_learns_from_the_rest(fsiqa, overrides, rated, tmp_path):
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
        learned.add(facts(out)["labels"]["scene"])
        assert ("no picture has a known label of its scene" in result.error) == (not facts(out)["labels"]["scene"])
    assert learned == {0, 1}


def test_it_is_meta_trained_like_any_method(fsiqa, overrides, photographs, tmp_path):
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


def test_what_other_methods_cannot_explain(fsiqa, miniature, rated, tmp_path):
    out = tmp_path / "out"
    quick = sets([f"clip={miniature}", "views.crop=32", "views.count=1"])
    assert (
        fsiqa("adapt", "--config", "ridge", "--task", "csv", "--labels", rated, "--shots", 3, "--out", out, *quick).code
        == 0
    )
    result = fsiqa("score", out, tmp_path / "photo0.png", "--explain")
    assert "--explain: this method has learned no phrases" in result.error
    result = fsiqa("score", out, tmp_path / "photo0.png", "--map", tmp_path / "map.png")
    assert "--map: this method has learned no phrases that look at windows" in result.error


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.fusion.branches=[scene, blur]", "no branch with phrases is named 'blur'"),
        ("model.fusion=null", "model.fusion: goes with"),
        ("model.branches.scene.phrases=[a., b.]", "has not 9 phrases"),
        ("model.branches.scene.visual=null", "the same visual set"),
        ("loss=[{kind: cross_entropy, branch: scene}]", "cross_entropy needs a target"),
        ("loss=[{kind: smooth_l1, branch: scene}]", "smooth_l1 is on the quality"),
        ("model.fusion.heads=3", "do not divide"),
    ],
)
def test_wrong_settings(overrides, override, message):
    with pytest.raises(InputError, match=message):
        build(load_config("mp_iqe", [*overrides, override]))


def test_maps_cover_the_picture():
    views = ViewSpec(crop=32, stride=32)
    image = torch.zeros(3, 48, 32, dtype=torch.uint8)
    count = len(fixed_views(image, views))
    maps = torch.arange(count * 4.0).view(count, 2, 2)
    whole = assemble(maps, image, views)
    assert whole.shape == (48, 32)
    assert whole[0, 0] == 0
    assert whole[47, 31] == 7
    assert whole[20, 0] == (2 + 4) / 2  # the second row of the first view, the first of the second


def test_eight_views_are_eight_places():
    image = torch.arange(64 * 96, dtype=torch.int32).view(1, 64, 96).expand(3, -1, -1)
    views = fixed_views(image, ViewSpec(crop=32, count=8))
    corners = {divmod(int(view[0, 0, 0]), 96) for view in views}
    assert corners == {(y, x) for y in (0, 16, 32) for x in (0, 32, 64)} - {(16, 32)}


def test_training_takes_several_views_of_a_picture(photographs):
    records = [Record(photographs / f"photo{i}.png", i, f"{i}") for i in range(2)]
    batch = Loader(ViewSpec(crop=32, random=3), Scale(0, 1)).random_batch(records, rng.generator(0))
    assert batch.inputs.shape == (6, 3, 32, 32)
    assert batch.targets["quality"].tolist() == [0, 0, 0, 1, 1, 1]
    assert not torch.equal(batch.inputs[0], batch.inputs[1])


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
    assert tables["length"]["4"] == tables["components"]["full"]  # computed once
    assert len(list(out.glob("*seed*.json"))) == 3 * 2
    assert tables["components"]["full"]["median"]["distortion_accuracy"] in (0, 0.5, 1)
    assert "sets this itself" in fsiqa(*command, "--set", "model.visual.main.length=3").error
    rows[0]["distortion"] = "darken"
    table(rows)
    assert "holds results of another ratings" in fsiqa(*command).error
    plan.write_text("config: mp_iqe\ntables: [a]\n")
    assert "tables" in fsiqa(*command).error


@pytest.mark.skipif(not os.environ.get("FSIQA_DATA"), reason="FSIQA_DATA names no folder of label files")
def test_liqes_own_files_have_known_words_only():
    files = sorted((Path(os.environ["FSIQA_DATA"]) / "labels" / "liqe").glob("*.txt"))
    assert len(files) == 18
    for file in files:
        for name, distortion, scenes in _rows(file):
            record = Record(Path(name), 0, "", distortion=distortion, scene=tuple(scenes))
            assert len(classes_of(record, "distortion")) == 1, (name, distortion)
            assert len(classes_of(record, "scene")) == len(scenes) > 0, (name, scenes)


def test_released_tables_with_annotations(tmp_path):
    (tmp_path / "images").mkdir()
    for i in (1, 2):
        photograph(i).save(tmp_path / "images" / f"I0{i}_01_05.png")
    rows = [f"I0{i}_01_05.png,I0{i}.png,{i}.5,0.1" for i in (1, 2)]
    (tmp_path / "dmos.csv").write_text("\n".join(["dist_img,ref_img,dmos,var", *rows]) + "\n")
    (tmp_path / "liqe.txt").write_text("images/I01_01_05.png\t1.5\tgaussian blur\tplant\tinvalid\tinvalid\n")
    records = read_table(with_overrides(load_task("kadid10k"), root=tmp_path, annotations=[tmp_path / "liqe.txt"]))
    assert [record.group for record in records] == ["I01.png", "I02.png"]
    assert [classes_of(record, "distortion") for record in records] == [[0], []]
    (tmp_path / "1024x768").mkdir()
    photograph(0).save(tmp_path / "1024x768" / "7.jpg")
    (tmp_path / "koniq10k_scores_and_distributions.csv").write_text("image_name,c1,MOS\n7.jpg,0,3.5\n")
    (record,) = read_table(with_overrides(load_task("koniq10k"), root=tmp_path))
    assert (record.path.name, record.rating) == ("7.jpg", 3.5)
