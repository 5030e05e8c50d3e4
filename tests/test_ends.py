"""How a command ends: errors of ours, signals, closed pipes, workers whose parent is gone."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

import fewshot_iqa
from fewshot_iqa.errors import InputWarning
from fewshot_iqa.printing import shown
from tests.conftest import photograph
from tests.test_portability import WITHOUT, run
from tests.test_scoring import scorer  # noqa: F401  # a fixture

ROOT = Path(fewshot_iqa.__file__).parent.parent
on_posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
MAIN = "from fewshot_iqa.cli import main\nmain()\n"


@pytest.fixture
def broken(monkeypatch):
    """A command that fails with what the test raises."""

    def fail(error):
        def find(*_):
            warnings.warn("of a library", UserWarning, stacklevel=1)
            warnings.warn("of ours", InputWarning, stacklevel=1)
            raise error

        monkeypatch.setattr("fewshot_iqa.cli.scoring._model_and_images", find)

    return fail


@pytest.mark.filterwarnings("default")
def test_what_is_unexpected_is_one_line(fsiqa, broken, monkeypatch):
    broken(KeyError("no\x1bway\nmore"))
    with warnings.catch_warnings(record=True) as shown_by_python:
        result = fsiqa("score", "x")
    assert (result.code, shown_by_python) == (1, [])
    note, line = result.error.splitlines()
    assert note == "fsiqa: note: of ours"
    assert line == (
        "fsiqa: unexpected error (KeyError: 'no\\x1bway\\nmore'); run again with --debug for the traceback, "
        "and please report it"
    )
    for arguments in (("--debug", "score", "x"), ("score", "x", "--debug")):
        with pytest.warns(UserWarning, match="of a library"):
            told = fsiqa(*arguments).error
        assert "Traceback" in told
        assert told.splitlines()[-1].startswith("fsiqa: unexpected error (KeyError")
    monkeypatch.setenv("FSIQA_DEBUG", "1")
    with pytest.warns(UserWarning, match="of a library"):
        assert "Traceback" in fsiqa("score", "x").error
    monkeypatch.delenv("FSIQA_DEBUG")
    broken(OSError("x" * 10_000_000))
    assert len(fsiqa("score", "x").error) < 1000
    broken(KeyboardInterrupt())
    result = fsiqa("score", "x")
    assert (result.code, result.error.splitlines()[-1]) == (130, "fsiqa: interrupted")


def test_control_characters_are_shown_as_escapes():
    assert shown("a\x1b[2J\x07\n\x9b\u202eé\u202f.png") == "a\\x1b[2J\\x07\\n\\x9b\\u202eé\u202f.png"


@on_posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_run_with_one_line(number, tmp_path):
    photograph(0).save(tmp_path / "a.png")
    code = (
        "import os, fewshot_iqa.cli.scoring as scoring\n"
        f"scoring._load = lambda *_, **__: os.kill(os.getpid(), {int(number)})\n" + MAIN
    )
    command = [sys.executable, "-c", code, "score", str(tmp_path / "a.png")]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=tmp_path
    )
    assert done.returncode == 128 + number
    assert done.stderr == "fsiqa: interrupted\n"


@on_posix
def test_a_reader_that_leaves_ends_nothing(tmp_path):
    """`fsiqa ... | head`: the files are written all the same."""
    photograph(0).save(tmp_path / "a.png")
    code = (
        "import time, fewshot_iqa.cli.pictures as pictures\n"
        "say = pictures.echo\n"
        "pictures.echo = lambda *line, **more: (time.sleep(0.5), say(*line, **more), say('x' * 10**6))\n" + MAIN
    )
    options = ["--type", "jpeg", "--level", "3", "-o", str(tmp_path / "b.png")]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "distort", str(tmp_path / "a.png"), *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (0, b"")
    process.stderr.close()
    assert (tmp_path / "b.png").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
def test_output_without_room_is_told():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", MAIN, "tasks"]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
    assert done.returncode == 2
    assert done.stderr == "fsiqa: standard output: cannot be written (No space left on device)\n"


WORKING = """
import os, sys, time
from joblib import delayed
from fewshot_iqa.recipes.workers import in_parallel

def work(folder, i):
    open(os.path.join(folder, str(os.getpid())), "w").close()
    time.sleep(60)

if __name__ == "__main__":
    list(in_parallel((delayed(work)(sys.argv[1], i) for i in range(8)), 2))
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are counted in /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent(number, tmp_path):
    (tmp_path / "working.py").write_text(WORKING)
    (tmp_path / "pids").mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(
        [sys.executable, "working.py", str(tmp_path / "pids")], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: len(list((tmp_path / "pids").iterdir())) == 2, 60)
    parent.send_signal(number)
    parent.wait(10)
    workers = [Path("/proc", path.name) for path in (tmp_path / "pids").iterdir()]
    wait_until(lambda: not any(is_running(worker) for worker in workers), 15)


def is_running(process: Path) -> bool:
    try:
        return "\nState:\tZ" not in (process / "status").read_text()
    except OSError:
        return False


def wait_until(holds, seconds):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_commands_do_without_what_windows_lacks(tmp_path):
    photograph(0, 240, 240).save(tmp_path / "a.png")
    code = WITHOUT + (
        "import sys, fewshot_iqa.cli as cli\n"
        "def run(*arguments):\n"
        "    sys.argv = ['fsiqa', *arguments]\n"
        "    try:\n        cli.main()\n"
        "    except SystemExit as end:\n        assert not end.code, arguments\n"
        "for command in ('score', 'adapt', 'curve', 'metatrain'):\n    run(command, '--help')\n"
        "run('score', sys.argv[1], '--csv', sys.argv[2])\n"
    ).replace("sys.argv[1], '--csv', sys.argv[2]", "picture, '--csv', table").replace(
        "def run", "picture, table = sys.argv[1:]\ndef run", 1
    )
    run(code, tmp_path / "a.png", tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_text().count("a.png") == 1
