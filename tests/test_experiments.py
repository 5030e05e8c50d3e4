"""The experiments' commands, in miniature."""

import json

import pytest

from fewshot_iqa.config import load_pretrain
from fewshot_iqa.pretraining.captions import is_held_out
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


def test_backbone(fsiqa, miniature, data, tmp_path):
    report = tmp_path / "backbone.json"
    result = fsiqa(
        "experiment", "backbone", "--root", data, "--clip", miniature, "--seeds", 2, "--adapted", 4, "--json", report,
    )  # fmt: skip
    assert result.code == 0, result.error
    found = json.loads(report.read_text())
    assert set(found["ridge"]) == {"10"}
    assert set(found["ridge"]["10"]["within"]) == {"ss01", "ss02"}
    assert set(found["grmp"]["4"]) == set(found["ridge"]["10"])
    assert all(-1 <= value <= 1 for value in found["zero_shot"].values())
    assert found["named"]["distortion"]["pictures"] == 2 * 125
    assert 0 <= found["named"]["content"]["share"] <= 1
    assert found["milliseconds"] > 0
    for word in ("ridge", "ss02", "tid2013", "content", found["clip"]):
        assert word in result.output


def test_what_cannot_be_done_is_said_before_anything_is_done(fsiqa, miniature, data):
    command = ("experiment", "backbone", "--root", data, "--clip", miniature)
    assert "--shots 5000: the training pool holds only 10" in fsiqa(*command, "--adapted", "4,5000").error
    for path in (data / "pristine").iterdir():
        path.rename(path.with_name(f"seen{path.name}"))
    assert "held out of pre-training" in fsiqa(*command).error


def test_a_folder_without_the_data_is_named(fsiqa, miniature, tmp_path):
    result = fsiqa("experiment", "backbone", "--root", tmp_path, "--clip", miniature)
    assert "biq2021: no such folder" in result.error
