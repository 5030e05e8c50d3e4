"""What Windows and macOS lack or do otherwise, as far as it can be seen on another system."""

import ast
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import fewshot_iqa
from fewshot_iqa.files import find_images
from fewshot_iqa.memory import peak_memory_mb
from fewshot_iqa.moments import moments, restore_moments
from tests.conftest import photograph, sets

PACKAGE = Path(fewshot_iqa.__file__).parent
LACKING = "resource fcntl grp pwd termios tty pty syslog crypt spwd nis readline curses"  # on Windows
WITHOUT = f"import sys\nsys.modules.update(dict.fromkeys('{LACKING}'.split()))\n"
SPAWNING = """
import multiprocessing
if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    from fewshot_iqa.cli import main
    main()
"""


def run(code: str, *arguments: object, **environment: str) -> str:
    """The output of a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, *([code] if code.endswith(".py") else ["-c", code]), *map(str, arguments)],
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)} | environment,
    )
    output = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, output
    return output


def mapped_files() -> set[str]:
    """The files that this process holds mapped into its memory: Windows does not let them be replaced."""
    gc.collect()
    return {line.split(maxsplit=5)[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}


on_linux = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")


def test_every_module_does_without_what_windows_lacks():
    run(
        WITHOUT + "import importlib, pkgutil, fewshot_iqa\n"
        "for module in pkgutil.walk_packages(fewshot_iqa.__path__, 'fewshot_iqa.'):\n"
        "    importlib.import_module(module.name)\n"
    )


def test_memory_that_is_not_known_is_none():
    assert (
        run(WITHOUT + "from fewshot_iqa.memory import peak_memory_mb\nprint(peak_memory_mb('cpu'))").strip() == "None"
    )


def test_the_peak_of_memory_grows_by_what_is_held():
    before = peak_memory_mb("cpu")
    assert before is not None
    held = bytearray(os.urandom(1 << 20)) * 64 * (1 + before // 64)  # more than was ever held
    after = peak_memory_mb("cpu")
    assert before < after < 3 * before + 128
    del held


def test_text_files_name_their_encoding():
    """Windows would take its own."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", None) in ("read_text", "write_text"):
                assert "encoding" in {word.arg for word in node.keywords}, f"{path}:{node.lineno}"


def test_files_are_listed_in_the_same_order_everywhere(tmp_path):
    names = ["B.png", "a-b/1.png", "a/2.png", "b.png", "É.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in find_images([tmp_path])] == [
        "B.png", "a/2.png", "a-b/1.png", "b.png", "É.png",
    ]  # fmt: skip


def test_names_that_a_terminal_cannot_show_end_no_run(tmp_path):
    """A pipe on Windows takes the characters of its code page."""
    photograph(0).save(tmp_path / "photo.png")
    main = "from fewshot_iqa.cli import main\nmain()"
    options = ("--type", "jpeg", "--level", "3", "-o", tmp_path / "写真.png")
    output = run(main, "distort", tmp_path / "photo.png", *options, PYTHONIOENCODING="cp1252")
    assert r"\u5199\u771f.png" in output
    assert (tmp_path / "写真.png").is_file()


def test_photographs_are_distorted_in_spawned_processes(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(2):
        photograph(i).save(photos / f"photo{i}.png")
    script = tmp_path / "fsiqa.py"
    script.write_text(SPAWNING)
    for workers in (1, 2):
        options = ("--types", "jpeg,white_noise", "--levels", "2", "--workers", workers)
        run(str(script), "synthesize", photos, "-o", tmp_path / str(workers), *options)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("1", "2"))
    assert len(one) == 2 + 2 * 2 + 1
    assert one == two


def test_batches_are_made_in_spawned_processes(tmp_path, miniature, photographs):
    script = tmp_path / "fsiqa.py"
    script.write_text(SPAWNING)
    spec = [
        f"architecture={miniature.rpartition(':')[0]}",
        f"sources=[{{images: {photographs.name}, content: '(photo).*'}}]",
        "stages=[{crop: 16, steps: 2, batch: 2}]",
        "stem=false", "faults=0", "min_side=32", "max_side=48",
    ]  # fmt: skip
    for workers in (0, 1):
        options = ("--root", photographs.parent, *sets([*spec, f"workers={workers}"]), "--out", tmp_path / str(workers))
        run(str(script), "pretrain", *options)
    one, two = (load_file(tmp_path / name / "miniature.safetensors") for name in ("0", "1"))
    assert all(torch.equal(one[name], two[name]) for name in one)


@on_linux
def test_a_run_that_goes_on_holds_its_file_no_more(tmp_path):
    def stepped():
        weight = torch.nn.Parameter(torch.ones(2000))
        optimizer = torch.optim.Adam([weight])
        weight.grad = torch.ones(2000)
        optimizer.step()
        return {"weight": weight}, optimizer

    params, optimizer = stepped()
    save_file(moments(optimizer, params), tmp_path / "state.safetensors")
    state = load_file(tmp_path / "state.safetensors")
    assert str(tmp_path / "state.safetensors") in mapped_files()
    params, optimizer = stepped()
    restore_moments(optimizer, params, state)
    del state
    assert str(tmp_path / "state.safetensors") not in mapped_files()


@on_linux
def test_a_loaded_checkpoint_can_be_replaced(fsiqa, rated, miniature, tmp_path):
    out = tmp_path / "out"
    views = "views={short_side: 48, crop: 32, count: 5}"
    result = fsiqa(
        "adapt", "--config", "gp", "--task", "csv", "--root", rated.parent, "--labels", rated, "--shots", "3",
        "--out", out, *sets([f"clip={miniature}", views]),
    )  # fmt: skip
    assert result.code == 0, result.error
    scorer = fewshot_iqa.load(out)
    assert not {file for file in mapped_files() if file.startswith(str(out))}
    del scorer
