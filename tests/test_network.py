"""No command opens a connection: each runs with every look-up and connection counted, whoever asks for it."""

import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
import typer
import uvicorn

from fewshot_iqa.cli import app
from tests.conftest import sets
from tests.test_pretraining import spec  # noqa: F401  # a fixture

OUTGOING = {
    "socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname",
    "socket.gethostbyaddr", "socket.getnameinfo", "webbrowser.open", "urllib.Request",
}  # fmt: skip
_watched: list[list[str]] = []


def _count(event: str, arguments: tuple[object, ...]) -> None:
    """A hook of Python sees what libraries ask for in C as well, and cannot be taken away: it waits for `_watched`."""
    if _watched and event in OUTGOING:
        address = arguments[1] if event == "socket.connect" else None
        if isinstance(address, tuple) and address[0] in ("127.0.0.1", "::1"):  # the two ends of a pipe, on Windows
            return
        if isinstance(address, str | bytes):  # of this machine
            return
        _watched[-1].append(f"{event} {arguments[1:]}")
        raise OSError("no network")


sys.addaudithook(_count)


@pytest.fixture
def attempts():
    """What reached for the network meanwhile."""
    found: list[str] = []
    _watched.append(found)
    yield found
    _watched.remove(found)


def test_attempts_are_counted(attempts):
    with pytest.raises(OSError, match="no network"):
        socket.create_connection(("192.0.2.1", 80), timeout=0.1)
    with pytest.raises(OSError, match="no network"):
        socket.getaddrinfo("huggingface.co", 443)
    assert len(attempts) >= 2


def commands() -> set[str]:
    """The names of all commands."""

    def below(command, name):
        inner = getattr(command, "commands", {})
        if not inner or (name and command.invoke_without_command):
            yield name
        for each in inner:
            yield from below(inner[each], f"{name} {each}".strip())

    return set(below(typer.main.get_command(app), ""))


@pytest.mark.filterwarnings("ignore::fewshot_iqa.errors.InputWarning")
def test_no_command_opens_a_connection(attempts, fsiqa, eight, small, quick, spec, photographs, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    votes = [{"image": f"photo{i}.png", "rating": 1 + i % 5, "rater": rater} for i in range(6) for rater in "abc"]
    pd.DataFrame(votes).to_csv("votes.csv", index=False)
    picture, data = photographs / "photo0.png", tmp_path / "papers"
    data.mkdir()
    ran = set()

    def run(command, *arguments, codes=(0,)):
        result = fsiqa(*command.split(), *arguments)
        assert attempts == [], command
        assert result.code in codes, f"{command}: {result.error}"
        ran.add(command)

    run(
        "metatrain", "--config", "grmp", "--images", photographs, "--out", "meta", *sets(small), "--set", "meta.steps=1"
    )
    run("adapt", "--labels", eight, "--config", "gp", "--shots", 4, "--out", "ad", *sets(small[:2]))
    run("score", photographs, "--csv", "scores.csv")  # by the shipped prompts
    run("score", "ad", picture)
    run("suggest", photographs, "-n", 2)
    run("report", "ad", "--baselines", "none")
    run("rerun", "ad")
    run("export", "--help")  # takes longer than all others: see below
    run("curve", "--labels", eight, "--test", 0.5, "--shots", "2,4", "--methods", "ridge", "--seeds", 1, *quick)
    run("pretrain", "--root", photographs.parent, *sets(spec))
    run("distort", picture, "--type", "jpeg", "--level", 3, "-o", "distorted.png")
    run("synthesize", photographs, "-o", "synthesized", "--types", "jpeg", "--levels", 2)
    run("data info", "koniq10k")
    run("data check", "--labels", eight, "--no-direction", codes=(0, 1))
    run("data convert", "--labels", eight, "--out", "plain.csv")
    run("data split", "--labels", eight, "--seeds", 1, "--test", 0.5, "--out", "splits")
    run("ratings summarize", "votes.csv")
    run("reproduce", "--list")
    run("reproduce", "mp_iqe", "--data", data, codes=(0, 2))
    run("tasks")
    run("configs")
    run("configs", "grmp")
    monkeypatch.setattr(uvicorn.Server, "main_loop", nothing)  # the page's server begins and ends
    with ThreadPoolExecutor(1) as thread:  # in this one, the browser of other tests may have its loop
        thread.submit(run, "rate", photographs, "-o", "rated.csv", "--no-browser").result()
        thread.submit(run, "browse", "scores.csv", "-o", "corrected.csv", "--no-browser").result()
    for command in sorted(commands() - ran):  # of the project's own studies, which take minutes
        assert command.split()[0] in ("bench", "experiment"), command
        run(command, "--help")
    assert ran == commands()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::fewshot_iqa.errors.InputWarning")
def test_no_export_opens_a_connection(attempts, fsiqa, eight, small, photographs, tmp_path):
    model = tmp_path / "ad.onnx"
    for command in (
        ("adapt", "--labels", eight, "--config", "gp", "--out", tmp_path / "ad", *sets(small[:2])),
        ("export", tmp_path / "ad", model),
        ("score", model, photographs / "photo0.png"),
    ):
        assert fsiqa(*command).code == 0
        assert attempts == [], command


async def nothing(_):
    """A loop of uvicorn that ends at once."""
