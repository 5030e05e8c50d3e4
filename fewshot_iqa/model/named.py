"""The CLIPs that this user has named, by the fingerprint of their weights. Imports no torch.

A checkpoint says by a fingerprint which CLIP it is made on. Whoever wrote it may have written any path or address
beside that, so the fingerprint is looked up here, where only names of the user's own commands are.
"""

import json
from contextlib import suppress
from pathlib import Path

from ..errors import InputError
from ..files import writing
from ..resources import portable

FILE = Path(".cache") / "fewshot_iqa" / "clips.json"  # from the user's home on
_named: dict[str, str] = {}


def remember(name: str, fingerprint: str) -> None:
    """Keep the name of a CLIP that the user has given."""
    name = portable(name)
    if _named.get(fingerprint) == name:
        return
    _named[fingerprint] = name
    with suppress(OSError, RuntimeError, InputError):  # without a home that can be written, for this process alone
        path = Path.home() / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as file:
            file.write(json.dumps(_kept() | _named, indent=1))


def recall(fingerprint: str) -> str | None:
    """The name of the CLIP with this fingerprint, if the user has ever given it."""
    return (_kept() | _named).get(fingerprint)


def _kept() -> dict[str, str]:
    with suppress(OSError, RuntimeError, ValueError):
        found = json.loads((Path.home() / FILE).read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return {str(key): str(value) for key, value in found.items()}
    return {}
