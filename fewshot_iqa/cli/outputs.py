"""Files of results: that they can be written, and replace nothing but earlier results."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand

from ..errors import InputError
from ..files import SUFFIXES, is_stream, reason, remove_leftovers, require_writable
from ..resources import CHECKPOINT_FILES, is_checkpoint

OUTPUT = "Output"  # the group of these options in the help
SEARCHED = 65536  # bytes at either end of a file
DRAWING = rb"(?i)matplotlib|fewshot_iqa"
DISTORTED = rb"tEXtdistortion\0"
PAGE = rb"(?i)\A<!doctype html"

F = TypeVar("F", bound=Callable[..., Any])
Check = Callable[[typer.Context, typer.CallbackParam, Path | None], Path | None]
FILES = "files of results"  # in what a context notes: {option: (path, pattern of earlier results)}


def replacing(earlier: bytes | None, *suffixes: str, what: str = "results") -> Check:
    """A check of a file of results before anything is computed for it; one that is there already has to match the
    pattern `earlier`, which `Command` sees to when all options are known. Without a pattern it is gone on with."""

    def check(ctx: typer.Context, param: typer.CallbackParam, path: Path | None) -> Path | None:
        if path and suffixes and path.suffix.lower() not in suffixes and not is_stream(path):
            raise InputError(f"{path}: {what} are {', '.join(suffixes[:-1])} or {suffixes[-1]}")
        if path:
            require_writable(path)
            ctx.meta.setdefault(FILES, {})[max(param.opts, key=len)] = (path, earlier)
        return path

    return check


def table_file(*columns: str) -> Check:
    """A check of a CSV file that begins with these columns."""
    return replacing(rb"\A" + ",".join(columns).encode())


writable = replacing(None)
drawable = replacing(DRAWING, ".png", ".pdf", ".svg", ".jpg", what="figures")
sheet_file = replacing(DRAWING, ".png", ".jpg", ".jpeg", ".webp", what="sheets")
json_result = replacing(rb"\A[{\[]")


class Command(TyperCommand):
    """A command whose files of results are none of those that it reads, and replace nothing but earlier results."""

    def invoke(self, ctx: Any) -> Any:
        outputs: dict[str, tuple[Path, bytes | None]] = ctx.meta.get(FILES, {})
        read: list[Path] = []
        searched: list[Path] = []
        for each in self.params:
            if max(each.opts, key=len) not in outputs:
                found = list(_paths(ctx.params.get(each.name)))
                read += found
                searched += found if each.param_type_name == "argument" or each.name == "images" else []
        if root := ctx.params.get("root"):
            read += [Path(root, path) for path in read]
        require_apart({option: path for option, (path, _) in outputs.items()}, read, searched, ctx.params.get("out"))
        for option, (path, earlier) in outputs.items():
            require_replaceable(option, path, earlier)
            remove_leftovers(path.parent)
        return super().invoke(ctx)


class Commands(typer.Typer):
    """A group of such commands."""

    def command(self, name: str | None = None, **more: Any) -> Callable[[F], F]:
        return super().command(name, cls=Command, **more)


def require_apart(
    outputs: Mapping[str, Path], read: Sequence[Path], searched: Sequence[Path], made: Path | None
) -> None:
    """InputError where an output {option: file} is one of the files that are `read`, a picture in a folder that is
    `searched`, a part of a checkpoint, also of that which is `made`, or another output."""
    known: dict[Path, str] = {}
    for option, path in outputs.items():
        if is_stream(path):
            continue
        whole = path.resolve()
        inside = any(folder.is_dir() and whole.is_relative_to(folder.resolve()) for folder in searched)
        if path.is_file() and (_is_one_of(path, read) or (inside and path.suffix.lower() in SUFFIXES)):
            raise InputError(f"{option} {path}: is read by this run; name another file")
        in_model = is_checkpoint(path.parent) or (made is not None and whole.parent == Path(made).resolve())
        if in_model and path.name in CHECKPOINT_FILES:
            raise InputError(f"{option} {path}: is a part of the checkpoint {path.parent}; name another file")
        if whole in known:
            raise InputError(f"{known[whole]} and {option} {path}: are one file; name two")
        known[whole] = option


def _is_one_of(path: Path, others: Sequence[Path]) -> bool:
    return any(os.path.isfile(other) and os.path.samefile(path, other) for other in others)


def _paths(value: Any) -> Iterator[Path]:
    """What an argument names that is there: itself, or a part of it, as in NAME:WEIGHTS and KEY=FILE."""
    for each in value if isinstance(value, list | tuple) else [value]:
        if isinstance(each, str | Path):
            for part in {str(each), *re.split("[:,=]", str(each))}:
                if part and os.path.exists(part):
                    yield Path(part)


def require_replaceable(option: str, path: Path, earlier: bytes | None) -> None:
    """InputError where a file is there that is not empty, and matches the pattern `earlier` neither near its beginning
    nor near its end: it is no earlier result of this option."""
    if earlier is None or is_stream(path) or not path.is_file():
        return
    try:
        with path.open("rb") as file:
            head = file.read(SEARCHED)
            file.seek(max(len(head), path.stat().st_size - SEARCHED))
            known = not head or re.search(earlier, head + file.read()) is not None
    except OSError as error:
        raise InputError(f"{option} {path}: cannot be replaced ({reason(error)})") from None
    if not known:
        raise InputError(f"{option} {path}: is there already, and is no earlier result of this kind; name another file")
