"""What frozen layers compute once, and is kept, changes nothing: against the plain path, which computes it anew."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import fewshot_iqa
from fewshot_iqa import rng
from fewshot_iqa.config import ViewSpec
from fewshot_iqa.data.loading import Loader
from fewshot_iqa.recipes.trunk import Crops
from fewshot_iqa.types import Record, Scale

pytestmark = pytest.mark.filterwarnings("ignore::fewshot_iqa.InputWarning")
UPPER = "text.quality.*, 'clip.visual.transformer.resblocks.1[01].*', clip.visual.ln_post.*, clip.transformer.*"
FUSION = ["model.branches.distortion.windows=2", "head.heads=2"]
SGD = ["adapt.optimizer=sgd", "adapt.lr=0.1"]  # Adam enlarges what rounds to another gradient near zero
METHODS = {
    "grmp": [f"adapt.trainable=[{UPPER}]", "adapt.crops=2", "adapt.steps=6", *SGD],
    "grmp_no_meta": [
        "adapt.trainable=[text.quality.*, clip.transformer.*]",
        "adapt.steps=3",
        *SGD,
    ],  # a teacher, all frozen
    "grmp_gp": ["adapt.trainable=[clip.visual.ln_post.*, clip.visual.proj]", "adapt.crops=1", "adapt.steps=3"],
    "mp_iqe": ["views.random=2", "adapt.crops=3", "adapt.steps=4", *FUSION],
    "clip_agiqa": ["adapt.crops=2", "adapt.steps=4"],
    "linear": ["adapt.crops=2", "adapt.trainable=[head.*, clip.visual.conv1.*]", "adapt.steps=3"],  # nothing is frozen
}


@pytest.fixture
def adapted(gallery, miniature, tmp_path):
    def run(method, *overrides, **given):
        overrides = [
            *(f"clip={miniature}", "views={short_side: 48, crop: 32, count: 5}", "task.alignment_range=[0, 5]"),
            *("adapt.batch=3", *METHODS[method], *overrides),
        ]
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        table = {"labels": gallery, "range": (0, 11), "test": 0.5}
        return fewshot_iqa.adapt(method, shots=5, start="none", out=out, overrides=overrides, **table, **given)

    return run


@pytest.mark.parametrize("method", METHODS)
def test_adaptation_is_that_of_the_plain_path(adapted, method):
    found, plain = adapted(method), adapted(method, "plain=true")
    for name, values in plain.pictures.select_dtypes("number").items():
        np.testing.assert_allclose(found.pictures[name], values, atol=1e-5)
    for name in ("srcc", "rmse"):
        ours, theirs = (result.metrics["trials"][0][name] for result in (found, plain))
        assert ours == pytest.approx(theirs, abs=1e-5)
    ours, theirs = (load_file(result.out / "weights.safetensors") for result in (found, plain))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=1e-4, rtol=1e-4)


def test_a_kept_trunk_is_read_again_from_disk(adapted, encoded, tmp_path):
    first = adapted("grmp", cache=tmp_path / "cache")
    pictures = 5 * len(first.pictures.query("part == 'test'"))
    first_time = encoded["views"]
    encoded.clear()
    again = adapted("grmp", cache=tmp_path / "cache")
    assert encoded["views"] == first_time - pictures
    np.testing.assert_array_equal(first.pictures["predicted_quality"], again.pictures["predicted_quality"])


def test_crops_come_again_and_are_encoded_once(adapted, encoded, tmp_path):
    adapted("grmp", cache=tmp_path / "cache")  # which keeps the trunks of the test pictures
    for crops, views in (("2", 5 * 2), ("3", 5 * 3), ("null", 20 * 3)):
        encoded.clear()
        adapted("grmp", "adapt.steps=20", "adapt.epochs=null", f"adapt.crops={crops}", cache=tmp_path / "cache")
        assert encoded["views"] == views  # seen by model and teacher alike


def test_what_does_not_fit_is_encoded_again():
    records = [Record(Path(f"{i}.png"), i, group=str(i)) for i in range(3)]
    pictures = {record.path: torch.full((3, 40, 40), i, dtype=torch.uint8) for i, record in enumerate(records)}
    loader = Loader(ViewSpec(crop=32), Scale(0, 2), sources=pictures)
    found = []
    for room in (0, 3 * 32 * 32 * 2, 1 << 20):  # none, two, all of them
        encoded = []
        crops = Crops(loader, 2, lambda batch: encoded.append(len(batch.prompts)) or batch, room=room)  # noqa: B023
        drawn = [crops.batch(records, rng.generator(0, step)) for step in range(5)]
        assert all(torch.equal(drawn[0].inputs, drawn[step].inputs) for step in (2, 4))
        assert torch.equal(drawn[1].inputs, drawn[3].inputs)
        found.append(sum(encoded))
    assert found[0] == 3 * 5
    assert found[2] == 3 * 2
    assert found[0] >= found[1] > found[2]
