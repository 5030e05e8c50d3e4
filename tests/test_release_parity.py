"""GRMP-IQA and CLIP-AGIQA as their authors released them, number by number, on weights drawn from their own names.

The reference numbers lie in the folder named by the environment variable FSIQA_GOLDEN: every `grmp_*.npz` and
`agiqa_*.npz` there, and `weights.py`, which draws the weights. Without the variable these tests are skipped.
"""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from fewshot_iqa.config import load_config
from fewshot_iqa.inner import Objective, adapt
from fewshot_iqa.losses import WeightedSum, distribution_cross_entropy, soft_cross_entropy
from fewshot_iqa.model.clip import create_clip
from fewshot_iqa.model.quality import QualityModel, zero_shot_teacher
from fewshot_iqa.regularize import project_gradient
from fewshot_iqa.types import Batch

GOLDEN = os.environ.get("FSIQA_GOLDEN")
FILES, AGIQA = ([*Path(GOLDEN).glob(f"{name}_*.npz")] if GOLDEN else [] for name in ("grmp", "agiqa"))
assert (FILES and AGIQA) or not GOLDEN, f"FSIQA_GOLDEN={GOLDEN} holds no grmp_*.npz or no agiqa_*.npz"

pytestmark = pytest.mark.skipif(not GOLDEN, reason="FSIQA_GOLDEN names no folder of reference numbers")

CONTEXT, TOKENS = "text.quality.context", "visual.main.tokens"
PROMPTS = ["text.quality.*", "visual.*"]


def ours(name: str) -> str:
    """The release's parameter name in our words."""
    for theirs, here in (
        ("prompt_learner2.ctx", CONTEXT),
        ("image_encoder.prompt_proj", "visual.main.project"),
        ("image_encoder.prompt_norm", "visual.main.end_norm"),
        ("image_encoder.", "clip.visual."),
        ("text_encoder.", "clip."),
    ):
        if name.startswith(theirs):
            return here + name.removeprefix(theirs)
    raise AssertionError(name)


def look_up(tensors, name):
    """Their tensor `name` out of ours: they keep the first layer's visual prompts apart from the deeper ones."""
    if name == "image_encoder.prompt_embeddings":
        return tensors[TOKENS][:1]
    if name == "image_encoder.deep_prompt_embeddings":
        return tensors[TOKENS][1:]
    return tensors.get(ours(name))


