"""What is wrong with a specification, in one line: the dotted key, the value, and what is accepted."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import ValidationError

from ..errors import InputError, nearest, shortened
from .renamed import renamed
from .spec import Spec

Place = tuple[list[str], list[type[Spec]]]  # a dotted key in parts, and the specifications that can stand there

SYNONYMS = {
    "backbone": "clip",
    "batch_size": "batch",
    "context_length": "context",
    "crop_size": "crop",
    "iterations": "steps",
    "learning_rate": "lr",
    "max_epochs": "epochs",
    "n_ctx": "context",
    "num_epochs": "epochs",
    "num_steps": "steps",
    "optim": "optimizer",
    "random_seed": "seed",
    "resize": "short_side",
    "scheduler": "schedule",
    "wd": "weight_decay",
}
ABSENT = {
    "adapt": "it learns in closed form, or not at all",
    "meta": "it has no meta-training",
}
EXPECTED = {
    "bool": "true or false",
    "dict": "keys and values",
    "finite": "a finite number",
    "float": "a number",
    "int": "a whole number",
    "list": "a list, such as [a, b]",
    "model": "keys and values",
    "path": "a path",
    "string": "text",
    "tuple": "a list, such as [1, 5]",
}
BOUNDS = {
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "string_too_long": "at most {max_length} characters",
}


def explain(error: ValidationError, root: Any, *, absent: Iterable[str] = ()) -> tuple[str, str]:
    """(dotted key, one line) of the first fault of data that was to be a `root`: a Spec, or a union of some.

    `absent` are the sections that the data did not have before single keys of theirs were set. An unknown key comes
    before a missing one, which it may stand for. The key is empty where a fault is of several together.
    """
    fault = min(error.errors(), key=lambda each: each["type"] == "missing")
    parts, specs = _place(root, fault["loc"])
    key, kind, context = ".".join(parts), fault["type"], fault.get("ctx", {})
    shown = shortened(key, 200)
    if kind in ("missing", "extra_forbidden") and parts[0] in absent and _is_optional(root, parts[0]):
        reason = f" ({ABSENT[parts[0]]})" if parts[0] in ABSENT else ""
        return parts[0], f"this method has no section {parts[0]}{reason}"
    if kind == "extra_forbidden":
        if present := renamed(key):
            return key, f"{key} is now called {present}"
        return key, f"unknown key {shown}.{_suggestion(parts, specs, root)}"
    if kind == "missing" and isinstance(fault["loc"][-1], int):
        return key, f"{'.'.join(parts[:-1])}: expected one value more"
    if kind == "missing":
        return key, f"the key {shown} is missing"
    if kind.startswith("union_tag"):
        name, known = (context.get(part, "").replace("'", "") for part in ("discriminator", "expected_tags"))
        key = ".".join([*parts, name])
        return key, f"{key}{_given(context['tag'])}: expected one of {known}" if known else f"the key {key} is missing"
    if isinstance(context.get("error"), InputError):
        return key, str(context["error"])
    wanted = str(context.get("error") or f"expected {_accepted(kind, context)}")
    if kind == "literal_error":
        wanted = f"{wanted}.{nearest(str(fault['input']), _choices(context))}".removesuffix(".")
    return key, f"{shown or 'the file'}{_given(fault['input'])}: {wanted}"


def _accepted(kind: str, context: Mapping[str, Any]) -> str:
    if kind in BOUNDS:
        return BOUNDS[kind].format(**{name: f"{v:g}" for name, v in context.items() if isinstance(v, int | float)})
    if kind == "literal_error":
        return f"one of {', '.join(_choices(context))}"
    return EXPECTED.get(kind.split("_")[0], "another value")


def _choices(context: Mapping[str, Any]) -> list[str]:
    return [each.strip(" '") for each in context["expected"].replace(" or ", ", ").split(",")]


def _is_optional(root: Any, section: str) -> bool:
    return any(s.model_fields[section].default is None for s in _specs(root) if section in s.model_fields)


def _given(value: Any) -> str:
    """` = value` of a plain value, shortened; its type alone of any other."""
    if isinstance(value, str | int | float | list | tuple | dict | None):
        return f" = {shortened(repr(value))}"
    return f" (a {type(value).__name__})"


def _suggestion(parts: Sequence[str], specs: Sequence[type[Spec]], root: Any) -> str:
    """`" Did you mean 'adapt.lr'?"`: the nearest key at the same place, or one of this name at another."""
    *above, leaf = parts
    here = sorted({name for spec in specs for name in spec.model_fields})
    wanted = SYNONYMS.get(leaf, leaf)
    if wanted in here:
        return nearest(".".join([*above, wanted]), [".".join([*above, wanted])])
    same = [each for each in _keys(root) if each[-1] == wanted and each != tuple(parts)]  # itself: of another kind
    elsewhere = list(dict.fromkeys(".".join(each) for each in same))
    if elsewhere:
        return f" Did you mean {' or '.join(repr(each) for each in elsewhere[:3])}?"
    close = nearest(leaf, here)
    if not close:
        return f" Known: {', '.join(here)}"
    return close.replace("'", f"'{'.'.join(above)}.", 1) if above else close


def _place(root: Any, location: Sequence[int | str]) -> Place:
    """Where pydantic found a fault: without the kinds of unions, which are no keys."""
    parts: list[str] = []
    specs = list(_specs(root))
    for i, part in enumerate(location):
        last = i == len(location) - 1
        tagged = [spec for spec in specs if "kind" in spec.model_fields and part in _kinds(spec)]
        if tagged and not any(part in spec.model_fields for spec in specs):
            specs = tagged
            continue
        parts.append(str(part))
        fields = [spec.model_fields[part] for spec in specs if part in spec.model_fields]
        if fields and not last:
            specs = [spec for field in fields for spec in _specs(field.annotation)]
    return parts, specs


def _kinds(spec: type[Spec]) -> tuple[Any, ...]:
    return get_args(spec.model_fields["kind"].annotation)


def _specs(annotation: Any) -> Iterator[type[Spec]]:
    """The specifications that an annotation names, through lists, unions and the like."""
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
    for part in get_args(annotation):
        yield from _specs(part)


def _keys(annotation: Any) -> Iterator[tuple[str, ...]]:
    """All dotted keys of a specification; those of lists and dictionaries of specifications are left out."""
    for spec in _specs(annotation):
        for name, field in spec.model_fields.items():
            yield (name,)
            if not any(kind in str(field.annotation) for kind in ("list[", "dict[")):
                yield from ((name, *rest) for rest in _keys(field.annotation))
