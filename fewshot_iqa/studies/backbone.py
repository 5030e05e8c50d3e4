"""How well the features and the zero-shot predictions of a CLIP agree with human ratings of quality."""

import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import metrics
from ..config import KADID_SIDE, BranchSpec, Config, load_config, load_pretrain, load_task, with_overrides
from ..data.loading import Loader, PictureCache
from ..data.synthetic import KADID_SCALE, kadid_mos
from ..distortions import DISTORTIONS, LEVELS, TID2013, Distortion
from ..errors import InputError
from ..model import checkpoint
from ..model.clip import shared_clip
from ..model.quality import QualityModel
from ..pretraining.captions import KINDS, UNKNOWN_CONTENT, captioned_photographs, is_held_out
from ..progress import track
from ..recipes.common import choose_device
from ..recipes.draws import draw_trials
from ..recipes.results import summarize
from ..recipes.sources import Rated, read_rated
from ..recipes.trial import Memory, Method, run_trial
from ..resources import SHIPPED
from ..rng import permutation
from ..types import Batch, Record, Shots

SHOTS = (10, 20, 50, 100, 200, 400, 1000, 2000)
UNSEEN_PHOTOGRAPHS = 24  # held out; 125 synthetic pictures of each
ADAPTED_DRAWS = 3


def backbone(
    root: str | Path,
    *,
    clip: str = "tiny",
    seeds: int = 10,
    adapted: Sequence[int | str] = (),
    device: str | None = None,
) -> dict[str, Any]:
    """The agreement of a CLIP with human ratings: zero-shot, and after learning from a few ratings.

    `root` holds `biq2021`, and the sources of configs/pretrain.yaml. The result has these keys:

    - `ridge`, `grmp`: {shots: {srcc, iqr, within}} on BIQ2021's test rows: the median over `seeds` draws of shots for
      ridge regression; over three for GRMP-IQA, at the `adapted` numbers of shots, from the shipped prompts.
    - `zero_shot`: SRCC of the antonyms "Good photo." and "Bad photo.": on BIQ2021's test rows; on held-out photographs
      with KADID-10k's distortions, with its MOS; and with TID2013's, with their levels, the median over types.
    - `named`: zero-shot accuracy on held-out photographs, of their content and of their distortion.
    - `milliseconds`: the time for one crop on one thread of the processor.
    - `clip`: the fingerprint of the weights.
    """
    root, device = Path(root), choose_device(device)
    task = with_overrides(load_task("biq2021"), root=root / "biq2021")
    rated = read_rated(task)
    pool, test = rated.records, rated.test
    assert test is not None
    unnamed, named = _held_out_photographs(root)
    wanted = [Shots.parse(count) for count in adapted]
    for shots in wanted:
        shots.of(len(pool))
    counts = [Shots.parse(count) for count in SHOTS if count <= len(pool)]
    if not counts:
        raise InputError(f"{task.root}: {len(pool)} training rows are too few, {SHOTS[0]} are the least")
    overrides = [f"clip={json.dumps(clip)}", f"views.crop={shared_clip(clip).image_size}"]
    model = checkpoint.build(load_config("ridge", overrides))
    result: dict[str, Any] = {"clip": model.clip.fingerprint, "milliseconds": _milliseconds(model)}
    for method, some, trials in (("ridge", counts, seeds), ("grmp", wanted, ADAPTED_DRAWS)):
        if some:
            settings = load_config(method, overrides)
            start = SHIPPED if checkpoint.fits(SHIPPED, settings) else None
            result[method] = _curve(Method(settings, start, device), rated, some, trials)
    return result | _zero_shot(unnamed, named, overrides, test, device)


def _curve(method: Method, rated: Rated, counts: Sequence[Shots], seeds: int) -> dict[str, Any]:
    """{shots: {srcc, iqr, within}}: median and interquartile range of SRCC, and its median within each subset."""
    results = {}
    memory = Memory()
    for shots in counts:
        drawn = draw_trials(rated, shots, range(seeds))
        whole = len(drawn[0].shots) == drawn[0].pool  # then every draw is the same
        trials = [run_trial(method, draw, memory).entry for draw in (drawn[:1] if whole else drawn)]
        over = summarize(trials)
        within = {name: figures["srcc"] for name, figures in over["median"]["within"].items()}
        results[shots.text] = {"srcc": over["median"]["srcc"], "iqr": over["iqr"]["srcc"], "within": within}
    return results