@pytest.fixture(scope="module")
def draw():
    spec = importlib.util.spec_from_file_location("golden_weights", Path(GOLDEN) / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda name, shape: torch.from_numpy(np.array(module.tensor(name, tuple(shape))))


@pytest.fixture(scope="module")
def model(draw):
    config = load_config("grmp_vitb16", ["model.normalize=none"])
    clip = create_clip("ViT-B-16-quickgelu").eval().requires_grad_(False)
    clip.load_state_dict({name: draw(name, value.shape) for name, value in clip.state_dict().items()})
    model = QualityModel(config.model, config.head, clip).eval()
    tokens = model.visual["main"].tokens.shape
    model.load_state_dict(
        {
            CONTEXT: draw("prompt_learner.ctx", (4, 512)),
            TOKENS: torch.cat(
                [
                    draw("visual.prompt_embeddings", (1, *tokens[1:])),
                    draw("visual.deep_prompt_embeddings", (tokens[0] - 1, *tokens[1:])),
                ]
            ),
            **{
                f"visual.main.{mine}.{leaf}": draw(f"visual.{theirs}.{leaf}", shape)
                for mine, theirs, shapes in (
                    ("project", "prompt_proj", {"weight": (768, 768), "bias": (768,)}),
                    ("end_norm", "prompt_norm", {"weight": (768,), "bias": (768,)}),
                )
                for leaf, shape in shapes.items()
            },
        },
        strict=False,
    )
    return model


@pytest.fixture(scope="module", params=FILES, ids=lambda path: path.stem)
def golden(request):
    return np.load(request.param)


def images_of(seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((3, 3, 224, 224), dtype=np.float32))


@pytest.fixture(scope="module")
def batch(golden):
    return Batch(images_of(int(golden["seed"])), {"quality": torch.from_numpy(golden["y"])[:, 0]})


@pytest.fixture(scope="module")
def teacher(model, batch):
    with torch.no_grad():
        return zero_shot_teacher(model.spec, "scene", model.clip)(batch.inputs)


def close(actual, expected, tolerance):
    np.testing.assert_allclose(np.asarray(actual.detach()), expected, rtol=0, atol=tolerance)


def test_tokens_are_exact(model, golden):
    for branch, expected in (("quality", golden["tokens"]), ("scene", golden["scene_tokens"])):
        tokens = model.text[branch].tokens
        padded = torch.zeros(expected.shape, dtype=torch.long)
        padded[:, : tokens.shape[1]] = tokens
        assert (padded.numpy() == expected).all()


def test_features_logits_and_losses(model, golden, batch, teacher):
    with torch.no_grad():
        output = model(batch.inputs, branches=["scene"])
        close(output.embeddings["main"], golden["image_features"], 1e-5)
        close(model.encode_prompts().text["quality"], golden["text_features"], 1e-5)
        close(output.logits["quality"], golden["logits"], 1e-4)
        close(output.logits["scene"], golden["scene_logits"], 1e-4)
        close(output.logits["quality"].softmax(-1), golden["prob"], 1e-5)
        close(output.mean, golden["prob"][:, 0], 1e-5)
        close(soft_cross_entropy(output.logits["quality"], batch.targets["quality"]), golden["xe"], 1e-5)
        semantic = distribution_cross_entropy(output.logits["scene"], teacher.logits["scene"].softmax(-1))
        close(semantic, golden["kl"], 1e-5)


def test_teacher_is_plain_clip(model, golden, batch, teacher):
    close(teacher.embeddings[""], golden["teacher_image_features"], 1e-5)
    close(teacher.logits["scene"], golden["teacher_scene_logits"], 1e-4)
    phrases = model.clip.tokenize(["a photo with high quality.", "a photo with low quality."])
    with torch.no_grad():
        text = torch.nn.functional.normalize(model.clip.encode_text(phrases), dim=-1)
    close(model.clip.logit_scale.exp() * teacher.embeddings[""] @ text.T, golden["teacher_logits"], 1e-4)


def gradients(model, batch, teacher, trainable):
    params = model.train_only(trainable)
    output = model(batch.inputs, branches=["scene"])
    quality = soft_cross_entropy(output.logits["quality"], batch.targets["quality"])
    semantic = distribution_cross_entropy(output.logits["scene"], teacher.logits["scene"].softmax(-1))

    def grad(loss, retain):
        values = torch.autograd.grad(loss, list(params.values()), retain_graph=retain, allow_unused=True)
        return {name: value for name, value in zip(params, values, strict=True) if value is not None}

    result = grad(quality, True), grad(semantic, False)
    model.requires_grad_(False)
    return result


def check_summaries(golden, prefix, tensors):
    checked = 0
    for key in (key for key in golden if key.startswith(prefix)):
        norm, first, last, _ = golden[key]
        value = look_up(tensors, key.removeprefix(prefix))
        if value is None:
            assert norm == 0, key
            continue
        np.testing.assert_allclose(value.norm(), norm, rtol=1e-3, err_msg=key)
        for mine, theirs in ((value.flatten()[0], first), (value.flatten()[-1], last)):
            np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5 * norm, err_msg=key)
        checked += 1
    assert checked


def test_fine_tuning_gradients(model, golden, batch, teacher):
    trainable = load_config("grmp_vitb16").adapt.trainable
    task, anchor = gradients(model, batch, teacher, trainable)
    assert set(task) == {ours(key.removeprefix("Gd/")) for key in golden if key.startswith("Gd/")}
    check_summaries(golden, "Gd/", task)
    check_summaries(golden, "Gg/", anchor)
    check_summaries(golden, "Gqgr1/", project_gradient(task, anchor, 1.0))
    check_summaries(golden, "Gqgr5/", project_gradient(task, anchor, 5.0))


def test_prompt_gradients(model, golden, batch, teacher):
    task, anchor = gradients(model, batch, teacher, PROMPTS)
    check_summaries(golden, "prompt_Gd/", task)
    check_summaries(golden, "prompt_Gg/", anchor)


def test_bilevel_steps(model, golden, batch):
    seed = int(golden["seed"])
    y = torch.from_numpy(np.random.default_rng(150 + seed).random((3, 1), dtype=np.float32))[:, 0]
    second = Batch(images_of(seed + 50), {"quality": y})
    loss = WeightedSum(load_config("grmp_vitb16").loss)
    params = model.train_only(PROMPTS)
    spec = load_config("grmp_vitb16").meta
    adapted, losses = adapt(Objective(model, loss), params, (batch, second), spec)
    np.testing.assert_allclose(losses, golden["bilevel_losses"], atol=1e-4)
    delta = {name: params[name] - adapted[name] for name in params}
    for key in (key for key in golden if key.startswith("bilevel_delta/")):
        value = look_up(delta, key.removeprefix("bilevel_delta/"))
        np.testing.assert_allclose(value.detach().norm(), golden[key][0], rtol=1e-2, err_msg=key)
    with torch.no_grad():
        after = torch.func.functional_call(model, adapted, (batch.inputs,))
    close(after.logits["quality"], golden["logits_after_bilevel"], 2e-2)


