"""The recipe that makes a checkpoint ready to score. torch is imported where a checkpoint itself is loaded."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

from ..config import Config
from ..errors import InputError, InputWarning
from ..model.formats import read_checkpoint_config, weights_fingerprint
from ..resources import SHIPPED
from ..runtime import SUFFIX, ExportedModel, has_runtime, load_exported
from ..score import Scorer

EXPORTED = f"model{SUFFIX}"  # inside a checkpoint


def load(
    folder: str | Path = SHIPPED,
    *,
    device: str | None = None,
    head: Any = None,
    cache: str | Path | None = None,
    clip: str | None = None,
) -> Scorer:
    """A checkpoint ready to score images, by default the shipped one, which is adapted to no ratings; or a file of
    `fsiqa export`.

    `head` is that of a model that was fitted with a head from Python. Features are kept in the folder `cache`.
    `clip` is the CLIP that it was made on, as for `adapt`: to be named once, for a checkpoint that was received.

    Examples:
        >>> model = load()
        >>> from sklearn.datasets import load_sample_image
        >>> 0 < model.score(load_sample_image("china.jpg")) < 1
        True
    """
    if Path(folder).suffix.lower() == SUFFIX:
        for name, value in (("device", device), ("head", head), ("cache", cache), ("clip", clip)):
            if value is not None:
                raise InputError(f"{folder}: an exported model takes no {name}; give its checkpoint")
        return load_exported(Path(folder))
    from ..features import FeatureCache
    from ..model import checkpoint
    from ..predictor import SCORED, ModelPredictor
    from ..types import Scale
    from .common import choose_device

    place = choose_device(device)
    if head is not None and read_checkpoint_config(Path(folder)).head.kind != "custom":
        raise InputError(f"{folder}: was not fitted with a head from Python; load it without head=")
    model, settings, provenance = checkpoint.load(Path(folder), place, copy.deepcopy(head), clip)
    scale = Scale(*provenance["scale"]) if "scale" in provenance else None
    predictor = ModelPredictor(model, explained_branches(settings, provenance), FeatureCache(cache, memory=SCORED))
    return Scorer(predictor, settings.views, scale)


def explained_branches(settings: Config, provenance: dict[str, Any]) -> list[str]:
    """The branches that learned which of their phrases is true of a picture."""
    learned = provenance.get("labels", {})
    return [branch for target, branch in settings.label_branches.items() if learned.get(target)]


def load_fastest(
    folder: Path, *, device: str | None = None, cache: str | Path | None = None, clip: str | None = None
) -> Scorer:
    """As `load`; without device, cache and clip by the exported model inside the checkpoint, where there is one, and
    the runtime. An InputWarning says why one that is there is not used."""
    exported = folder / EXPORTED
    if device is None and cache is None and clip is None and exported.is_file() and has_runtime():
        try:
            scorer = load_exported(exported)
            assert isinstance(scorer.predictor, ExportedModel)
            if scorer.predictor.about["weights"] == weights_fingerprint(folder):
                return scorer
            problem = f"{exported}: was exported from other weights"
        except InputError as error:
            problem = str(error)
        warnings.warn(f"{problem}; not used: `fsiqa export {folder}` makes it anew", InputWarning, stacklevel=2)
    return load(folder, device=device, cache=cache, clip=clip)
