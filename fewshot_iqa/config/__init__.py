"""Every specification, read strictly from YAML: an unknown key is an error that names the nearest known one."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from .. import resources
from ..errors import InputError, shortened
from .experiment import AblationSpec, ConfoundedSpec, MetaVsNoneSpec
from .heads import AntonymSpec, HeadSpec
from .labels import CLASSES
from .messages import explain
from .method import BranchSpec, Config, LossTerm, ModelSpec, ViewSpec, VisualSpec
from .pretrain import PretrainSpec, SourceSpec
from .reading import DEEPEST, parse_yaml, read_yaml, to_yaml
from .renamed import renamed
from .spec import Spec, deep_merge
from .stages import AdaptSpec, MetaSpec
from .task import KADID_SIDE, EpisodeSpec, SyntheticTask, TableTask, Task

__all__ = [
    "CLASSES",
    "KADID_SIDE",
    "AblationSpec",
    "AdaptSpec",
    "AntonymSpec",
    "BranchSpec",
    "Config",
    "ConfoundedSpec",
    "EpisodeSpec",
    "HeadSpec",
    "LossTerm",
    "MetaSpec",
    "MetaVsNoneSpec",
    "ModelSpec",
    "PretrainSpec",
    "SourceSpec",
    "SyntheticTask",
    "TableTask",
    "ViewSpec",
    "VisualSpec",
    "dump",
    "kadid_mos_table",
    "load_config",
    "load_experiment",
    "load_pretrain",
    "load_task",
    "read_config",
    "read_yaml",
    "split_overrides",
    "with_overrides",
]

S = TypeVar("S", bound=Spec)


def load_config(name: str, overrides: Iterable[str] = ()) -> Config:
    """A method's specification; `overrides` are `dotted.key=value` strings with YAML values."""
    config: Config = _load("configs", name, Config, overrides)
    return config


def read_config(data: Any, overrides: Iterable[str], source: str) -> Config:
    """A method's specification from keys and values that were read from `source`, overridden likewise."""
    config: Config = _validate(Config, data, overrides, source)
    return config


def load_task(name: str, overrides: Iterable[str] = ()) -> TableTask | SyntheticTask:
    """A source of records, overridden likewise."""
    try:
        task: TableTask | SyntheticTask = _load("tasks", name, Task, overrides)
    except InputError as error:  # on the command line its keys stand behind task.
        raise InputError(str(error).replace("--set ", "--set task.", 1)) from None
    return task


def with_overrides(spec: S, **changes: Any) -> S:
    """The specification with some keys changed (None leaves a key as it is), checked as if read from a file."""
    given = {name: value for name, value in changes.items() if value is not None}
    result: S = _validate(type(spec), spec.model_dump() | given, (), "options")
    return result


def load_pretrain(name: str, overrides: Iterable[str] = ()) -> PretrainSpec:
    """The recipe of the embedded CLIP, overridden likewise."""
    spec: PretrainSpec = _load("configs", name, PretrainSpec, overrides)
    return spec


def load_experiment(name: str, overrides: Iterable[str] = (), *, kind: type[S]) -> S:
    """The plan of an experiment, overridden likewise."""
    spec: S = _load("configs", name, kind, overrides)
    return spec


def dump(spec: Spec) -> str:
    """The specification as YAML that reads back to the same."""
    return to_yaml(spec.model_dump(mode="json"))


@cache
def kadid_mos_table() -> dict[str, list[float]]:
    """KADID-10k's mean opinion (1 bad .. 5 excellent) of each distortion at levels 1 to 5, over its 81 references."""
    means: dict[str, list[float]] = read_yaml(resources.find("tasks", "kadid_levels"))["means"]
    return means


def _load(folder: str, name: str, kind: Any, overrides: Iterable[str]) -> Any:
    path = resources.find(folder, name)
    return _validate(kind, _with_base(folder, path), overrides, str(path))


def _with_base(folder: str, path: Path, *above: Path) -> Any:
    """The keys of a file, laid over the file that its key `base` names; null takes a part of that away."""
    data = read_yaml(path)
    if not isinstance(data, dict) or "base" not in data:
        return data
    name = str(data.pop("base"))
    beside = path.parent / name
    try:
        base = beside if beside.is_file() else resources.find(folder, name)
    except OSError as error:
        raise InputError(f"{path}: base: cannot be read ({error.strerror})") from None
    if base in (path, *above):
        raise InputError(f"{path}: base: {base} is based on this file")
    if len(above) > DEEPEST:
        raise InputError(f"{path}: base: more than {DEEPEST} files are based on each other")
    return deep_merge(_with_base(folder, base, path, *above), data)


def split_overrides(overrides: Iterable[str]) -> tuple[list[str], list[str]]:
    """(overrides of the method, overrides of the task without their `task.`)."""
    given = list(overrides)
    for_task = [text.removeprefix("task.") for text in given if text.startswith("task.")]
    return [text for text in given if not text.startswith("task.")], for_task


def _validate(kind: Any, data: Any, overrides: Iterable[str], source: str) -> Any:
    if not isinstance(data, dict):
        raise InputError(f"{source}: expected keys and values")
    overrides, absent = list(overrides), set()
    for override in overrides:
        key = override.partition("=")[0].strip()
        section, *keys = key.split(".")
        if keys and data.get(section) is None:
            absent.add(section)
        _override(data, override)
        if present := renamed(key):
            raise InputError(f"--set {shortened(override)}: {key} is now called {present}")
    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        key, message = explain(error, kind, absent=absent)
        guilty = [text for text in overrides if _concerns(text.partition("=")[0].strip(), key, message)]
        raise InputError(f"--set {shortened(guilty[-1])}: {message}" if guilty else f"{source}: {message}") from None


def _concerns(override: str, key: str, message: str) -> bool:
    """Whether the key that was overridden is at fault, above it or below it, or named by the message."""
    above_or_below = bool(key) and (f"{key}.".startswith(f"{override}.") or f"{override}.".startswith(f"{key}."))
    return above_or_below or f" {override}" in f" {message}"


def _override(data: dict[str, Any], override: str) -> None:
    dotted, equals, value = override.partition("=")
    if not equals or not dotted.strip() or dotted.count(".") > DEEPEST:
        raise InputError(f"--set {shortened(override)}: expected dotted.key=value")
    *parents, leaf = dotted.strip().split(".")
    node: Any = data
    for key in parents:
        if isinstance(node, list):
            node = node[_entry(node, key, override)]
            continue
        if not isinstance(node.get(key), dict | list):
            node[key] = {}
        node = node[key]
    node[_entry(node, leaf, override)] = parse_yaml(value, f"--set {shortened(override)}")


def _entry(node: Any, key: str, override: str) -> Any:
    """The place of a key in a dictionary, or in a list, whose entries are numbered from 0 on."""
    if isinstance(node, dict):
        return key
    if not isinstance(node, list) or not key.isdecimal() or int(key) >= len(node):
        where, key = shortened(override), shortened(key)
        raise InputError(f"--set {where}: no entry '{key}' is there; those of a list are numbered from 0 on")
    return int(key)
