"""CLIP-AGIQA on a stand-in for rated AI-generated images: distorted photographs, half of them with a wrong caption."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..config import KADID_SIDE, SourceSpec, kadid_mos_table
from ..data.synthetic import distortable, kadid_mos
from ..distortions import distort
from ..errors import InputError
from ..images import read_image, read_notes, shrink, to_float, to_uint8, write_png
from ..lock import one_writer
from ..pretraining.captions import UNKNOWN_CONTENT, captioned_photographs, is_held_out
from ..progress import track
from ..rng import generator, integer, permutation
from .ablation import ablation

Photograph = tuple[Path, list[str]]  # with its captions
VERSIONS = 2  # pictures of each photograph


@one_writer()
def standin(
    root: str | Path,
    *,
    images: str = "semantic/flickr",
    captions: str = "semantic/flickr_captions.txt",
    training: int = 200,
    shots: str | int = "100%",
    plan: str = "experiments/agiqa_standin",
    out: str | Path = "runs/agiqa_standin",
    overrides: Iterable[str] = (),
    **options: Any,
) -> dict[str, Any]:
    """Write captioned, distorted photographs into `out`, and adapt with each variant of a plan.

    `root` holds the folder `images` of photographs and the table `captions` with the columns image and caption;
    `training` is the number of photographs to train on. The other parameters and the result are those of `ablation`.
    """
    pictures = Path(out) / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    parts = split_photographs(Path(root), SourceSpec(images=images, captions=captions), training)
    tables = {}
    with track("pictures", VERSIONS * sum(map(len, parts))) as log:
        for name, part in zip(("train", "test"), parts, strict=True):
            rows = []
            for row in standin_rows(part, pictures, versions=VERSIONS):
                rows.append(row)
                log({})
            tables[name] = pictures / f"{name}.csv"
            pd.DataFrame(rows).to_csv(tables[name], index=False)
    task = [f"task.test_labels={tables['test'].resolve()}", "task.range=[1, 5]", "task.alignment_range=[0, 1]"]
    return ablation(
        plan, task="csv", root=pictures, labels=tables["train"], shots=shots, out=Path(out) / "cells",
        overrides=[*task, *overrides], **options,
    )  # fmt: skip


def split_photographs(
    root: Path, source: SourceSpec, training: int, *, seed: int = 0
) -> tuple[list[Photograph], list[Photograph]]:
    """`training` photographs, and as the test all those that the embedded CLIP was not trained on."""
    every = [(path, texts) for path, texts in captioned_photographs(root, source) if texts != [UNKNOWN_CONTENT]]
    test = [item for item in every if is_held_out(item[0])]
    others = [item for item in every if not is_held_out(item[0])]
    if len(test) < 2 or len(others) < max(2, training):
        raise InputError(
            f"{root / source.images}: {len(others)} photographs to train on and {len(test)} to test: too few"
        )
    names = Counter(path.stem for path, _ in every)
    if twice := [name for name, count in names.items() if count > 1]:
        raise InputError(f"{root / source.images}: two photographs are named {twice[0]}")
    return [others[i] for i in permutation(len(others), seed, "stand-in")[:training]], test


def standin_rows(
    part: Sequence[Photograph], out: Path, *, versions: int = 2, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """Write the pictures of a part into `out`, and yield a row of the ratings' table for each.

    A photograph has `versions` pictures, each with a random distortion and level, whose MOS in KADID-10k, 1 to 5, is
    the `score`. The `prompt` is alternately its own caption (`alignment` 1) and that of another photograph
    (`alignment` 0); `group` is the photograph. Existing pictures are kept.
    """
    kinds = list(kadid_mos_table())
    for i, (path, captions) in enumerate(part):
        for version in range(versions):
            noise = generator(seed, "stand-in", path.name, version)
            kind, level = kinds[integer(0, len(kinds), noise)], 1 + integer(0, 5, noise)
            matches = (i + version) % 2 == 0
            texts = captions if matches else part[(i + 1 + integer(0, len(part) - 1, noise)) % len(part)][1]
            name = f"{path.stem}_{version}.png"
            notes = {"photograph": str(path.resolve()), "distortion": f"{kind} {level}"}
            if read_notes(out / name) != notes:
                image = to_float(shrink(distortable(read_image(path), path), KADID_SIDE))
                distorted = to_uint8(distort(image, kind, level, generator=noise))
                write_png(out / name, distorted, notes)
            yield {
                "image": name,
                "group": path.stem,
                "score": kadid_mos(kind, level),
                "prompt": texts[integer(0, len(texts), generator(seed, "caption", path.name, version))].strip(" ."),
                "alignment": int(matches),
            }
