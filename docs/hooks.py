"""Pages of the site that are made when it is built: the top-level pages, and the reference of keys and commands."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel, Discriminator
from pydantic.fields import FieldInfo

import fewshot_iqa
from fewshot_iqa.cli import app
from fewshot_iqa.config import Config, PretrainSpec, SyntheticTask, TableTask
from fewshot_iqa.config.heads import CustomSpec

ROOT = Path(__file__).parent.parent
COPIES = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "reference/embedded-clip.md": "fewshot_iqa/assets/README.md",
}
KINDS = {
    "Method": (Config, "The keys of `configs/*.yaml`, for `--config` and `--set KEY=VALUE`."),
    "Table of ratings": (TableTask, "The keys of a task of `kind: table`, for `--task` and `--set task.KEY=VALUE`."),
    "Synthetic pictures": (SyntheticTask, "The keys of a task of `kind: synthetic`."),
    "Pre-training": (PretrainSpec, "The keys of `configs/pretrain.yaml`, for `fsiqa pretrain`."),
}
WORDS = {"str": "text", "bool": "true or false", "int": "whole number", "float": "number", "Path": "path"}
BOUNDS = {"gt": "> {}", "ge": "≥ {}", "lt": "< {}", "le": "≤ {}", "multiple_of": "a multiple of {}"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {page: (ROOT / source).read_text(encoding="utf-8") for page, source in COPIES.items()}
    pages |= {
        "reference/python.md": python_page(),
        "reference/configuration.md": configuration_page(),
        "reference/commands.md": commands_page(),
    }
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to files lead where these are on the site, or else to the repository."""
    source = COPIES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    homes = {origin: copy for copy, origin in COPIES.items()}

    def home(match: re.Match[str]) -> str:
        path, anchor = match["path"], match["anchor"] or ""
        target = (ROOT / source).parent.joinpath(path).resolve()
        if "://" in path or not path or not target.is_relative_to(ROOT) or not target.exists():
            return match[0]
        name = target.relative_to(ROOT).as_posix()
        uri = homes.get(name, name.removeprefix("docs/"))
        if uri not in files.src_uris:
            return f"]({config.extra['repository']}/blob/main/{name}{anchor})"
        depth = len(PurePosixPath(page.file.src_uri).parts) - 1
        return f"]({'../' * depth}{uri}{anchor})"

    return re.sub(r"\]\((?P<path>[^)#\s]*)(?P<anchor>#[^)\s]*)?\)", home, markdown)


def python_page() -> str:
    """The public names, each from its docstring."""
    lines = ["# Python", "", "`import fewshot_iqa as fsiqa` imports nothing heavy; each name is loaded on use.", ""]
    for name in fewshot_iqa.__all__:
        lines += [f"::: fewshot_iqa.{name}", ""]
    return "\n".join(lines)


def configuration_page() -> str:
    """A table of keys for each kind of file, and for each kind of what is chosen by its key `kind`."""
    lines = ["# Configuration keys", "", "A dotted key is a path through the YAML file. `NAME` is a name of yours."]
    for title, (spec, use) in KINDS.items():
        lines += ["", f"## {title}", "", use, "", *_table(spec)]
        for name, field in spec.model_fields.items():
            for each in _choices(field):
                kind = _type(each.model_fields["kind"].annotation)
                lines += ["", f"### {name} of kind `{kind}`", "", _first(each.__doc__), "", *_table(each, f"{name}.")]
    return "\n".join(lines) + "\n"


def _table(spec: type[BaseModel], prefix: str = "") -> Iterator[str]:
    rows = [row for row in keys(spec, prefix) if not (prefix and row[0] == f"`{prefix}kind`")]
    if rows:
        yield from ("| key | type | default | meaning |", "|---|---|---|---|")
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def keys(spec: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """(dotted key, type, default, meaning) of each field, those of specifications inside it after it."""
    for name, field in spec.model_fields.items():
        meaning = (field.description or "") + (" See below." if _choices(field) else "")
        yield f"`{prefix}{name}`", f"`{_type(field.annotation, field.metadata)}`", _default(field), meaning
        if not _choices(field):
            inner, suffix = _inside(field.annotation)
            for each in inner:
                yield from keys(each, f"{prefix}{name}{suffix}.")


def _choices(field: FieldInfo) -> list[type[BaseModel]]:
    """The specifications of which one is chosen by its `kind`, but for those that no file can hold."""
    if not any(isinstance(each, Discriminator) for each in field.metadata):
        return []
    return [each for each in _inside(field.annotation)[0] if each is not CustomSpec]


def _inside(kind: Any) -> tuple[list[type[BaseModel]], str]:
    """The specifications in a type, and what stands for their place in a dotted key."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind], ""
    parts = get_args(kind)
    found = [(specs, suffix) for specs, suffix in map(_inside, parts) if specs]
    if not found:
        return [], ""
    here = {dict: ".NAME", list: "[]"}.get(get_origin(kind), "")  # type: ignore[arg-type]
    return [spec for specs, _ in found for spec in specs], here + found[0][1]


def _type(kind: Any, metadata: Iterable[Any] = ()) -> str:
    """The name of a type, with the bounds that its metadata give."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _type(parts[0], [each for part in parts[1:] for each in getattr(part, "metadata", ())])
    limits = [(text, getattr(each, name, None)) for each in metadata for name, text in BOUNDS.items()]
    bounds = ", ".join(text.format(f"{limit:g}") for text, limit in limits if limit is not None)
    if origin in (Union, UnionType):
        named = (_type(part) if part is type(None) else f"{_type(part)} {bounds}".strip() for part in parts)
        return " or ".join(dict.fromkeys(named))
    if origin is Literal:
        return " or ".join(map(str, parts))
    if kind in (None, type(None)):
        return "null"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "keys"
    if origin is dict:
        return "keys"
    if parts:
        return "list of " + re.sub("number|text|path", r"\g<0>s", _type(parts[-1]), count=1)
    name = getattr(kind, "__name__", str(kind))
    return f"{WORDS.get(name, name)} {bounds}".strip()


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        kind = getattr(value, "kind", None)
        return f"`{{kind: {kind}}}`" if kind else ""
    if isinstance(value, list) and value and all(isinstance(each, float) for each in value):
        value = [float(f"{each:.3g}") for each in value]
    shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{shown if len(shown) <= 60 else shown[:57] + '...'}`"


def commands_page() -> str:
    """Each command with its arguments and options."""
    lines = ["# Command line", ""]
    for path, command in _commands(typer.main.get_command(app), ("fsiqa",)):
        lines += [f"## {' '.join(path)}", "", *(command.help or "").splitlines(), ""]
        rows = []
        for option in command.params:
            names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
            if option.param_type_name == "argument":
                names = f"`{option.metavar or option.name.upper()}`"
            default = "" if option.default is None or option.default is False else f"`{option.default}`"
            rows.append((names, getattr(option, "help", None) or "", "required" if option.required else default))
        if rows:
            lines += ["| option | meaning | default |", "|---|---|---|"]
            lines += [f"| {' | '.join(map(_cell, row))} |" for row in rows] + [""]
    return "\n".join(lines)


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from _commands(each, (*path, name))


def _first(text: str | None) -> str:
    """The first paragraph, on one line."""
    return " ".join((text or "").split("\n\n")[0].split())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
