"""The experiments' commands, in miniature."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from fewshot_iqa.config import load_pretrain
from fewshot_iqa.data.synthetic import kadid_mos
from fewshot_iqa.distortions import DISTORTIONS, LEVELS, distort
from fewshot_iqa.images import read_image, to_float, to_uint8
from fewshot_iqa.metrics import srcc
from fewshot_iqa.model.clip import load_clip
from fewshot_iqa.pretraining.captions import KINDS, is_held_out
from fewshot_iqa.rng import generator
from fewshot_iqa.studies.raters import _by_turns
from fewshot_iqa.types import Record
from tests.conftest import photograph


@pytest.fixture
def data(tmp_path):
    """A folder like the one that the embedded CLIP was trained from, and a BIQ2021 of 14 pictures."""
    root = tmp_path / "data"
    for source in load_pretrain("pretrain").sources:
        (root / source.images).mkdir(parents=True)
        names = [name for name in (f"n01_owl_{i}__x.png" for i in range(200)) if is_held_out(root / name)]
        for i, name in enumerate(names[:2]):
            photograph(i).save(root / source.images / name)
    lines = [f"{name},{caption}" for name in names[:2] for caption in ("An owl.", "A bird.")]
    (root / "semantic/flickr_captions.txt").write_text("\n".join(["image,caption", *lines]))
    (root / "biq2021/Images").mkdir(parents=True)
    for table, rows in (("Train", range(10)), ("Test", range(10, 16))):
        lines = ["Image Name,MOS"]
        for i in rows:
            name = f"ss0{1 + i % 2} ({i}).png"
            photograph(i).save(root / "biq2021/Images" / name)
            lines.append(f"{name},{(7 * i % 16) / 16}")
        (root / f"biq2021/{table} (Images and MOS).csv").write_text("\n".join(lines))
    return root


@pytest.fixture
def found(fsiqa, miniature, data, tmp_path):
    """The experiment's result, which it printed as well."""
    report = tmp_path / "backbone.json"
    result = fsiqa(
        "experiment", "backbone", "--root", data, "--clip", miniature, "--seeds", 2, "--adapted", 4, "--json", report,
    )  # fmt: skip
    assert result.code == 0, result.error
    found = json.loads(report.read_text())
    zero_shot = [f"{value:.3f}" for value in found["zero_shot"].values()]
    for word in ("ridge", "ss02", "tid2013", "content", found["clip"], *zero_shot):
        assert word in result.output
    return found


def classify(clip, images, phrases):
    """Probabilities (B, P) of phrases for the centre crops of uint8 pictures, by the CLIP alone."""
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (clip.mean, clip.std))
    crops = torch.from_numpy(np.stack(images))[:, :, 14:46, 20:52]  # of 60 x 72 pixels
    with torch.no_grad():
        features = F.normalize(clip.encode_image((crops / 255 - mean) / std)[0], dim=-1)
        text = F.normalize(clip.encode_text(clip.tokenize(phrases)), dim=-1)
        return (clip.logit_scale.exp() * features @ text.T).softmax(-1)


def test_zero_shot_results_are_those_of_the_clip_alone(found, miniature, data):
    clip, antonyms = load_clip(miniature), ["Good photo.", "Bad photo."]
    table = pd.read_csv(data / "biq2021/Test (Images and MOS).csv")
    images = [read_image(data / "biq2021/Images" / name) for name in table["Image Name"]]
    assert found["zero_shot"]["biq2021"] == pytest.approx(srcc(classify(clip, images, antonyms)[:, 0], table.MOS))

    clean = sorted((data / "pristine").iterdir())
    cells = [(path, row.name, level) for path in clean for row in DISTORTIONS for level in LEVELS]
    images = []
    for path, name, level in cells:
        noise = generator(0, "distort", path.name, name, level)
        images.append(to_uint8(distort(to_float(read_image(path)), name, level, generator=noise)))
    expected = srcc(classify(clip, images, antonyms)[:, 0], [kadid_mos(name, level) for _, name, level in cells])
    assert found["zero_shot"]["kadid10k"] == pytest.approx(expected, abs=1e-3)
    best = classify(clip, images, [f"a photo with {kind}" for kind in KINDS]).argmax(-1).tolist()
    right = [KINDS[k] == name.replace("_", " ") for k, (_, name, _) in zip(best, cells, strict=True)]
    assert found["named"]["distortion"] == {"share": pytest.approx(np.mean(right)), "names": 26, "pictures": 250}


