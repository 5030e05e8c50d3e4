"""Checkpoints that come from others: what is in them is checked, and they reach for nothing outside."""

import json
import os
import shutil
import socket
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import fewshot_iqa
from fewshot_iqa.errors import InputError
from fewshot_iqa.model import checkpoint, clip, named
from fewshot_iqa.model.clip import create_clip, load_clip
from fewshot_iqa.resources import SHIPPED
from tests.conftest import MINIATURE


@pytest.fixture
def received(tmp_path):
    """A copy of the shipped checkpoint, without hashes, as former versions wrote it."""
    folder = tmp_path / "received"
    shutil.copytree(SHIPPED, folder, ignore=shutil.ignore_patterns("*.onnx"))
    change(folder, sha256=None)
    return folder


@pytest.fixture
def refused(fsiqa, photographs):
    def run(folder, *more):
        result = fsiqa("score", folder, photographs / "photo0.png", *more)
        assert result.code == 2
        assert result.error.startswith("fsiqa: ")
        assert result.error.count("\n") == 1
        return result.error

    return run


def change(folder, **values):
    """Set keys of a provenance; None takes one away."""
    path = folder / "provenance.json"
    found = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def configure(folder, **values):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))


def weigh(folder, **tensors):
    """Set tensors of the weights; None takes one away."""
    path = folder / "weights.safetensors"
    found = load_file(path) | {name.replace("__", "."): value for name, value in tensors.items()}
    save_file({name: value for name, value in found.items() if value is not None}, path)


CONTEXT = (4, 128)  # of the shipped prompts


def test_the_shipped_checkpoint_is_what_its_provenance_names():
    found = checkpoint.provenance(SHIPPED)
    assert found["sha256"].keys() == {"config.yaml", "weights.safetensors"}
    assert load_file(SHIPPED / "weights.safetensors")["text.quality.context"].shape == CONTEXT
    checkpoint.load(SHIPPED)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full(CONTEXT, float("nan")), "holds NaN or infinity"),
        (torch.full(CONTEXT, float("inf")), "holds NaN or infinity"),
        (torch.full(CONTEXT, float("nan"), dtype=torch.float16), "holds NaN or infinity"),
        (torch.zeros(CONTEXT, dtype=torch.complex64), "holds torch.complex64"),
        (torch.zeros(CONTEXT, dtype=torch.int64), "holds torch.int64"),
        (torch.zeros(5, 128), "is (5, 128), this model's is (4, 128)"),
        (torch.zeros(()), "is (), this model's is (4, 128)"),
        (None, "lacks text.quality.context"),
    ],
)
def test_weights_that_are_none(received, refused, value, message):
    weigh(received, text__quality__context=value)
    assert message in refused(received)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("head.hyperparameters", torch.zeros(3), "head.hyperparameters is (3,)"),
        ("head.train_x", torch.zeros(2, 3), "head.train_x is (2, 3)"),
        ("head.train_y", torch.zeros(5), "are of different numbers of shots"),
        ("head.prior_bias", torch.tensor(float("nan"), dtype=torch.float64), "holds NaN"),
        ("other", torch.zeros(1), "holds other, which this model has not"),
    ],
)
def test_heads_that_are_none(received, refused, name, value, message):
    weigh(received, **{name: value})
    assert message in refused(received)


def test_files_that_are_no_weights(received, refused):
    path = received / "weights.safetensors"
    for content in (b"", b"cut", (2**40).to_bytes(8, "little") + b"{}", b"\x02" + bytes(7) + b"{}" + b"more"):
        path.write_bytes(content)
        assert "weights.safetensors: not readable" in refused(received)


@pytest.mark.skipif(os.name == "nt", reason="a file of a terabyte with nothing in it")
@pytest.mark.parametrize("name", ["weights.safetensors", "provenance.json", "config.yaml"])
def test_files_of_absurd_size_are_not_read(received, refused, name):
    os.truncate(received / name, 2**40)
    assert f"{name}: has 1099511627776 bytes" in refused(received)


@pytest.mark.parametrize("name", ["config.yaml", "weights.safetensors"])
def test_a_changed_byte_is_found(tmp_path, refused, name):
    shutil.copytree(SHIPPED, tmp_path / "copy", ignore=shutil.ignore_patterns("*.onnx"))
    content = bytearray((tmp_path / "copy" / name).read_bytes())
    content[-2] ^= 1
    (tmp_path / "copy" / name).write_bytes(content)
    assert f"{name}: not readable as the file that provenance.json was written with" in refused(tmp_path / "copy")


def test_ends_of_lines_are_no_change(tmp_path):
    shutil.copytree(SHIPPED, tmp_path / "copy", ignore=shutil.ignore_patterns("*.onnx"))
    path = tmp_path / "copy" / "config.yaml"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    checkpoint.load(tmp_path / "copy")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"base": None}, "lacks base"),
        ({"base": 3}, "base is 3, and should be of type str"),
        ({"scale": [float("nan"), 1]}, "NaN is no number of JSON"),
        ({"scale": [1, 1]}, "scale is [1, 1]"),
        ({"scale": [0, 1, 2]}, "scale is [0, 1, 2]"),
        ({"scale": ["a", "b"]}, "scale is ['a', 'b']"),
        ({"scale": 5}, "scale is 5, and should be of type list"),
        ({"labels": {"scene": "many"}}, "labels is {'scene': 'many'}"),
        ({"tuned": "clip"}, "tuned is 'clip'"),
        ({"sha256": []}, "sha256 is []"),
        ({"format": 3}, "of format 3"),
        ({"format": {}}, "of format {}"),
        ("[1]", "expected keys and values"),
        ("[" * 100_000, "not readable"),
        ('{"base": "a", "scale": [0, 1e999]}', "scale is [0, inf]"),
    ],
)
def test_a_provenance_that_is_none(received, refused, content, message):
    if isinstance(content, str):
        (received / "provenance.json").write_text(content)
    else:
        change(received, **content)
    error = refused(received)
    assert message in error
    assert str(received) in error