@torch.inference_mode()
def _milliseconds(model: QualityModel, repeats: int = 20) -> float:
    clip, threads = model.clip, torch.get_num_threads()
    device = clip.logit_scale.device
    clip.cpu()
    torch.set_num_threads(1)
    try:
        crop = torch.zeros(1, 3, clip.image_size, clip.image_size)
        clip.encode_image(crop)
        times = []
        for _ in range(repeats):
            started = time.perf_counter()
            clip.encode_image(crop)
            times.append(1000 * (time.perf_counter() - started))
    finally:
        torch.set_num_threads(threads)
        clip.to(device)
    return statistics.median(times)


def _batches(loader: Loader, records: Sequence[Record], device: str, title: str) -> Iterator[Batch]:
    with track(title, -(-len(records) // loader.at_once)) as log:
        for batch in loader.fixed_batches(records):
            yield batch.to(device)
            log({})


def _finite(value: Any) -> float | None:
    """None for nan (the correlation of a constant), which JSON lacks."""
    return float(value) if np.isfinite(value) else None


def _held_out_photographs(root: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Photographs that did not train the embedded CLIP: some of unknown content, and all of known content with it."""
    photographs = [item for source in load_pretrain("pretrain").sources for item in captioned_photographs(root, source)]
    unseen = [(path, contents[0]) for path, contents in photographs if is_held_out(path) and len(contents) == 1]
    unnamed = [path for path, content in unseen if content == UNKNOWN_CONTENT]
    named = [(path, content) for path, content in unseen if content != UNKNOWN_CONTENT]
    if not unnamed or not named:
        raise InputError(f"{root}: none of its photographs was held out of pre-training")
    return [unnamed[i] for i in permutation(len(unnamed), 0, "backbone")[:UNSEEN_PHOTOGRAPHS]], named


def _zero_shot(
    unnamed: Sequence[Path],
    named: Sequence[tuple[Path, str]],
    overrides: Sequence[str],
    test: Sequence[Record],
    device: str,
) -> dict[str, Any]:
    """The parts `zero_shot` and `named` of the result."""
    names = sorted({content for _, content in named})
    settings = load_config("clip_iqa", [*overrides, "views.count=1"])
    settings.model.branches["kind"] = BranchSpec(phrases=[f"a photo with {kind}" for kind in KINDS])
    settings.model.branches["content"] = BranchSpec(phrases=[f"a photo of {name}" for name in names])
    model = checkpoint.build(settings, device)

    real, _ = _predict(model, settings, test, "kind", device)
    kadid = [r for path in unnamed for row in DISTORTIONS for r in _levels(path, row)]
    synthetic, kinds = _predict(model, settings, kadid, "kind", device)
    right_kind = [KINDS[k] == str(r.distortion).replace("_", " ") for k, r in zip(kinds, kadid, strict=True)]
    by_type = []
    for row in TID2013:
        records = [r for path in unnamed[: UNSEEN_PHOTOGRAPHS // 3] for r in _levels(path, row)]
        predicted, _ = _predict(model, settings, records, "kind", device)
        by_type.append(metrics.srcc(predicted, [-float(r.level or 0) for r in records]))
    _, contents = _predict(model, settings, [Record(path, 0.0, str(path)) for path, _ in named], "content", device)
    right_content = [names[i] == content for i, (_, content) in zip(contents, named, strict=True)]
    return {
        "zero_shot": {
            "biq2021": _finite(metrics.srcc(real, [record.rating for record in test])),
            "kadid10k": _finite(metrics.srcc(synthetic, [record.rating for record in kadid])),
            "tid2013": _finite(np.median(by_type)),
        },
        "named": {
            "distortion": {"share": statistics.mean(right_kind), "names": len(KINDS), "pictures": len(right_kind)},
            "content": {"share": statistics.mean(right_content), "names": len(names), "pictures": len(named)},
        },
    }


def _levels(path: Path, row: Distortion) -> list[Record]:
    """One record per level; the rating of a type that KADID-10k lacks is 0, and not used."""
    return [
        Record(
            path,
            kadid_mos(row.name, level) if row.data_set == "kadid10k" else 0.0,
            group=str(path),
            distortion=row.name,
            level=level,
            apply=((row.name, level),),
        )
        for level in LEVELS
    ]


@torch.inference_mode()
def _predict(
    model: QualityModel, settings: Config, records: Sequence[Record], branch: str, device: str
) -> tuple[list[float], list[int]]:
    """The predicted quality of each record, and the index of its most probable phrase of `branch`."""
    loader = Loader(
        settings.views, KADID_SCALE, source_side=KADID_SIDE if records[0].apply else None, pictures=PictureCache(0)
    )
    state = model.encode_prompts()
    qualities: list[float] = []
    best: list[int] = []
    for batch in _batches(loader, records, device, f"zero-shot {branch}"):
        output = model(batch.inputs, state, [branch])
        qualities += output.mean.tolist()
        best += output.logits[branch].argmax(dim=-1).tolist()
    return qualities, best
