"""Learn to judge image quality from a handful of rated pictures.

The names below are imported on first use, so that `import fewshot_iqa` costs nothing.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .distortions import DISTORTIONS, distort, distort_batch
    from .errors import InputError
    from .metrics import krcc, plcc, srcc
    from .recipes import adapt, load, metatrain, pretrain
    from .score import Scorer

_HOMES = {
    "DISTORTIONS": "distortions",
    "distort": "distortions",
    "distort_batch": "distortions",
    "InputError": "errors",
    "krcc": "metrics",
    "plcc": "metrics",
    "srcc": "metrics",
    "adapt": "recipes",
    "load": "recipes",
    "metatrain": "recipes",
    "pretrain": "recipes",
    "Scorer": "score",
}

__all__ = [
    "DISTORTIONS",
    "InputError",
    "Scorer",
    "adapt",
    "distort",
    "distort_batch",
    "krcc",
    "load",
    "metatrain",
    "plcc",
    "pretrain",
    "srcc",
]
__version__ = version("fewshot-iqa")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
