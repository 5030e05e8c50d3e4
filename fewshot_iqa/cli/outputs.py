"""Files of results: that they can be written, and replace nothing but earlier results."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand

from ..errors import InputError
from ..files import SUFFIXES, is_stream, require_writable
from ..resources import CHECKPOINT_FILES, is_checkpoint

OUTPUT = "Output"  # the group of these options in the help
DRAWING = rb"(?i)matplotlib|fewshot_iqa"
DISTORTED = rb"tEXtdistortion\0"
PAGE = rb"(?i)\A<!doctype html"

F = TypeVar("F", bound=Callable[..., Any])
Check = Callable[[Path | None], Path | None]


def writable(path: Path | None) -> Path | None:
    """A file that is gone on with; InputError where it cannot be written, before anything is computed for it."""
    if path:
        require_writable(path)
    return path


def replacing(earlier: bytes, *suffixes: str, what: str = "results") -> Check:
    """A check of a file of results: where there is one already, it matches the pattern `earlier`."""

    def check(path: Path | None) -> Path | None:
        if path and suffixes and path.suffix.lower() not in suffixes and not is_stream(path):
            raise InputError(f"{path}: {what} are {', '.join(suffixes[:-1])} or {suffixes[-1]}")
        if path:
            require_writable(path, earlier)
        return path

    return check


def table_file(*columns: str) -> Check:
    """A check of a CSV file that begins with these columns."""
    return replacing(rb"\A" + ",".join(columns).encode())


drawable = replacing(DRAWING, ".png", ".pdf", ".svg", ".jpg", what="figures")
sheet_file = replacing(DRAWING, ".png", ".jpg", ".jpeg", ".webp", what="sheets")
json_result = replacing(rb"\A[{\[]")


class Command(TyperCommand):
    """A command whose files of results are none of those that it reads."""

    def invoke(self, ctx: Any) -> Any:
        outputs: dict[str, Path] = {}
        read: list[Path] = []
        searched: list[Path] = []
        for each in self.params:
            value = ctx.params.get(each.name)
            if getattr(each, "rich_help_panel", None) == OUTPUT and each.metavar == "FILE":
                outputs |= {max(each.opts, key=len): value} if value else {}
                continue
            read += (found := list(_paths(value)))
            searched += found if each.param_type_name == "argument" or each.name == "images" else []
        if root := ctx.params.get("root"):
            read += [Path(root, path) for path in read]
        require_apart(outputs, read, searched, ctx.params.get("out"))
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