BRANCHES = {"quality": ("main", "prompt_learner_tar."), "alignment": ("align", "prompt_learner_aux.")}


def their_prompts(model):
    """{our parameter: their tensors, one or a list of one per layer}; the maps of the link are apart, in both."""
    found = {}
    for branch, (visual, learner) in BRANCHES.items():
        found[f"text.{branch}.context"] = f"{learner}ctx"
        found[f"text.{branch}.deeper"] = [f"{learner}prompts_text.{i}" for i in range(11)]
        found[f"visual.{visual}.tokens"] = [f"{learner}prompts_vis.{i}" for i in range(12)]
    for i in range(12):
        theirs = "proj" if i == 0 else f"compound_prompt_projections.{i - 1}"
        found |= {f"visual.main.link.{i}.{leaf}": f"prompt_learner_tar.{theirs}.{leaf}" for leaf in ("weight", "bias")}
    return found


@pytest.fixture(params=AGIQA, ids=lambda path: path.stem)
def agiqa(request):
    return np.load(request.param)


@pytest.fixture
def generated(draw):
    """CLIP-AGIQA on the stand-in weights."""
    config = load_config("clip_agiqa", ["model.normalize=none"])
    clip = create_clip("ViT-B-32-quickgelu").eval().requires_grad_(False)
    clip.load_state_dict({name: draw(name, value.shape) for name, value in clip.state_dict().items()})
    model = QualityModel(config.model, config.head, clip).eval()
    params = model.train_only(config.adapt.trainable)
    assert set(params) == set(their_prompts(model))
    with torch.no_grad():
        for name, theirs in their_prompts(model).items():
            one, shape = isinstance(theirs, str), params[name].shape
            parts = [draw(f"agiqa.{each}", shape if one else shape[1:]) for each in ([theirs] if one else theirs)]
            params[name].copy_(parts[0] if one else torch.stack(parts))
    return model, params, WeightedSum(config.loss)


def agiqa_batch(agiqa):
    targets = {"quality": torch.from_numpy(agiqa["y"])[:, 0], "alignment": torch.from_numpy(agiqa["y_align"])[:, 0]}
    return Batch(images_of(int(agiqa["seed"])), targets)


def test_agiqa_tokens_and_scores(generated, agiqa):
    model, _, _ = generated
    for branch, expected in (("quality", agiqa["tokens_quality"]), ("alignment", agiqa["tokens_align"])):
        tokens = model.text[branch].tokens.numpy()
        assert (expected[:, : tokens.shape[1]] == tokens).all()
        assert not expected[:, tokens.shape[1] :].any()
    with torch.no_grad():
        output = model(agiqa_batch(agiqa).inputs, branches=["alignment"])
    close(output.mean, agiqa["score"][:, 0], 1e-5)
    close(output.logits["alignment"].softmax(-1)[:, 0], agiqa["alignment"][:, 0], 1e-5)


def test_agiqa_losses_gradients_and_a_step(generated, agiqa):
    model, params, loss = generated
    batch = agiqa_batch(agiqa)
    output = model(batch.inputs, branches=loss.branches)
    for branch, expected in (("quality", agiqa["loss"]), ("alignment", agiqa["aux_loss"])):
        value = torch.nn.functional.mse_loss(output.logits[branch].softmax(-1)[:, 0], batch.targets[branch])
        close(value, expected, 1e-5)
    total = loss(output, batch.targets)
    close(total, agiqa["loss"] + 0.1 * agiqa["aux_loss"], 1e-5)
    total.backward()
    for name, theirs in their_prompts(model).items():
        one = isinstance(theirs, str)
        gradients = [params[name].grad] if one else params[name].grad
        for key, gradient in zip([theirs] if one else theirs, gradients, strict=True):
            norm, first, last, _ = agiqa[f"grad/{key}"]
            assert gradient.norm().item() == pytest.approx(norm, rel=1e-3), key
            ends = torch.stack([gradient.flatten()[0], gradient.flatten()[-1]])
            close(ends, [first, last], 1e-3 * norm)
    torch.optim.Adam(params.values(), lr=1e-4).step()
    with torch.no_grad():
        output = model(batch.inputs, branches=["alignment"])
    close(output.mean, agiqa["score_after_step"][:, 0], 2e-2)
    close(output.logits["alignment"].softmax(-1)[:, 0], agiqa["alignment_after_step"][:, 0], 2e-2)
