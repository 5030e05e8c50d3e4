"""What is shown while something takes time: a live bar on a terminal, plain lines elsewhere, both on stderr."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .printing import shown

Log = Callable[[Mapping[str, float]], None]

QUIET_SECONDS = 2.0  # what ends sooner shows nothing on a plain output
LINE_SECONDS = 10.0  # a plain line at most this often

_quiet = ContextVar("quiet", default=False)


@contextmanager
def track(title: str, total: int, done: int = 0) -> Iterator[Log]:
    """Yield a function to call after each of `total` steps with the figures to show (`{}` for none)."""
    if _quiet.get():
        yield lambda _: None
        return
    console = Console(stderr=True)
    shown = _bar(console, title, total, done) if console.is_terminal else _lines(console, title, total, done)
    with shown as log:
        yield log


@contextmanager
def quiet() -> Iterator[None]:
    """Show nothing of what is inside: it is one step of something that is shown."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def say(line: str) -> None:
    """One line beside the progress."""
    Console(stderr=True).print(shown(line), highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _bar(console: Console, title: str, total: int, done: int) -> Iterator[Log]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    started, first = time.monotonic(), done
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=total, completed=done, figures="", rate="")

        def log(figures: Mapping[str, float]) -> None:
            nonlocal done
            done += 1
            rate = (done - first) / max(time.monotonic() - started, 1e-9)
            progress.update(task, advance=1, figures=_figures(figures), rate=f"{rate:.3g}/s")

        yield log


@contextmanager
def _lines(console: Console, title: str, total: int, done: int) -> Iterator[Log]:
    started = last = time.monotonic()
    first: tuple[int, float] | None = None  # what came before the first step is no part of the rate

    def log(figures: Mapping[str, float]) -> None:
        nonlocal done, last, first
        done += 1
        now = time.monotonic()
        first = first or (done, now)
        if now - started < QUIET_SECONDS or (now - last < LINE_SECONDS and done < total):
            return
        last = now
        rate = (done - first[0]) / max(now - first[1], 1e-9)
        left = f"{now - started:.0f} s" if done == total else f"{(total - done) / rate:.0f} s left" if rate else ""
        parts = [f"{title} {done}/{total}", _figures(figures), f"{rate:.3g}/s" if rate else "", left]
        console.print("  ".join(part for part in parts if part), highlight=False, markup=False, soft_wrap=True)

    yield log


def _figures(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
