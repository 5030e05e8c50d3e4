"""The terminal around a command: what is printed there, what interrupts it, and how it ends."""

import errno
import io
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TextIO, cast

import typer
from typer.core import TyperGroup

from ..errors import InputWarning
from ..files import reason
from ..printing import echo, shown

INTERRUPTED = 128  # and the number of the signal, as shells have it


class Program(TyperGroup):
    """All commands: what interrupts one is one line, and a message on the arguments steers no terminal."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            echo("fsiqa: interrupted", err=True)
            raise typer.Exit(INTERRUPTED + next(iter(stop.args), signal.SIGINT)) from None
        except Exception as error:  # raised again: `main` handles it
            if isinstance(message := getattr(error, "message", None), str):  # of typer, about the arguments
                error.message = shown(message)  # type: ignore[attr-defined]  # it was read just above
            raise


class Output:
    """A stream that falls silent where nobody reads it any more (`| head`), or that has no room: what is written to
    files is written all the same. `problem` is what else than that went wrong."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.problem = stream, ""
        if isinstance(stream, io.TextIOWrapper):  # a pipe on Windows has few characters: no file name may end the run
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        with self._guarded():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._guarded():
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            closed = {errno.EPIPE, errno.EINVAL} if os.name == "nt" else {errno.EPIPE}
            if error.errno not in closed:
                self.problem = self.problem or reason(error)
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.stream.fileno())  # what is buffered goes there too
                os.close(nowhere)


def split_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without --debug, which may stand anywhere before `--`, and whether it is wanted."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    rest = [each for each in arguments[:end] if each != "--debug"]
    wanted = len(rest) < end or os.environ.get("FSIQA_DEBUG", "0") not in ("", "0")
    return [*rest, *arguments[end:]], wanted


@contextmanager
def set_up(debug: bool) -> Iterator[None]:
    """While a command runs: its output, its notes as single lines, SIGTERM as Ctrl-C."""
    before, last_resort, showing = (sys.stdout, sys.stderr), logging.lastResort, warnings.showwarning
    output = Output(sys.stdout)
    sys.stdout, sys.stderr = cast("TextIO", output), cast("TextIO", Output(sys.stderr))
    handled = _handle_terminate()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", InputWarning)
            warnings.showwarning = _show_once(showing if debug else lambda *_, **__: None)
            logging.lastResort = last_resort if debug else None
            yield
    finally:
        output.flush()
        if output.problem:
            echo(f"fsiqa: standard output: cannot be written ({output.problem})", err=True)
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
        logging.lastResort = last_resort
        if handled is not None:
            signal.signal(signal.SIGTERM, handled)
        if output.problem:
            sys.exit(2)


def fail(message: str, status: int, *, debug: bool) -> NoReturn:
    """End with one line, behind the traceback of what is handled where that is wanted."""
    if debug:
        traceback.print_exc()
    echo(f"fsiqa: {message}", err=True)
    sys.exit(status)


def _handle_terminate() -> Any:
    """Let SIGTERM do what Ctrl-C does; what handled it before, None where it cannot be handled."""

    def stop(number: int, _: Any) -> None:
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, stop)


def _show_once(others: Callable[..., None]) -> Callable[..., None]:
    """A `warnings.showwarning` that prints an InputWarning as one line, the first time, and others as given."""
    printed = set()

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, InputWarning):
            others(message, category, *place, **more)
        elif str(message) not in printed:
            printed.add(str(message))
            echo(f"fsiqa: note: {message}", err=True)

    return show
