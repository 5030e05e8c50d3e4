"""YAML, strictly: plain values of bounded size and depth, so that any text is read or refused in bounded time."""

import re
import stat
from pathlib import Path
from typing import Any, NoReturn

import yaml

from ..errors import InputError

LARGEST = 1_000_000  # bytes of a file
MOST = 20_000  # values of a file: PyYAML takes a second for them
DEEPEST = 50  # lists and dictionaries inside each other
LONGEST_NUMBER = 100  # characters: the time to read a number grows with their square


class _Loader(yaml.SafeLoader):
    """Without aliases, merge keys, duplicate keys and tags; floats as of YAML 1.2: PyYAML alone reads 1e-4 as text."""

    depth = count = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML has no type for it
        if isinstance(event, yaml.AliasEvent):
            _refuse(f"aliases such as *{event.anchor} are not read: repeat the lines", event.start_mark)
        if event.tag is not None:
            _refuse("tags such as !!str are not read", event.start_mark)
        self.depth, self.count = self.depth + 1, self.count + 1
        if self.depth > DEEPEST or self.count > MOST:
            most = f"more than {MOST} values" if self.count > MOST else f"nested in more than {DEEPEST} levels"
            _refuse(most, event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def flatten_mapping(self, node: Any) -> None:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                _refuse("merge keys (<<) are not read: repeat the lines", key.start_mark)
        super().flatten_mapping(node)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        found, seen = super().construct_mapping(node, deep=deep), set()
        for key, _ in node.value:
            name = self.construct_object(key)
            if name in seen:
                _refuse(f"the key {name} is there twice", key.start_mark)
            seen.add(name)
        return found

    def construct_scalar(self, node: Any) -> Any:
        if len(node.value) > LONGEST_NUMBER and not node.tag.endswith(":str"):
            _refuse(f"a number of {len(node.value)} characters", node.start_mark)
        return super().construct_scalar(node)


class _Dumper(yaml.SafeDumper):
    """What `_Loader` reads."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
        list("-+.0123456789"),
    )


def read_yaml(path: Path) -> Any:
    """What a file holds; InputError unless it is a regular file of YAML as `parse_yaml` reads it."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # before it is opened: a pipe would wait for a writer
            raise InputError(f"{path}: not a regular file")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if len(content) > LARGEST:
        raise InputError(f"{path}: not valid YAML for a configuration (more than {LARGEST // 10**6} MB)")
    try:
        return parse_yaml(content.decode("utf-8"), str(path))
    except UnicodeDecodeError:
        raise InputError(f"{path}: not valid YAML (the text is not UTF-8)") from None


def parse_yaml(text: str, where: str) -> Any:
    """What a text of YAML holds: plain values, without aliases, merge keys, duplicate keys and tags.

    InputError, which begins with `where`, on anything else, and where it is too long or too deep.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "unknown"
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark and mark.line else ""
    except (ValueError, TypeError, AttributeError, ArithmeticError, LookupError, RecursionError, MemoryError) as error:
        # PyYAML lets through what fails in a constructor, such as the date 2024-13-01
        reason, line = str(error) or type(error).__name__, ""
    raise InputError(f"{where}{line}: not valid YAML ({reason})")


def to_yaml(data: Any) -> str:
    """Plain values as YAML that `parse_yaml` reads back to the same."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False)


def _refuse(reason: str, mark: Any) -> NoReturn:
    raise yaml.constructor.ConstructorError(None, None, reason, mark)
