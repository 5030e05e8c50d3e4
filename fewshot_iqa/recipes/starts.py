"""Which method a command means, and which checkpoint it starts from: known before anything heavy is imported."""

from pathlib import Path

from ..errors import InputError, nearest
from ..resources import CHECKPOINT_FILES, METATRAINED, SHIPPED, is_checkpoint

DEFAULT_METHOD = "grmp"


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
        if not (folder / name).is_file():
            raise InputError(f"--from {start}: not a checkpoint: it holds no {name}")
    return folder


def find_method(config: str | None, start: str | Path | None) -> tuple[str, str]:
    """(name, configuration) of a method: `config`, or by default that of the checkpoint to start from, or of
    `runs/metatrain` where that is one."""
    if config is not None:
        return config, config
    folder = find_start(METATRAINED if start is None and is_checkpoint(METATRAINED) else start)
    if folder is None:
        return DEFAULT_METHOD, DEFAULT_METHOD
    return str(start or folder), str(folder / CHECKPOINT_FILES[0])


def describe_start(folder: Path, *, named: bool) -> str:
    """One line on the checkpoint that prompts come from; `named` where the user named it."""
    if folder == SHIPPED:
        return "starts from the prompts shipped with this package"
    if named:
        return f"starts from {folder}"
    return f"starts from {folder} (found in the working directory; --from shipped for the prompts of the package)"
