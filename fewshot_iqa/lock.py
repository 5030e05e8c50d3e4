"""One writer at a time for a folder of results."""

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from .errors import InputError

if TYPE_CHECKING:
    from filelock import FileLock

LOCK = ".fsiqa.lock"
P = ParamSpec("P")
R = TypeVar("R")


def one_writer(*endings: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator of a recipe: while it runs it is the only one that writes in the folder that its argument `out` names,
    and in those beside it whose names have these `endings`."""

    def decorate(recipe: Callable[P, R]) -> Callable[P, R]:
        @wraps(recipe)
        def run(*given: P.args, **named: P.kwargs) -> R:
            bound = inspect.signature(recipe).bind(*given, **named)
            bound.apply_defaults()
            out = Path(bound.arguments["out"])
            with ExitStack() as stack:
                for folder in (out, *(Path(f"{out.resolve()}{ending}") for ending in endings)):
                    stack.enter_context(writing_alone(folder))
                return recipe(*given, **named)

        return run

    return decorate


@contextmanager
def writing_alone(folder: Path) -> Iterator[None]:
    """Lock a folder, which is made where it is missing, and taken away again where nothing was written.

    The operating system holds the lock: it ends with its process, however that ends. InputError where another process
    has it, or where the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    file, lock, made = folder / LOCK, FileLock(folder / LOCK), _missing(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        _write_owner(file)
    except Timeout:
        raise InputError(f"--out {folder}: another fsiqa{_owner(file)} is writing there") from None
    except OSError as error:
        _release(lock, file, made)
        raise InputError(f"--out {folder}: cannot be written ({error.strerror or error})") from None
    try:
        yield
    finally:
        _release(lock, file, made)


def require_no_writer(folder: Path) -> None:
    """InputError where another process is writing in a folder."""
    if (folder / LOCK).exists():
        with writing_alone(folder):
            pass


def _missing(folder: Path) -> list[Path]:
    """Of a folder and those above it, the ones that are not there, the lowest first."""
    return [each for each in (folder, *folder.parents) if not os.path.exists(each)]


def _release(lock: "FileLock", file: Path, made: list[Path]) -> None:
    with suppress(OSError):  # of folders with something in them, and on Windows of a file that another process has open
        try:
            if os.name == "posix" and lock.is_locked:  # deleted while it is held: who waits for it sees that it is gone
                file.unlink(missing_ok=True)
        finally:
            lock.release()
        if os.name != "posix":
            file.unlink(missing_ok=True)
        for each in made:
            each.rmdir()


def _write_owner(file: Path) -> None:
    """Behind the first byte, which others cannot read on Windows."""
    with file.open("r+b") as content:
        content.seek(1)
        content.write(str(os.getpid()).encode())
        content.truncate()


def _owner(file: Path) -> str:
    with suppress(OSError, ValueError), file.open("rb", buffering=0) as content:
        content.seek(1)
        return f" (process {int(content.read(20))})"
    return ""
