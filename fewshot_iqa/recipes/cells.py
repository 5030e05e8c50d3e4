"""A folder of results, one file a cell, so that a long study goes on where it was stopped."""

import json
from pathlib import Path
from typing import Any

from ..errors import InputError

ABOUT = "study.json"


def claim(folder: Path, plan: dict[str, Any], parts: dict[str, Any]) -> None:
    """Write what the folder is about, the plan and the named parts (arms, methods) so far.

    InputError where it holds another plan, or another part of the same name.
    """
    described = folder / ABOUT
    earlier: dict[str, Any] = read(described) or {"plan": plan, "parts": {}}
    if earlier["plan"] != plan:
        changed = sorted(key for key in plan | earlier["plan"] if earlier["plan"].get(key) != plan.get(key))
        raise InputError(f"--out {folder}: holds results of another {', '.join(changed)}; name a folder of its own")
    for name, part in parts.items():
        if earlier["parts"].get(name, part) != part:
            raise InputError(f"--out {folder}: holds results of another '{name}'; name a folder of its own")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write(described, {"plan": plan, "parts": earlier["parts"] | parts})
    except OSError as error:
        raise InputError(f"--out {folder}: cannot be written ({error.strerror})") from None


def read(file: Path) -> dict[str, Any]:
    """What a file holds, {} where there is none."""
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return found


def write(file: Path, content: Any) -> None:
    """Whole or not at all."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    part.replace(file)
