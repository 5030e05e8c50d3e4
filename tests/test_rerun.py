"""The same numbers again: a run repeated from what its checkpoint tells of it."""

import json

import pandas as pd

from fewshot_iqa.recipes.adaptation import adapt
from tests.conftest import photograph, sets


def test_adapt_and_metatrain_repeat_bit_by_bit(fsiqa, eight, small, tmp_path, photographs, monkeypatch):
    monkeypatch.chdir(tmp_path)
    meta = ("metatrain", "--config", "grmp", "--images", photographs, "--out", "meta", *sets(small))
    assert fsiqa(*meta).code == 0
    adapted = ("adapt", "--config", "grmp", "--labels", eight, "--shots", "5", "--from", "meta", "--out", "ad")
    assert fsiqa(*adapted, *sets(small)).code == 0
    monkeypatch.chdir(photographs)  # relative paths are of the folder that it was run in
    for folder in (tmp_path / "meta", tmp_path / "ad"):
        result = fsiqa("rerun", folder)
        assert result.code == 0, result.output + result.error
        assert "the same weights, metrics and predictions, bit by bit" in result.output


def test_what_differs_is_named(fsiqa, eight, small, tmp_path):
    adapted = ("adapt", "--config", "ridge", "--labels", eight, "--shots", "5", "--out", tmp_path / "ad")
    assert fsiqa(*adapted, *sets(small[:2])).code == 0
    photograph(99).save(eight.parent / "photo0.png")
    provenance = tmp_path / "ad" / "provenance.json"
    told = json.loads(provenance.read_text())
    provenance.write_text(json.dumps(told | {"versions": told["versions"] | {"numpy": "1.0"}}))
    result = fsiqa("rerun", tmp_path / "ad", "--out", tmp_path / "again")
    assert result.code == 1
    assert "numpy 1.0 ->" in result.output
    assert "ratings" in result.output  # their hash covers the content of the files
    assert "weights" in result.output
    assert (tmp_path / "again" / "config.yaml").is_file()
    assert "is the checkpoint that is compared" in fsiqa("rerun", tmp_path / "ad", "--out", tmp_path / "ad").error


def test_a_run_with_objects_of_python_cannot_be_repeated(fsiqa, eight, small, tmp_path):
    table = pd.read_csv(eight)
    adapt("ridge", labels=table, root=eight.parent, shots=5, out=tmp_path / "ad", overrides=small[:2])
    assert json.loads((tmp_path / "ad" / "provenance.json").read_text())["run"] is None
    assert "does not tell how it was made" in fsiqa("rerun", tmp_path / "ad").error
