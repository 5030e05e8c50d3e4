"""A miniature CLIP, miniature photographs, and the commands as a user types them."""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fewshot_iqa import rng
from fewshot_iqa.cli import main
from fewshot_iqa.model.clip import create_clip

os.environ.setdefault("COLUMNS", "200")
torch.set_num_threads(1)  # the miniature gains nothing from more, and threads that wait for each other cost much
MINIATURE = {
    "embed_dim": 16,
    "quick_gelu": False,
    "vision_cfg": {"image_size": 32, "layers": 12, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 12},
}


@pytest.fixture(scope="session")
def miniature(tmp_path_factory) -> str:
    """`ARCHITECTURE:WEIGHTS` of a CLIP that computes in milliseconds."""
    folder = tmp_path_factory.mktemp("clip")
    architecture = folder / "miniature.json"
    architecture.write_text(json.dumps(MINIATURE))
    with rng.scoped(0, "miniature"):
        weights = create_clip(str(architecture)).state_dict()
    save_file(weights, folder / "miniature.safetensors")
    return f"{architecture}:{folder / 'miniature.safetensors'}"


@pytest.fixture(scope="session")
def small(miniature) -> list[str]:
    """Overrides that make the default method fit the miniature CLIP, and quick."""
    return [
        f"clip={miniature}",
        "views={short_side: 48, crop: 32, count: 5}",
        "model.visual.main.length=2",
        "meta.steps=2",
        "meta.validate_every=1",
        "adapt.steps=3",
        "adapt.batch=4",
    ]


def photograph(seed: int, height: int = 60, width: int = 72) -> Image.Image:
    """Smooth colours with some grain."""
    noise = np.random.default_rng(seed)
    coarse = Image.fromarray(noise.integers(0, 255, (6, 8, 3), dtype=np.uint8)).resize((width, height), 3)
    grain = noise.normal(0, 4, (height, width, 3))
    return Image.fromarray((np.asarray(coarse) + grain).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> Path:
    """A folder of six clean photographs."""
    folder = tmp_path_factory.mktemp("photographs")
    for i in range(6):
        photograph(i).save(folder / f"photo{i}.png")
    return folder


@pytest.fixture
def table(tmp_path, photographs):
    """Write rows (dictionaries) as a table beside links to the photographs; returns its path."""

    def write(rows, name="ratings.csv"):
        for path in photographs.iterdir():
            if not (tmp_path / path.name).exists():
                os.link(path, tmp_path / path.name)
        columns = list(rows[0]) if rows else ["image", "score"]
        lines = [",".join(columns), *(",".join(str(row[c]) for c in columns) for row in rows)]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return tmp_path / name

    return write


@pytest.fixture
def rated(table):
    """Six rated photographs."""
    return table([{"image": f"photo{i}.png", "score": 10 * i + 5} for i in range(6)])


@pytest.fixture
def eight(table, tmp_path):
    """Eight rated pictures in two subsets."""
    for i in (6, 7):
        photograph(i).save(tmp_path / f"photo{i}.png")
    return table([{"image": f"photo{i}.png", "score": 10 * i, "group": i, "subset": "ab"[i % 2]} for i in range(8)])


@pytest.fixture
def quick(miniature):
    """Options that make every method fit the miniature CLIP."""
    return sets([f"clip={miniature}", "views={short_side: null, crop: 32, count: 1}"])


class Outcome:
    """What a command left: `.code`, `.stdout`, its `.output` with white space folded, and stderr as `.error`."""

    def __init__(self, code, captured):
        self.code, self.stdout, self.error = code, captured.out, captured.err
        self.output = re.sub(r"\s+", " ", self.stdout)


@pytest.fixture
def fsiqa(monkeypatch, capsys):
    """Run the command line as a user does."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fsiqa", *(str(argument) for argument in arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        return Outcome(stop.value.code or 0, capsys.readouterr())

    return run


def sets(overrides):
    return [part for override in overrides for part in ("--set", override)]


def seeded(*shape) -> torch.Tensor:
    return torch.rand(*shape, generator=rng.generator(0, *shape))
