"""No-reference image quality assessment from few ratings.

The names below are imported on first use, so that `import fewshot_iqa` costs nothing.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app.report import report
    from .data.synthetic import kadid_mos
    from .distortions import DISTORTIONS, TID2013, compose, distort, distort_batch
    from .errors import InputError, InputWarning
    from .estimator import QualityRegressor
    from .metrics import krcc, plcc, plcc_logistic, rmse, srcc
    from .pretraining.recipe import pretrain
    from .recipes.adaptation import adapt
    from .recipes.common import create_model
    from .recipes.curve import curve
    from .recipes.evaluating import evaluate
    from .recipes.loading import load
    from .recipes.metatraining import metatrain
    from .recipes.ratings import summarize_votes
    from .recipes.sources import TableOptions
    from .recipes.suggesting import suggest
    from .regularize import project_gradient
    from .score import Scorer
    from .types import Features, Prediction

_HOMES = {
    "DISTORTIONS": "distortions",
    "TID2013": "distortions",
    "Features": "types",
    "InputError": "errors",
    "InputWarning": "errors",
    "Prediction": "types",
    "QualityRegressor": "estimator",
    "Scorer": "score",
    "TableOptions": "recipes.sources",
    "adapt": "recipes.adaptation",
    "compose": "distortions",
    "create_model": "recipes.common",
    "curve": "recipes.curve",
    "distort": "distortions",
    "distort_batch": "distortions",
    "evaluate": "recipes.evaluating",
    "kadid_mos": "data.synthetic",
    "krcc": "metrics",
    "load": "recipes.loading",
    "metatrain": "recipes.metatraining",
    "plcc": "metrics",
    "plcc_logistic": "metrics",
    "pretrain": "pretraining.recipe",
    "project_gradient": "regularize",
    "report": "app.report",
    "rmse": "metrics",
    "srcc": "metrics",
    "suggest": "recipes.suggesting",
    "summarize_votes": "recipes.ratings",
}

__all__ = [
    "DISTORTIONS",
    "TID2013",
    "Features",
    "InputError",
    "InputWarning",
    "Prediction",
    "QualityRegressor",
    "Scorer",
    "TableOptions",
    "adapt",
    "compose",
    "create_model",
    "curve",
    "distort",
    "distort_batch",
    "evaluate",
    "kadid_mos",
    "krcc",
    "load",
    "metatrain",
    "plcc",
    "plcc_logistic",
    "pretrain",
    "project_gradient",
    "report",
    "rmse",
    "srcc",
    "suggest",
    "summarize_votes",
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
