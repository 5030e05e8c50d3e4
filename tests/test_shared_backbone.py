"""One backbone a process: models share its tensors, and none changes another's."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from fewshot_iqa.config import load_config
from fewshot_iqa.finetune import finetune
from fewshot_iqa.losses import WeightedSum
from fewshot_iqa.model import checkpoint
from fewshot_iqa.model.clip import load_clip, shared_clip
from fewshot_iqa.model.quality import zero_shot_teacher
from fewshot_iqa.types import Batch
from tests.conftest import seeded

TUNED = ["text.quality.*", "clip.visual.ln_post.*", "clip.visual.proj", "clip.transformer.resblocks.3.*"]


@pytest.fixture
def settings(small):
    return load_config("grmp", [*small, f"adapt.trainable=[{', '.join(TUNED)}]", "adapt.lr=1e-2"])


@pytest.fixture
def images():
    return seeded(3, 3, 32, 32)


def towers(model):
    return {name: value.clone() for name, value in model.clip.state_dict().items()}


def places(model):
    """Where the tensors of the towers lie in memory."""
    return {name: value.data_ptr() for name, value in model.clip.state_dict().items()}


def train(model, settings, images, teacher=None):
    spec = settings.adapt.of_steps(3)
    params = model.train_only(spec.trainable)
    batches = [Batch(images, {"quality": seeded(3)})] * 3
    finetune(model, params, batches, WeightedSum(settings.loss), spec, teacher=teacher)


def test_models_of_one_clip_share_its_tensors(settings, miniature):
    one, two = checkpoint.build(settings), checkpoint.build(settings)
    other = checkpoint.build(load_config("coop", [f"clip={miniature}", "views={crop: 32, count: 1}"]))
    teacher = zero_shot_teacher(settings.model, "scene", shared_clip(miniature))
    assert places(one) == places(two) == places(other) == places(teacher)
    assert all(not value.requires_grad for value in one.clip.parameters())
    assert one.text["quality"].context.data_ptr() != two.text["quality"].context.data_ptr()


def test_a_model_lies_where_its_clip_lies(settings, miniature):
    clip = shared_clip(miniature, "meta")  # a device that every machine has beside the CPU
    for model in (checkpoint.build(settings, "meta"), zero_shot_teacher(settings.model, "scene", clip)):
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        assert {name: value.device.type for name, value in tensors.items() if value.device.type != "meta"} == {}


def test_training_changes_no_other_model_and_no_teacher(settings, miniature, images):
    one, two = checkpoint.build(settings), checkpoint.build(settings)
    teacher = zero_shot_teacher(settings.model, "scene", shared_clip(miniature))
    pristine, before = load_clip(miniature).state_dict(), two(images).mean
    scenes = teacher(images).logits["scene"]
    train(one, settings, images, teacher)
    tuned = {name.removeprefix("clip.") for name in one.tuned}
    assert tuned >= {"visual.proj", "visual.ln_post.weight", "transformer.resblocks.3.mlp.c_fc.weight"}
    moved = {name for name, value in one.clip.state_dict().items() if not torch.equal(value, pristine[name])}
    assert moved
    assert moved <= tuned
    for model in (two, teacher, checkpoint.build(settings)):
        assert all(torch.equal(value, pristine[name]) for name, value in towers(model).items())
        assert not any(value.requires_grad for value in model.clip.parameters())
    assert torch.equal(two(images).mean, before)
    assert torch.equal(teacher(images).logits["scene"], scenes)
    shared = {name for name, place in places(one).items() if place == places(two)[name]}
    assert shared == pristine.keys() - tuned  # the rest is still held once


def test_two_models_are_trained_side_by_side_as_each_alone(settings, images):
    def fresh():
        torch.manual_seed(0)
        return checkpoint.build(settings)

    alone = fresh()
    torch.manual_seed(1)
    train(alone, settings, images, zero_shot_teacher(settings.model, "scene", alone.clip.share()))
    first, second = fresh(), fresh()
    train(first, settings, images * 0.5, zero_shot_teacher(settings.model, "scene", first.clip.share()))
    torch.manual_seed(1)
    train(second, settings, images, zero_shot_teacher(settings.model, "scene", second.clip.share()))
    for name, value in alone.state_dict().items():
        assert_close(second.state_dict()[name], value, msg=name)


def test_a_checkpoint_with_tuned_towers_changes_no_other_model(settings, miniature, images, tmp_path):
    one, two = checkpoint.build(settings), checkpoint.build(settings)
    train(one, settings, images, zero_shot_teacher(settings.model, "scene", shared_clip(miniature)))
    checkpoint.save(tmp_path / "tuned", one, settings, {})
    pristine, before = load_clip(miniature).state_dict(), two(images).mean
    loaded, _, found = checkpoint.load(tmp_path / "tuned")
    assert set(found["tuned"]) == one.tuned == loaded.tuned
    assert_close(loaded(images).mean, one(images).mean)
    again = checkpoint.build(settings)
    checkpoint.overlay(again, tmp_path / "tuned")
    assert_close(again(images).mean, one(images).mean)
    for model in (two, checkpoint.build(settings)):
        assert all(torch.equal(value, pristine[name]) for name, value in towers(model).items())
    assert torch.equal(two(images).mean, before)
    assert loaded.fingerprint() == one.fingerprint() != two.fingerprint()


def test_a_clip_whose_file_changes_is_read_again(miniature, tmp_path):
    architecture, _, weights = miniature.rpartition(":")
    content = load_file(weights)
    save_file(content, tmp_path / "own.safetensors")
    name = f"{architecture}:{tmp_path / 'own.safetensors'}"
    first = shared_clip(name)
    assert shared_clip(name).fingerprint == first.fingerprint == shared_clip(miniature).fingerprint
    save_file({key: 1.5 * value for key, value in content.items()}, tmp_path / "own.safetensors")
    assert shared_clip(name).fingerprint != first.fingerprint


def test_converting_a_model_changes_no_other(settings, images):
    one, two = checkpoint.build(settings), checkpoint.build(settings)
    before = two(images).mean
    one.double()
    assert one(images.double()).mean.dtype == torch.float64
    assert_close(two(images).mean, before, rtol=0, atol=0)
    assert checkpoint.build(settings).clip.logit_scale.dtype == torch.float32
