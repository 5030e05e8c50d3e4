"""`fsiqa bench`: its jobs and yardsticks on a miniature CLIP. How fast they are is for the command to say."""

import json
import runpy

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from fewshot_iqa.config import load_config
from fewshot_iqa.model.checkpoint import build
from fewshot_iqa.model.clip import create_clip
from fewshot_iqa.studies import bench_growth
from fewshot_iqa.studies.bench_jobs import JOBS, ON_EMBEDDED, YARDSTICKS, Case
from fewshot_iqa.studies.bench_speed import Operations

SMALL = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 12, "width": 16, "head_width": 8, "patch_size": 56},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 12},
}


@pytest.fixture(scope="module")
def small_clip(tmp_path_factory):
    """(name of a small architecture that takes 224 pixels, path of weights of it)."""
    folder = tmp_path_factory.mktemp("small_clip")
    (folder / "bench-small.json").write_text(json.dumps(SMALL))
    torch.manual_seed(0)
    save_file(create_clip(str(folder / "bench-small.json")).state_dict(), folder / "small.safetensors")
    return "bench-small", f"{folder / 'bench-small.json'}:{folder / 'small.safetensors'}"


@pytest.mark.parametrize(
    ("job", "random_weights"),
    [(job, random) for job in JOBS for random in (True, False) if not random or job not in ON_EMBEDDED],
)
def test_every_job_and_its_yardstick_run(job, random_weights, small_clip, tmp_path):
    name, clip = small_clip
    settings = load_config("grmp_vitb16", [f"clip={clip}", "model.visual.main.length=3"])
    pair = JOBS[job](Case(settings, name if random_weights else None, 2, "cpu", tmp_path))
    yardstick = pair.yardstick()
    for _ in range(2):
        pair.ours()
        yardstick()
    released = "bare" if job.startswith("score") else "as released"
    assert pair.name == ("import torch" if job == "cold" else released if random_weights else "plain")
    assert pair.pictures >= (1 if job == "cold" else 2)
    assert not pair.bf16


def test_the_yardstick_is_the_same_model(small_clip):
    """As released it has our logits, at other cost."""
    name, clip = small_clip
    model = build(load_config("grmp_vitb16", [f"clip={clip}", "model.visual.main.length=3"]))
    released = runpy.run_path(str(YARDSTICKS))["Released"](open_clip.create_model(name), 3).eval()
    released.clip.load_state_dict(dict(model.clip.state_dict()), strict=False)
    prompts = model.visual["main"]
    with torch.no_grad():
        released.context.copy_(model.text["quality"].context)
        released.tokens.copy_(prompts.tokens)
        released.project.load_state_dict(prompts.project.state_dict())
        released.prompt_norm.load_state_dict(prompts.end_norm.state_dict())
        images = torch.rand(2, 3, 224, 224)
        ours = model(images, branches=["scene"]).logits
        quality, scenes = released((images - model.mean) / model.std)
    torch.testing.assert_close(quality, ours["quality"], atol=1e-4, rtol=0)
    torch.testing.assert_close(scenes, ours["scene"], atol=1e-4, rtol=0)


def test_operations_are_counted_forward_and_backward():
    weight, x = torch.rand(4, 5, requires_grad=True), torch.rand(3, 4)
    with Operations() as counted:
        (x @ weight).sum().backward()
    assert counted.total == 2 * (2 * 3 * 4 * 5)


def test_what_cannot_be_measured_is_one_line(fsiqa):
    assert "--models large: choose of embedded, ViT-B/16" in fsiqa("bench", "--models", "large").error
    assert "--jobs sleep: choose of adapt," in fsiqa("bench", "--jobs", "sleep").error


def test_growth_is_measured_beside_the_floor(fsiqa, monkeypatch, tmp_path):
    for name, few in {"SHOTS": (10,), "STEPS": (1,), "MEGAPIXELS": (0.2,), "BATCHES": (1,)}.items():
        monkeypatch.setattr(bench_growth, name, few)
    monkeypatch.setattr(bench_growth.os, "cpu_count", lambda: 1)
    result = fsiqa(
        "bench", "growth", "--repeats", 1, "--figure", tmp_path / "growth.png", "--json", tmp_path / "out.json"
    )
    assert result.code == 0, result.error
    found = json.loads((tmp_path / "out.json").read_text())
    assert len(found["panels"]) == 5
    for title, ((row,)) in found["panels"].items():
        assert row["seconds"] > 0
        assert (row["floor"] > 0) == ("Gaussian" not in title)
    assert (tmp_path / "growth.png").stat().st_size > 10_000
