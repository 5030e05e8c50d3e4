"""Find a configuration, task or weight file: the user's own path, then the installed package, then a checkout."""

import os
import re
from pathlib import Path

from .errors import InputError, nearest

PACKAGE = Path(__file__).parent
ADAPTED = Path("runs/adapt")  # where adapt writes
METATRAINED = Path("runs/metatrain")  # where metatrain writes, and methods look for prompts first
CHECKPOINT_FILES = ("config.yaml", "weights.safetensors", "provenance.json")
PART = ".fsiqa-part"  # the end of the names of files, and the name of a folder, while they are written
NEXT = ".fsiqa-next"  # inside a checkpoint: files that are about to replace its own
NEITHER_TASK_NOR_METHOD = {"kadid_levels", "pretrain"}  # files beside them that a command of their own reads


def asset(name: str) -> Path:
    """The path of a file shipped in `assets/`."""
    return PACKAGE / "assets" / name


SHIPPED = asset("grmp")  # prompts meta-trained on synthetic pictures, adapted to no ratings


def is_checkpoint(folder: Path) -> bool:
    """Whether metatrain or adapt wrote `folder`, complete or not."""
    return any(inside(folder, name).is_file() for name in CHECKPOINT_FILES[1:])


def inside(folder: Path, name: str) -> Path:
    """The path of a file of a checkpoint: in `NEXT`, where its writer was stopped while it replaced the files."""
    newer = folder / NEXT / name
    return newer if newer.is_file() else folder / name


def is_unused(folder: Path) -> bool:
    """Whether a folder holds nothing but what an interrupted command of this package has left there."""
    return all(each.name.startswith(".fsiqa") or each.name.endswith(PART) for each in folder.iterdir())


def _folder(kind: str) -> Path:
    installed = PACKAGE / kind
    return installed if installed.is_dir() else PACKAGE.parent / kind


def available(kind: str) -> list[str]:
    """The names of the methods in `configs`, or of the tasks in `tasks`, sorted."""
    return sorted({path.stem for path in _folder(kind).glob("*.yaml")} - NEITHER_TASK_NOR_METHOD)


def find(kind: str, name: str) -> Path:
    """The YAML file that `name` stands for: a path to a file, or the name of a shipped one.

    Raises InputError naming the nearest shipped name.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not os.path.isfile(path):  # which a name that is too long is not
            raise InputError(f"{name}: {'not a regular file' if os.path.exists(path) else 'no such file'}")
        return path
    path = _folder(kind) / f"{name}.yaml"
    if not os.path.isfile(path):
        known = available(kind)
        raise InputError(
            f"no {kind[:-1]} is named '{name}'.{nearest(name, known)} Known: {', '.join(known)}; "
            "or give the path of a .yaml file"
        )
    return path


def citations(method: str) -> list[dict[str, str]]:
    """What to cite: the software, then the paper of the method, each with its authors, title, where and url."""
    import yaml

    path = next(folder / "CITATION.cff" for folder in (PACKAGE, PACKAGE.parent) if (folder / "CITATION.cff").is_file())
    whole = yaml.safe_load(path.read_text(encoding="utf-8"))
    papers = [each for each in whole["references"] if method in re.findall(r"\w+", each["notes"])]
    found = []
    for each in [{**whole, "url": whole["repository-code"], "year": ""}, *papers]:
        authors = ", ".join(one.get("name") or f"{one['given-names']} {one['family-names']}" for one in each["authors"])
        where = each.get("collection-title") or each.get("journal") or ""
        found.append(
            {"authors": authors, "title": each["title"], "url": each["url"], "where": f"{where} {each['year']}".strip()}
        )
    return found


def portable(clip: str) -> str:
    """The name of a CLIP with file paths made absolute, so that a checkpoint finds it from any working directory."""
    parts = clip.rpartition(":")
    return "".join(str(Path(part).resolve()) if part and os.path.isfile(part) else part for part in parts)