def test_results_of_learning_are_those_of_adapt(found, fsiqa, miniature, data, tmp_path):
    report = tmp_path / "adapt.json"
    for method, shots, seeds in (("ridge", 10, 1), ("grmp", 4, 3)):
        result = fsiqa(
            "adapt", "--config", method, "--task", "biq2021", "--root", data / "biq2021", "--shots", shots, "--seeds",
            seeds, "--from", "none", "--clip", miniature, "--set", "views.crop=32", "--out", tmp_path / method,
            "--json", report,
        )  # fmt: skip
        assert result.code == 0, result.error
        trials = json.loads(report.read_text())
        (count,) = found[method]
        assert count == str(shots)
        assert found[method][count]["srcc"] == pytest.approx(trials["median"]["srcc"])
        within = {name: row["srcc"] for name, row in trials["median"]["within"].items()}
        assert found[method][count]["within"] == pytest.approx(within)
        assert set(within) == {"ss01", "ss02"}
    assert found["milliseconds"] > 0


def test_what_cannot_be_done_is_said_before_anything_is_done(fsiqa, miniature, data):
    command = ("experiment", "backbone", "--root", data, "--clip", miniature)
    assert "--shots 5000: the training pool holds only 10" in fsiqa(*command, "--adapted", "4,5000").error
    for path in (data / "pristine").iterdir():
        path.rename(path.with_name(f"seen{path.name}"))
    assert "held out of pre-training" in fsiqa(*command).error


def test_a_folder_without_the_data_is_named(fsiqa, miniature, tmp_path):
    result = fsiqa("experiment", "backbone", "--root", tmp_path, "--clip", miniature)
    assert "biq2021: no such folder" in result.error


def test_where_there_is_no_choice_suggested_pictures_are_the_random_ones(fsiqa, eight, quick, tmp_path):
    task = ("experiment", "suggest", "--labels", eight, "--test", "0.5", "--config", "gp", "--seeds", 3, *quick)
    report = tmp_path / "suggest.json"
    result = fsiqa(*task, "--shots", "2", "--json", report)
    assert result.code == 0, result.error
    found = json.loads(report.read_text())
    assert found["table"]["suggested"]["2"] == pytest.approx(found["table"]["random"]["2"], abs=1e-6)
    assert found["over_random"]["2"]["draws"] == 3
    assert "0 of 3" in result.output
    assert "half of the training pool holds 2 pictures" in fsiqa(*task, "--shots", "3").error
    assert "expected whole numbers" in fsiqa(*task, "--shots", "2.5").error
    assert "needs a closed form" in fsiqa(*task[: -len(quick)], *quick, "--shots", "2", "--config", "coop").error


def test_pictures_have_few_and_many_raters_by_turns():
    shots = [Record(Path(f"{i}.png"), 10.0 * i, str(i)) for i in range(3)]
    errors = torch.tensor([[1.0, 9.0], [1.0, 3.0], [2.0, 9.0]])
    found = [(each.rating, each.votes, each.rating_std) for each in _by_turns(shots, errors, (1, 2))]
    assert found == [(1.0, 1, None), (12.0, 2, pytest.approx(2**0.5)), (22.0, 1, None)]


def test_without_noise_several_raters_only_cost_votes(fsiqa, eight, quick, tmp_path):
    task = ("experiment", "raters", "--labels", eight, "--test", "0.5", "--config", "gp", "--seeds", 2, *quick)
    report = tmp_path / "raters.json"
    result = fsiqa(*task, "--votes", "2,4,6", "--per-picture", "1,2", "--noise", 0, "--json", report)
    assert result.code == 0, result.error
    found = json.loads(report.read_text())
    one, two = found["table"]["1"], found["table"]["2"]
    assert one["6"] is None  # the pool holds four pictures
    assert two["2"] is None  # of one picture
    assert two["4"] == pytest.approx(one["2"])
    assert set(found["over_one"]["2"]) == {"4"}
    assert set(found["weights"]) == {"2", "4"}
    assert all(by["by_votes"] == pytest.approx(by["equal"]) for by in found["weights"].values())
    noisy = fsiqa(*task, "--votes", "4", "--per-picture", "1", "--noise", 5, "--json", report)
    assert noisy.code == 0
    found = json.loads(report.read_text())
    assert found["table"]["1"]["4"] != pytest.approx(one["4"])
    assert found["weights"] == {}  # all pictures have one rater
    assert "0 or more" in fsiqa(*task, "--noise", -1).error
