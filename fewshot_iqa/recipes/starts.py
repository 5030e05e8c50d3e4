"""Which method a command means, and which checkpoint it starts from: known before anything heavy is imported."""

import json
import warnings
from collections.abc import Iterable
from pathlib import Path

from ..config import Config, load_config, split_overrides
from ..config.heads import GaussianProcessSpec
from ..errors import InputError, InputWarning, nearest
from ..model.formats import read_checkpoint_config, trusted_config
from ..resources import CHECKPOINT_FILES, METATRAINED, SHIPPED, inside, is_checkpoint, portable

DEFAULT = "gp_prompts"  # the method that is taken where none is named


def find_start(start: str | Path | None) -> Path | None:
    """The checkpoint that is named: a folder, or `shipped` for the prompts of this package; None for `none`, and where
    nothing is named. InputError where a folder is not a checkpoint."""
    if start is None or str(start) == "none":
        return None
    folder = SHIPPED if str(start) == "shipped" else Path(start)
    if not folder.is_dir():
        beside = [each.name for each in folder.parent.iterdir()] if folder.parent.is_dir() else []
        raise InputError(f"--from {start}: no such folder.{nearest(folder.name, beside)}".removesuffix("."))
    for name in CHECKPOINT_FILES:
        if not inside(folder, name).is_file():
            raise InputError(f"--from {start}: not a checkpoint: it holds no {name}")
    return folder


def find_method(config: str | Path | None, start: str | Path | None) -> tuple[str, str | Path]:
    """(name, configuration or checkpoint) of a method: `config`, or that of the checkpoint to start from, or of
    `runs/metatrain` where that is one, or the default."""
    if config is not None:
        return str(config), config
    folder = find_start(METATRAINED if start is None and is_checkpoint(METATRAINED) else start)
    return (DEFAULT, DEFAULT) if folder is None else (str(start or folder), folder)


def read_settings(
    config: str | Path, clip: str | None, seed: int | None, overrides: Iterable[str]
) -> tuple[Config, list[str]]:
    """The configuration of a method, or of a checkpoint, and the overrides that were for the task (`task.*`)."""
    own, for_task = split_overrides(overrides)
    own += [f"clip={json.dumps(clip)}"] if clip else []
    own += [f"seed={seed}"] if seed is not None else []
    folder = Path(config)
    settings = trusted_config(folder, own) if is_checkpoint(folder) else load_config(str(config), own)
    return settings.model_copy(update={"clip": portable(settings.clip)}), for_task


def warn_without_prior(settings: Config, start: Path | None) -> None:
    """Say where a method's prior mean is not among what meta-training has made."""
    wanted = settings.head
    if start is None or not (isinstance(wanted, GaussianProcessSpec) and any(wanted.synthetic_mean_weight)):
        return
    head = read_checkpoint_config(start).head
    if not (isinstance(head, GaussianProcessSpec) and any(head.synthetic_mean_weight)):
        instead = "what its prompts predict" if any(wanted.prompt_mean_weight) else "a constant"
        warnings.warn(
            f"{start} holds no linear predictor, so the prior mean is {instead}: `fsiqa metatrain` makes one",
            InputWarning,
            stacklevel=2,
        )


def describe_start(folder: Path, *, named: bool) -> str:
    """One line on the checkpoint that prompts come from; `named` where the user named it."""
    if folder == SHIPPED:
        return "starts from the prompts shipped with this package"
    if named:
        return f"starts from {folder}"
    return f"starts from {folder} (found in the working directory; --from shipped for the prompts of the package)"
