"""Training in bfloat16: where it pays, and only while gradients keep their direction."""

import pytest
import torch

import fewshot_iqa
from fewshot_iqa import precision


def test_gradients_in_the_same_direction_are_kept():
    exact = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0])}
    assert precision.keeps_gradients(lambda bf16: {k: v.bfloat16() * 2 if bf16 else v for k, v in exact.items()})


def test_gradients_in_another_direction_are_refused():
    exact = {"a": torch.tensor([1.0, 2.0])}
    assert not precision.keeps_gradients(lambda bf16: {"a": exact["a"].flip(0)} if bf16 else exact)


def test_dropout_is_drawn_alike_and_leaves_no_trace():
    state = torch.random.get_rng_state()
    assert precision.keeps_gradients(lambda _: {"a": torch.rand(100) - 0.5})
    assert torch.equal(torch.random.get_rng_state(), state)


def test_narrow_towers_stay_in_float32(monkeypatch):
    monkeypatch.setattr(precision, "has_bf16", lambda device: True)
    assert precision.pays_in_bf16(768, torch.device("cpu"))
    assert not precision.pays_in_bf16(64, torch.device("cpu"))


@pytest.mark.parametrize("given", ["bf16=null", "bf16=true", "bf16=false"])
@pytest.mark.filterwarnings("ignore::fewshot_iqa.InputWarning")
def test_adaptation_takes_what_is_given_or_pays(given, gallery, small, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "has_bf16", lambda device: True)
    monkeypatch.setattr(precision, "WIDE", 16)
    asked, autocast = [], torch.autocast
    monkeypatch.setattr(precision, "LEAST_COSINE", 0.9)  # of a miniature with fresh prompts
    monkeypatch.setattr(torch, "autocast", lambda *a, **k: asked.append(k["enabled"]) or autocast(*a, **k))
    overrides = [*small, f"adapt.{given}"]
    fewshot_iqa.adapt(
        "grmp", labels=gallery, range=(0, 11), shots=5, start="none", out=tmp_path / "out", overrides=overrides
    )
    assert any(asked) == (given != "bf16=false")
