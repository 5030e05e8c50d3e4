"""A miniature CLIP, miniature photographs, and the commands as a user types them."""

import json
import os
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageFile
from safetensors.torch import save_file

from fewshot_iqa import rng
from fewshot_iqa.cli import main
from fewshot_iqa.model import named
from fewshot_iqa.model.backbone import Backbone
from fewshot_iqa.model.clip import create_clip

ROOT = Path(__file__).parent.parent
os.environ.setdefault("COLUMNS", "200")
torch.set_num_threads(1)  # the miniature gains nothing from more, and threads that wait for each other cost much
MINIATURE = {
    "embed_dim": 16,
    "quick_gelu": False,
    "vision_cfg": {"image_size": 32, "layers": 12, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 12},
}


@pytest.fixture(scope="session", autouse=True)
def _named_clips(tmp_path_factory):
    """The CLIPs that tests name are not remembered for the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(named, "FILE", tmp_path_factory.mktemp("named") / "clips.json")
        yield


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
        "views={short_side: 48, crop: 32, count: 5, wide_side: null}",
        "model.visual.main.length=2",
        "meta.steps=2",
        "meta.validate_every=1",
        "meta.patience=null",
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


@pytest.fixture(scope="session")
def gallery(tmp_path_factory):
    """A table of twelve rated pictures of several sizes, modes and orientations, with labels of every kind."""
    folder, rows = tmp_path_factory.mktemp("gallery"), []
    for i in range(12):
        picture, name, options = photograph(i, 50 + 6 * i, 90 - 3 * i), f"{i}.png", {}
        if i in (1, 7):
            picture = picture.convert("L")
        elif i in (2, 8):
            picture.putalpha(Image.linear_gradient("L").resize(picture.size))
        elif i in (3, 9):
            options["exif"] = Image.Exif()
            options["exif"][0x0112] = 6  # turned by a quarter
            name = f"{i}.jpg"
        elif i in (4, 10):
            picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
        elif i in (5, 11):
            picture = picture.resize((25, 28))  # smaller than the crop
        picture.save(folder / name, **options)
        labels = {"scene": "animal;night" if i % 2 else "plant", "distortion": "jpeg" if i % 3 else "gaussian_blur"}
        rows.append({"image": name, "score": (5 * i) % 12, "prompt": f"a picture {i}", "alignment": i % 5} | labels)
    pd.DataFrame(rows).to_csv(folder / "ratings.csv", index=False)
    return folder / "ratings.csv"


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


@pytest.fixture
def encoded(monkeypatch):
    """How many views the image towers have encoded since `.clear()`, in a Counter; and
    under `decoded` which files were decoded."""
    counted: Counter = Counter()
    embed, load = Backbone.embed, ImageFile.ImageFile.load

    def embedding(clip, images):
        counted["views"] += len(images)
        return embed(clip, images)

    def loading(image, *arguments):
        counted[f"decoded {os.path.basename(getattr(image, 'filename', ''))}"] += 1
        return load(image, *arguments)

    monkeypatch.setattr(Backbone, "embed", embedding)
    monkeypatch.setattr(ImageFile.ImageFile, "load", loading)
    return counted


class Outcome:
    """What a command left: `.code`, `.stdout`, its `.output` with white space folded, and stderr as `.error`."""

    def __init__(self, code, captured):
        self.code, self.stdout, self.error = code, captured.out, captured.err
        self.output = re.sub(r"\s+", " ", self.stdout)


@pytest.fixture
def fsiqa(monkeypatch, capsys, tmp_path_factory):
    """Run the command line as a user does, in a folder of its own: two tests must not meet in runs/."""
    if Path.cwd() == ROOT:
        monkeypatch.chdir(tmp_path_factory.mktemp("working"))

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


@pytest.fixture(scope="session")
def browser():
    """Chromium, without a window."""
    from playwright.sync_api import sync_playwright

    from tests.browser import CHROMIUM

    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()
