"""Seven entrances for files of strangers, and small sound files to begin with: an input is read, or refused in a line.

An input is what a file holds, but where a container is in the way of what lies inside: then it is the parts, between
lines of `SPLIT`, and the container is made around them.
"""

import io
import json
import re
import struct
import tempfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pandas as pd
from safetensors.torch import save_file

from fewshot_iqa import images, rng
from fewshot_iqa.config import SyntheticTask, TableTask, load_config, load_pretrain, load_task
from fewshot_iqa.data.matlab import read_mat
from fewshot_iqa.data.tables import read_rows
from fewshot_iqa.errors import InputError
from fewshot_iqa.model import checkpoint, named
from fewshot_iqa.model.clip import create_clip
from fewshot_iqa.model.weights import read_weights
from fewshot_iqa.recipes.ratings import MODELS, summarize_votes
from fewshot_iqa.recipes.sources import find_source, read_rated
from tests.conftest import MINIATURE, photograph

SPLIT = b"\n--part--\n"
SLOWEST, LONGEST = 10, 1000  # seconds of an input, and characters of the line that refuses it
FOLDER, WEIGHTS, TORCH = b"folder", b"weights", b"torch"  # what the parts of a checkpoint make
BASE, CLIP = b"@BASE@", b"@CLIP@"  # of the checkpoint, which differ from machine to machine
CORPUS = Path(__file__).parent / "corpus"
PNG = b"\x89PNG\r\n\x1a\n"

Target = Callable[[bytes], object]


@cache
def room() -> Path:
    """A folder for the file of an input, with pictures that tables can name; it goes with the process."""
    kept = tempfile.TemporaryDirectory(prefix="fsiqa-fuzz-")
    _kept.append(kept)
    for i in range(3):
        photograph(i, 16, 16).save(Path(kept.name, f"p{i}.png"))
    named.FILE = Path(kept.name, "clips.json")
    return Path(kept.name)


_kept: list[object] = []


