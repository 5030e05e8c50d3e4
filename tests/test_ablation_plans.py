"""Each variant of the plans in configs/experiments changes what its name says, and nothing else."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fewshot_iqa.config import CLASSES, AblationSpec, load_config, load_experiment
from fewshot_iqa.images import fixed_views, prepare
from fewshot_iqa.losses import WeightedSum, gradients_by_name
from fewshot_iqa.model.checkpoint import build
from fewshot_iqa.types import Batch
from tests.conftest import seeded


def variants(plan):
    """{table: {variant: configuration}}"""
    spec = load_experiment(f"experiments/{plan}", kind=AblationSpec)
    return {
        table: {name: load_config(spec.config, changes) for name, changes in changed.items()}
        for table, changed in spec.tables.items()
    }


def learned(settings):
    """The shapes of the parameters that the loss moves, by the first two parts of their names."""
    model, loss = build(settings), WeightedSum(settings.loss)
    targets = {"quality": seeded(2), "alignment": seeded(2)}
    targets |= {name: F.one_hot(torch.arange(2), len(of)).float() for name, of in CLASSES.items()}
    batch = Batch(seeded(2, 3, 64, 64), targets, ["a cat", "a dog"])
    params = model.train_only(settings.adapt.trainable)
    output = model(batch.inputs, branches=loss.branches, prompts=batch.prompts)
    moved = gradients_by_name(loss(output, batch.targets), params)
    prompts = {name: value for name, value in moved.items() if name.endswith((".context", ".tokens"))}
    return {".".join(name.split(".")[:2]): tuple(params[name].shape) for name in prompts}


def test_the_ablation_of_mp_iqe():
    tables = {
        table: {name: learned(settings) for name, settings in changed.items()}
        for table, changed in variants("mp_iqe_ablation").items()
    }
    text, vision, layers = 128, 192, 8
    full = {
        "text.scene": (8, text),
        "text.distortion": (8, text),
        "visual.main": (layers, 4, vision),
    }
    without = {part: {name: shape for name, shape in full.items() if name != part} for part in full}
    assert tables["components"] == {
        "full": full,
        "no scene prompts": without["text.scene"],
        "no distortion prompts": without["text.distortion"],
        "no visual prompts": without["visual.main"],
        "shallow visual prompts": full | {"visual.main": (1, 4, vision)},
    }
    lengths = {str(n): full | {f"text.{name}": (n, text) for name in CLASSES} for n in (2, 4, 8, 16)}
    assert tables["length of text prompts"] == lengths
    lengths = {str(n): full | {"visual.main": (layers, n, vision)} for n in (1, 2, 4, 8)}
    assert tables["length of visual prompts"] == lengths


def test_the_branches_of_clip_agiqa():
    tables = variants("agiqa_standin")
    moved = {name: set(learned(settings)) for name, settings in tables["branches"].items()}
    visual = {"visual.main", "visual.align"}
    assert moved == {
        "antonym pair and prompt": {"text.quality", "text.alignment", "text.match"} | visual,
        "antonym pair (the release)": {"text.quality", "text.alignment"} | visual,
        "prompt": {"text.quality", "text.match"} | visual,
        "none": {"text.quality", "visual.main"},
    }


def test_the_study_of_gradient_regularization():
    tables = variants("qgr")
    default = load_config("grmp").adapt.regularizer
    strengths = {name: s.adapt.regularizer for name, s in tables["strength of the regularisation"].items()}
    assert strengths.pop("0") is None
    assert {name: regularizer.strength for name, regularizer in strengths.items()} == {"0.2": 0.2, "1": 1, "5": 5}
    scopes = [settings.adapt.regularizer for settings in tables["projected as one vector"].values()]
    assert scopes == [default.model_copy(update={"scope": scope}) for scope in ("tensor", "layer", "global")]


def test_the_study_of_gradients():
    tables = variants("gradients")
    process = tables["passes over the shots"].pop("none, a Gaussian process")
    assert (process.adapt, process.head.kind, process.head.prompt_mean_weight) == (None, "gp", [1, 0.5])
    schedules = [s.adapt for s in tables["passes over the shots"].values()]
    assert [(s.epochs, s.schedule, s.steps) for s in schedules] == [
        *((passes, "cosine", None) for passes in (8, 4, 16)),
        (8, "constant", None),
        (12, "constant", 40),
    ]
    assert [settings.adapt.lr for settings in tables["learning rate"].values()] == [2e-4, 1e-4, 4e-4]
    assert [settings.adapt.batch for settings in tables["batch"].values()] == [16, 8]
    model = build(load_config("grmp"))
    half, quarter, context, prompts = (set(model.trainable(s.adapt.trainable)) for s in tables["trained"].values())
    assert {name.split(".")[0] for name in context} == {"text"}
    assert {name.split(".")[0] for name in prompts} == {"text", "visual"}
    assert context < quarter < half
    assert {name.split(".")[0] for name in half} == {"text", "clip"}
    assert all(next(iter(each.values())) == load_config("grmp_no_qgr") for each in tables.values())


@pytest.mark.parametrize(
    ("name", "count", "covers"),
    [
        ("five crops", 5, (300, 400)),
        ("one crop", 1, (300, 400)),
        ("eight crops", 8, (300, 400)),
        ("five crops, 384 on the short side", 5, (384, 512)),
        ("the whole picture in one", 1, (224, 224)),
        ("tiles, stride 144", 2 * 3, (300, 400)),
    ],
)
def test_the_views_of_a_picture(name, count, covers):
    settings = variants("views")["views"][name]
    side = 768 if "384" in name else 300  # larger than 384, where that is the size to reduce to
    image = np.zeros((3, side, side * 4 // 3), np.uint8)
    prepared = prepare(image, settings.views)
    assert prepared.shape[1:] == covers
    assert fixed_views(prepared, settings.views).shape == (count, 3, 224, 224)


def test_the_prior_means():
    found = {
        name: (settings.head.synthetic_mean_weight, settings.head.prompt_mean_weight)
        for name, settings in variants("prior")["prior mean"].items()
    }
    linear, none = [0.75], [0.0]
    both = [(linear, [1, 0.5]), (linear, [1])]
    assert list(found.values()) == [*both, (linear, none), ([1], none), (none, [1]), (none, [0.5]), (none, none)]
    sizes = [(settings.views.short_side, settings.views.wide_side) for settings in variants("prior")["views"].values()]
    assert sizes == [(512, 384), (512, None), (384, None)]
