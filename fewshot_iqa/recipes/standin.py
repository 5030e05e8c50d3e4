"""The recipe of CLIP-AGIQA's experiment on a stand-in for rated AI-generated images."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from ..config import SourceSpec
from ..data.standin import photographs, standin_rows
from ..progress import track
from .ablation import ablation

VERSIONS = 2  # pictures of each photograph


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
    """Make captioned, distorted photographs in `out`, and adapt by each variant of the plan on the same draws; what is
    returned is as `ablation` has it."""
    pictures = Path(out) / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    parts = photographs(Path(root), SourceSpec(images=images, captions=captions), training)
    tables = {}
    with track("pictures", VERSIONS * sum(map(len, parts))) as log:
        for name, part in zip(("train", "test"), parts, strict=True):
            rows = []
            for row in standin_rows(part, pictures, versions=VERSIONS):
                rows.append(row)
                log({})
            tables[name] = pictures / f"{name}.csv"
            pd.DataFrame(rows).to_csv(tables[name], index=False)
    known = [f"task.test_labels={tables['test'].resolve()}", "task.range=[1, 5]", "task.alignment_range=[0, 1]"]
    return ablation(
        plan, task="csv", root=pictures, labels=tables["train"], shots=shots, out=Path(out) / "cells",
        overrides=[*known, *overrides], **options,
    )  # fmt: skip