def fault(target: Target, content: bytes) -> str | None:
    """What is wrong with how an input ends; None where it is read, or refused in time and in one line."""
    started, refusal = time.monotonic(), None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target(content)
    except InputError as error:
        refusal = error
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of Rust is no Exception
        return f"{type(error).__name__} {_place(error)}: {error!s:.200}"
    if (seconds := time.monotonic() - started) > SLOWEST:
        return f"slow: {seconds:.0f} s"
    if refusal is None:
        return None
    if len(str(refusal)) > LONGEST:
        return f"a line of {len(str(refusal)):,} characters: {refusal!s:.200}"
    if any(isinstance(error, MemoryError) and not _is_of_pillow(error) for error in _causes(refusal)):
        return f"MemoryError {_place(refusal)}: {refusal!s:.200}"
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_of_pillow(error: BaseException) -> bool:
    """Which reserves as many bytes as a file claims, and takes as many as there are."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and Path(trace.tb_frame.f_code.co_filename).parent.name == "PIL"


def _place(error: BaseException) -> str:
    """The innermost line of this package that an error passed."""
    place, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "fewshot_iqa" in code.co_filename:
            place = f"{Path(code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def read_picture(content: bytes) -> None:
    path = room() / "picture.png"
    path.write_bytes(_with_checksums(content) if content.startswith(PNG) else content)
    images.read_header(path)
    images.read_image(path)
    images.read_image(path, size=lambda height, width: (max(1, height // 5), max(1, width // 5)))


def _with_checksums(content: bytes) -> bytes:
    """A PNG file whose chunks have the checksums that they should have."""
    made, at = bytearray(content), len(PNG)
    while at + 12 <= len(made):
        end = at + 8 + struct.unpack_from(">I", made, at)[0]
        if end + 4 > len(made):
            break
        struct.pack_into(">I", made, end, zlib.crc32(made[at + 4 : end]))
        at = end + 4
    return bytes(made)


def read_table(content: bytes, name: str = "table.csv") -> None:
    (room() / name).write_bytes(content)
    read_rated(_source(name, len(content) % 2 == 1))


@cache
def _source(name: str, skip_incomplete: bool) -> TableTask | SyntheticTask:
    return find_source(None, labels=room() / name, root=room(), skip_incomplete=skip_incomplete)


def read_workbook(content: bytes) -> None:
    """Its parts of XML, in the order of `PARTS`, or a whole file."""
    if not content.startswith(b"PK"):
        parts = zip(PARTS, content.split(SPLIT), strict=False)
        content = _zipped({name: part for name, part in parts if part})
    read_table(content, "table.xlsx")


def read_summary(content: bytes) -> None:
    """As votes or comparisons, by the model that the length of the input chooses."""
    path = room() / "votes.csv"
    path.write_bytes(content)
    summarize_votes(path, model=MODELS[len(content) % len(MODELS)])


def read_matlab(content: bytes) -> None:
    """As the arrays of the label files of LIVE, LIVE in the Wild and AIGCIQA2023 are read."""
    path = room() / "labels.mat"
    path.write_bytes(content)
    read_rows(path, lambda path: pd.DataFrame({name: pd.Series(values) for name, values in read_mat(path).items()}))


PARTS = (
    "xl/worksheets/sheet1.xml",
    "xl/workbook.xml",
    "xl/_rels/workbook.xml.rels",
    "xl/styles.xml",
    "xl/sharedStrings.xml",
    "_rels/.rels",
)


def _zipped(parts: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return made.getvalue()


def read_yaml(content: bytes) -> None:
    """As what its first line says that it specifies, a method by default."""
    path = room() / "any.yaml"
    path.write_bytes(content)
    loads = {b"# task": load_task, b"# pretrain": load_pretrain}
    loads.get(content.partition(b"\n")[0], load_config)(str(path))


def read_checkpoint(content: bytes) -> None:
    """A folder, a file of safetensors or one of torch, made of its parts; or a whole file of weights."""
    kind, *parts = content.split(SPLIT)
    path = room() / "weights.pt"
    if kind == FOLDER and len(parts) == 4:
        clip, base = miniature()
        folder = room() / "checkpoint"
        folder.mkdir(exist_ok=True)
        settings, provenance, header, values = parts
        (folder / checkpoint.CONFIG).write_bytes(settings.replace(CLIP, clip.encode()))
        (folder / checkpoint.PROVENANCE).write_bytes(provenance.replace(BASE, base.encode()))
        (folder / checkpoint.WEIGHTS).write_bytes(_safetensors(header, values))
        checkpoint.load(folder, clip=clip)
        checkpoint.state(folder)
        return
    if kind == WEIGHTS and len(parts) == 2:
        content = _safetensors(*parts)
    elif kind == TORCH:
        names = ["w/data.pkl", *(f"w/data/{i}" for i in range(len(parts)))]
        content = _zipped(dict(zip(names, parts, strict=False)))
    path.write_bytes(content)
    read_weights(path)


def _safetensors(header: bytes, values: bytes) -> bytes:
    """A file with as many bytes of values as its header speaks of."""
    ends = [int(end) for end in re.findall(rb'"data_offsets"\s*:\s*\[\s*\d{1,9}\s*,\s*(\d{1,9})\s*\]', header)]
    size = min(max(ends, default=0), 100_000)
    return struct.pack("<Q", len(header)) + header + (values * (size // max(1, len(values)) + 1))[:size]


@cache
def miniature() -> tuple[str, str]:
    """(name, fingerprint) of the miniature CLIP."""
    architecture, weights = room() / "miniature.json", room() / "miniature.safetensors"
    towers = {name: MINIATURE[name] | {"layers": 2} for name in ("vision_cfg", "text_cfg")}
    architecture.write_text(json.dumps(MINIATURE | towers))
    with rng.scoped(0, "miniature"):
        save_file(create_clip(str(architecture)).state_dict(), weights)
    name = f"{architecture}:{weights}"
    return name, checkpoint.shared_clip(name).fingerprint


TARGETS: dict[str, Target] = {
    "image": read_picture,
    "csv": read_table,
    "votes": read_summary,
    "mat": read_matlab,
    "xlsx": read_workbook,
    "yaml": read_yaml,
    "checkpoint": read_checkpoint,
}
