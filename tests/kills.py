"""Commands in processes of their own, killed where they change files."""

import os
import signal
import sys
import warnings
from itertools import cycle

import pytest

from fewshot_iqa.cli import main
from fewshot_iqa.rng import key_seed

CHANGES = {"open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.link", "os.truncate"}  # what is audited
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork of this process")
counts = pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.slow)])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def written(folder):
    """{name: when it was written, its file}, of files that are there; none where there is no such folder."""
    found = [path for path in folder.glob("*") if path.is_file()]
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in found}


def in_child(command, folder, last, number=signal.SIGKILL if os.name == "posix" else None, *, reads=False):
    """Run a command in a process of its own, which is sent a signal at its `last`-th change of files in `folder` or of
    folders beside it of such a name, or with `reads` also where it reads one; returns the number of changes, None
    where it was killed."""
    receiving, sending = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        seen = 0

        def count(event, arguments):
            nonlocal seen
            if event not in CHANGES or not str(arguments[0]).startswith(str(folder)):
                return
            if event == "open" and not reads and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
            seen += 1
            if seen == last:
                os.kill(os.getpid(), number)

        code = 1
        try:
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1)
            os.dup2(silent, 2)
            sys.argv = ["fsiqa", *map(str, command)]
            sys.addaudithook(count)
            try:
                main()
            except SystemExit as stop:
                code = stop.code or 0
            os.write(sending, str(seen).encode())
        finally:
            os._exit(code)
    os.close(sending)
    _, status = os.waitpid(child, 0)
    with os.fdopen(receiving) as answer:
        told = answer.read()
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == number
        return None
    if os.WEXITSTATUS(status) == 128 + number:
        return None
    assert status == 0
    return int(told)


def kill_points(count, changes):
    """So many of the changes, drawn from a seed; the first half from the last dozen, in which results appear."""
    late = [changes - key_seed(0, "late", i) % min(12, changes) for i in range(-(-count // 2))]
    return late + [1 + key_seed(0, "any", i) % changes for i in range(count // 2)]


def kills(count, changes):
    """(change, signal): the points, in turn for SIGKILL and SIGTERM."""
    return zip(kill_points(count, changes), cycle([signal.SIGKILL, signal.SIGTERM]), strict=False)
