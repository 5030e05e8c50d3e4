"""Experiments that a reader can repeat with one command."""

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
from ..data.loading import Loader
from ..data.synthetic import KADID_SCALE, kadid_mos
from ..distortions import DISTORTIONS, LEVELS, TID2013, Distortion
from ..errors import InputError
from ..model import checkpoint
from ..model.clip import shared_clip
from ..model.quality import QualityModel
from ..pretraining.captions import KINDS, UNKNOWN_CONTENT, captioned_photographs, is_held_out
from ..progress import track
from ..recipes.common import build_model, choose_device
from ..recipes.draws import draw_trials
from ..recipes.results import summarize
from ..recipes.sources import Rated, read_rated
from ..recipes.trial import Memory, Method, run_trial
from ..resources import SHIPPED
from ..rng import permutation
from ..types import Batch, Record, Shots

SHOTS = (10, 20, 50, 100, 200, 400, 1000, 2000)
UNSEEN_PHOTOGRAPHS = 24  # of the held-out ones; 125 synthetic pictures of each
ADAPTED_DRAWS = 3


def backbone(
    root: str | Path,
    *,
    clip: str = "tiny",
    seeds: int = 10,
    adapted: Sequence[int | str] = (),
    device: str | None = None,
) -> dict[str, Any]:
    """What a CLIP knows of quality before and after a few ratings.

    `root` holds `biq2021`, and the sources of configs/pretrain.yaml. In the result, `ridge` and `grmp` are {shots:
    {srcc, iqr, within}} on BIQ2021's test rows, the median of `seeds` draws of shots (of three for GRMP, at the
    `adapted` numbers of shots, from the shipped prompts where they fit the CLIP); `zero_shot` is the SRCC of "Good
    photo." against "Bad photo." on BIQ2021's test rows, on held-out photographs with KADID-10k's distortions (against
    human means), and of TID2013's types against their levels, the median over types; `named` is the share of held-out
    photographs whose content, and whose distortion, the phrases name; `milliseconds` is what one crop takes on one
    thread of the processor.
    """
    root, device = Path(root), choose_device(device)
    task = with_overrides(load_task("biq2021"), root=root / "biq2021")
    rated = read_rated(task)
    pool, test = rated.records, rated.test
    assert test is not None
    clean, shown = _unseen(root)
    wanted = [Shots.parse(count) for count in adapted]
    for shots in wanted:
        shots.of(len(pool))
    counts = [Shots.parse(count) for count in SHOTS if count <= len(pool)]
    if not counts:
        raise InputError(f"{task.root}: {len(pool)} training rows are too few, {SHOTS[0]} are the least")
    own = [f"clip={json.dumps(clip)}", f"views.crop={shared_clip(clip).image_size}"]  # of every method
    model = build_model(load_config("ridge", own))
    result: dict[str, Any] = {"clip": model.clip.fingerprint, "milliseconds": _milliseconds(model)}
    for method, some, trials in (("ridge", counts, seeds), ("grmp", wanted, ADAPTED_DRAWS)):
        if some:
            settings = load_config(method, own)
            start = SHIPPED if checkpoint.fits(SHIPPED, settings) else None
            result[method] = _curve(Method(settings, start, device), rated, some, trials)
    return result | _told(clean, shown, own, test, device)


def _curve(method: Method, rated: Rated, counts: Sequence[Shots], seeds: int) -> dict[str, Any]:
    """{shots: {srcc, iqr, within}}: median, interquartile range, and the median within each subset."""
    found = {}
    memory = Memory()
    for shots in counts:
        drawn = draw_trials(rated, shots, range(seeds))
        once = len(drawn[0].shots) == drawn[0].pool  # every draw is the same
        trials = [run_trial(method, draw, memory).entry for draw in (drawn[:1] if once else drawn)]
        over = summarize(trials)
        within = {name: figures["srcc"] for name, figures in over["median"]["within"].items()}
        found[shots.text] = {"srcc": over["median"]["srcc"], "iqr": over["iqr"]["srcc"], "within": within}
    return found


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
    with track(title, -(-len(records) // loader.views.at_once)) as log:
        for batch in loader.fixed_batches(records):
            yield batch.to(device)
            log({})


def _finite(value: Any) -> float | None:
    """None for nan, which JSON has not: the correlation of a constant."""
    return float(value) if np.isfinite(value) else None


def _unseen(root: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Photographs that never trained the embedded CLIP: some with nothing but quality to tell, all that have a name."""
    photographs = [item for source in load_pretrain("pretrain").sources for item in captioned_photographs(root, source)]
    unseen = [(path, contents[0]) for path, contents in photographs if is_held_out(path) and len(contents) == 1]
    clean = [path for path, content in unseen if content == UNKNOWN_CONTENT]
    shown = [(path, content) for path, content in unseen if content != UNKNOWN_CONTENT]
    if not clean or not shown:
        raise InputError(f"{root}: none of its photographs was held out of pre-training")
    return [clean[i] for i in permutation(len(clean), 0, "backbone")[:UNSEEN_PHOTOGRAPHS]], shown


def _told(
    clean: Sequence[Path], shown: Sequence[tuple[Path, str]], own: Sequence[str], test: Sequence[Record], device: str
) -> dict[str, Any]:
    """What phrases alone tell: nothing is learned from these pictures."""
    names = sorted({content for _, content in shown})
    settings = load_config("clip_iqa", [*own, "views.count=1"])
    settings.model.branches["kind"] = BranchSpec(phrases=[f"a photo with {kind}" for kind in KINDS])
    settings.model.branches["content"] = BranchSpec(phrases=[f"a photo of {name}" for name in names])
    model = build_model(settings, device)

    real, _ = _ask(model, settings, test, "kind", device)
    kadid = [r for path in clean for row in DISTORTIONS for r in _levels(path, row)]
    synthetic, kinds = _ask(model, settings, kadid, "kind", device)
    right = [KINDS[k] == str(r.distortion).replace("_", " ") for k, r in zip(kinds, kadid, strict=True)]
    by_type = []
    for row in TID2013:
        records = [r for path in clean[: UNSEEN_PHOTOGRAPHS // 3] for r in _levels(path, row)]
        seen, _ = _ask(model, settings, records, "kind", device)
        by_type.append(metrics.srcc(seen, [-float(r.level or 0) for r in records]))
    _, best = _ask(model, settings, [Record(path, 0.0, str(path)) for path, _ in shown], "content", device)
    named = [names[i] == content for i, (_, content) in zip(best, shown, strict=True)]
    return {
        "zero_shot": {
            "biq2021": _finite(metrics.srcc(real, [record.rating for record in test])),
            "kadid10k": _finite(metrics.srcc(synthetic, [record.rating for record in kadid])),
            "tid2013": _finite(np.median(by_type)),
        },
        "named": {
            "distortion": {"share": statistics.mean(right), "names": len(KINDS), "pictures": len(right)},
            "content": {"share": statistics.mean(named), "names": len(names), "pictures": len(named)},
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
def _ask(
    model: QualityModel, settings: Config, records: Sequence[Record], branch: str, device: str
) -> tuple[list[float], list[int]]:
    """Quality, and the best phrase of `branch`, of each record."""
    loader = Loader(settings.views, KADID_SCALE, source_side=KADID_SIDE if records[0].apply else None, cache_bytes=0)
    state = model.encode_prompts()
    qualities: list[float] = []
    best: list[int] = []
    for batch in _batches(loader, records, device, f"asking for {branch}"):
        output = model(batch.inputs, state, [branch])
        qualities += output.mean.tolist()
        best += output.logits[branch].argmax(dim=-1).tolist()
    return qualities, best
