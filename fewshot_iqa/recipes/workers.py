"""Processes that work in parallel, and end with the one that started them."""

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from joblib import Parallel, delayed

Job = tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]  # of joblib's `delayed`

SECONDS = 0.5  # between two looks at whether the parent is there


def in_parallel(jobs: Iterable[Job], workers: int, *, ordered: bool = False) -> Iterator[Any]:
    """The results of jobs in so many processes, as they come or in order; in this one where `workers` is 1."""
    if workers > 1:
        jobs = (delayed(_run)(os.getpid(), *job) for job in jobs)
    results: Iterator[Any] = Parallel(workers, return_as="generator" if ordered else "generator_unordered")(jobs)
    return results


def _run(parent: int, function: Callable[..., Any], arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
    _belong_to(parent)
    return function(*arguments, **options)


@cache
def _belong_to(parent: int) -> None:
    """End this process soon after its parent, which loky lets live on; leave Ctrl-C and warnings to the parent.

    Not on Windows, where a process does not learn that its parent has ended.
    """
    warnings.simplefilter("ignore")
    if os.name != "posix" or os.getpid() == parent:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