def test_a_report_says_what_its_checkpoint_lacks(fsiqa, received):
    change(received, stage="adapt", source=None, method=None)
    (received / "pictures.csv").write_text("image,rating\n")
    assert "provenance.json: lacks method" in fsiqa("report", received).error


@pytest.fixture
def offline(monkeypatch):
    """No socket can be opened, and no CLIP be built."""

    def never(*_, **__):
        raise AssertionError("reaches outside")

    for name in ("create_connection", "getaddrinfo", "socket"):
        monkeypatch.setattr(socket, name, never)
    monkeypatch.setattr(clip, "load_clip", never)


@pytest.mark.parametrize(
    "name",
    [
        "hf-hub:evil/model:x",
        "local-dir:/etc:x",
        "ViT-B-32-quickgelu:openai",
        "ViT-B-32:/etc/hostname",
        "../evil.json:weights.safetensors",
        "//evil/share/a.json:b",
    ],
)
@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("command", ["score", "adapt", "export"])
def test_a_checkpoint_names_no_clip_of_its_own(fsiqa, received, photographs, rated, command, name, tmp_path):
    configure(received, clip=name)
    arguments = {
        "score": (received, photographs / "photo0.png"),
        "adapt": ("--config", received, "--labels", rated, "--out", tmp_path / "o"),
        "export": (received,),
    }
    result = fsiqa(command, *arguments[command])
    assert result.code == 2
    assert result.error.count("\n") == 1
    assert f"made on the CLIP '{name}', which no command of yours has named so far" in result.error
    assert "--clip" in result.error


@pytest.mark.usefixtures("offline")
def test_a_checkpoint_has_no_base(received, refused):
    configure(received, base="../../x")
    assert "unknown key base" in refused(received)


def test_a_checkpoint_of_ones_own_finds_its_clip(fsiqa, rated, quick, miniature, monkeypatch, tmp_path):
    """By its fingerprint, in later processes too; on another machine it is named once."""
    out, picture = tmp_path / "own", rated.parent / "photo0.png"
    result = fsiqa("adapt", "--config", "ridge", "--labels", rated, "--shots", 3, "--out", out, *quick)
    assert result.code == 0, result.error
    monkeypatch.setattr(named, "_named", {})  # another process
    assert fsiqa("score", out, picture).code == 0
    change(out, sha256=None)
    configure(out, clip="hf-hub:evil/model:x")
    assert fsiqa("score", out, picture).code == 0
    monkeypatch.setattr(named, "_named", {})
    monkeypatch.setattr(named, "FILE", tmp_path / "clips.json")  # another machine
    assert "--clip" in fsiqa("score", out, picture).error
    assert fsiqa("adapt", "--config", out, "--clip", miniature, "--labels", rated, "--out", tmp_path / "b").code == 0
    named.FILE.unlink()
    monkeypatch.setattr(named, "_named", {})
    assert fsiqa("score", out, picture, "--clip", miniature).code == 0
    monkeypatch.setattr(named, "_named", {})
    assert fsiqa("score", out, picture).code == 0
    named.FILE.write_text("[broken")
    monkeypatch.setattr(named, "_named", {})
    assert "--clip" in fsiqa("score", out, picture).error


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"vision_cfg": {"timm_model_name": "hf_hub:evil/x"}}, "a tower of another library (timm_model_name)"),
        ({"text_cfg": {"hf_model_name": "evil/x"}}, "a tower of another library (hf_model_name)"),
        ({"text_cfg": 3}, "not an architecture of open_clip"),
        ([], "not an architecture of open_clip"),
        ("{", "not readable as an architecture"),
    ],
)
def test_an_architecture_of_another_library_is_refused(tmp_path, monkeypatch, part, message):
    monkeypatch.setattr(socket, "socket", None)
    path = tmp_path / "evil.json"
    path.write_text(part if isinstance(part, str) else json.dumps(MINIATURE | part if part else part))
    with pytest.raises(InputError) as refused:
        create_clip(str(path))
    assert message in str(refused.value)


@pytest.mark.parametrize("name", ["hf-hub:evil/model:x", "local-dir:/etc:x", "roberta-ViT-B-32:laion2b_s12b_b32k"])
def test_a_clip_of_a_hub_is_refused(monkeypatch, name):
    monkeypatch.setattr(socket, "socket", None)
    with pytest.raises(InputError, match="--clip"):
        load_clip(name)


def test_the_public_load_takes_the_name_of_a_clip(tmp_path, rated, quick, miniature, fsiqa, monkeypatch):
    out = tmp_path / "own"
    assert fsiqa("adapt", "--config", "ridge", "--labels", rated, "--shots", 3, "--out", out, *quick).code == 0
    monkeypatch.setattr(named, "recall", lambda _: None)
    monkeypatch.setattr("fewshot_iqa.model.formats.recall", lambda _: None)
    with pytest.raises(InputError, match="no command of yours has named"):
        fewshot_iqa.load(out)
    assert 0 <= fewshot_iqa.load(out, clip=miniature).score(Path(rated.parent / "photo0.png")) <= 1
