"""Learn to judge image quality from a handful of rated pictures.

The names below are imported on first use, so that `import fewshot_iqa` costs nothing.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data.synthetic import kadid_mos
    from .distortions import DISTORTIONS, TID2013, compose, distort, distort_batch
    from .errors import InputError
    from .metrics import krcc, plcc, srcc
    from .pretraining.recipe import pretrain
    from .recipes.adaptation import adapt, load
    from .recipes.curve import curve
    from .recipes.metatraining import metatrain
    from .score import Scorer

_HOMES = {
    "kadid_mos": "data.synthetic",
    "DISTORTIONS": "distortions",
    "TID2013": "distortions",
    "compose": "distortions",
    "distort": "distortions",
    "distort_batch": "distortions",
    "InputError": "errors",
    "krcc": "metrics",
    "plcc": "metrics",
    "srcc": "metrics",
    "adapt": "recipes.adaptation",
    "curve": "recipes.curve",
    "load": "recipes.adaptation",
    "metatrain": "recipes.metatraining",
    "pretrain": "pretraining.recipe",
    "Scorer": "score",
}

__all__ = [
    "DISTORTIONS",
    "TID2013",
    "InputError",
    "Scorer",
    "adapt",
    "compose",
    "curve",
    "distort",
    "distort_batch",
    "kadid_mos",
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
