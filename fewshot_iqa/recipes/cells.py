"""Results that are kept one file a cell, so that a long run goes on where it was stopped."""

import json
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import reason, remove_leftovers, writing
from ..model.clip import shared_clip
from ..model.formats import weights_fingerprint
from ..resources import is_unused
from .trial import Method

ABOUT = "study.json"


def claim(folder: Path, plan: dict[str, Any], parts: dict[str, Any]) -> None:
    """Write what the folder is about, the plan and the named parts (arms, methods) so far.

    What a killed run left half-written is removed. InputError where it holds something else, another plan, or another
    part of the same name.
    """
    described = folder / ABOUT
    if not described.is_file() and folder.is_dir() and not is_unused(folder):
        raise InputError(f"--out {folder}: holds something else; name a folder of its own")
    earlier: dict[str, Any] = read(described) or {"plan": plan, "parts": {}}
    if earlier["plan"] != plan:
        changed = sorted(key for key in plan | earlier["plan"] if earlier["plan"].get(key) != plan.get(key))
        raise InputError(f"--out {folder}: holds results of another {', '.join(changed)}; name a folder of its own")
    for name, part in parts.items():
        if earlier["parts"].get(name, part) != part:
            raise InputError(f"--out {folder}: holds results of another '{name}'; name a folder of its own")
    remove_leftovers(folder)
    write(described, {"plan": plan, "parts": earlier["parts"] | parts})


def read(file: Path) -> dict[str, Any]:
    """What a file holds, {} where there is none."""
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except (ValueError, OSError) as error:
        raise InputError(f"{file}: not readable ({error}); delete it to compute it anew") from None
    return found


def write(file: Path, content: Any) -> None:
    """Whole or not at all."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({reason(error)})") from None
    with writing(file) as whole:
        whole.write(json.dumps(content, indent=1, allow_nan=False) + "\n")


def identity(method: Method) -> dict[str, Any]:
    """What a method's results depend on beside its pictures and their draws."""
    return {
        "config": method.settings.model_dump(mode="json"),
        "clip": shared_clip(method.settings.clip, method.device).fingerprint,
        "start": weights_fingerprint(method.start) if method.start else None,
    } | ({"looks": method.looks} if method.looks else {})
