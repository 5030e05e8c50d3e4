"""Does a method follow what pictures show, where content and quality go together among the shots?"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from joblib import delayed

from .. import metrics
from ..config import ConfoundedSpec, load_config, load_experiment
from ..errors import InputError
from ..features import FeatureCache
from ..lock import one_writer
from ..model import checkpoint
from ..model.clip import shared_clip
from ..model.quality import zero_shot_teacher
from ..progress import quiet, track
from ..recipes import cells
from ..recipes.common import choose_device, ratings_hash
from ..recipes.curve import read_methods
from ..recipes.draws import Draw, draw_trials
from ..recipes.results import srcc_of
from ..recipes.sources import read_source, source_name
from ..recipes.trial import Memory, Method, encoded, loader_of, read_pictures, run_trial
from ..recipes.workers import in_parallel
from ..rng import permutation
from ..types import Record, Shots

By = Literal["content", "scene", "subset"]
KINDS = ("balanced", "confounded")


@one_writer()
def confounded(
    plan: str = "experiments/confounded",
    *,
    task: str | None = None,
    by: By = "content",
    shots: int = 48,
    seeds: int = 10,
    out: str | Path = "runs/confounded",
    workers: int = 1,
    device: str | None = None,
    cache: str | Path | None = None,
    overrides: Iterable[str] = (),
    **table: Any,
) -> dict[str, Any]:
    """Learn from shots in which content and quality go together, and test on pictures in which they do not.

    `by` says what content is; each draw cuts it in two halves. `content`: above and below the median of the first
    principal component of plain CLIP's embeddings. `scene`: scenes by plain CLIP's likeliest phrase of the branch
    `scene`, one half of them against the other. `subset`: so with the pictures' subsets, such as generative models. Of
    the four combinations of content and quality, the latter cut at the median rating of the training pool, balanced
    shots hold a quarter each, and confounded ones two opposite combinations, half each. The test, the same for both,
    holds as many pictures of each combination.

    `table` is as for `TableOptions`. In the result, `arms` is {arm: {"balanced": mean SRCC, "confounded": mean SRCC,
    "lost": the paired difference of the two, "over_first": that of confounded SRCC to the first arm's, "follows":
    {kind: mean}}}, where `follows` is how much better the content with the good shots is predicted than the other, in
    standard deviations of the predictions; on the test, both are equally good. InputError where a combination has too
    few pictures.
    """
    spec, folder, overrides = load_experiment(plan, kind=ConfoundedSpec), Path(out), list(overrides)
    if shots < 4 or shots % 4:
        raise InputError(f"--shots {shots}: a multiple of 4")
    methods = {label: (arm.config, arm.set) for label, arm in spec.arms.items()}
    settings, for_task = read_methods(methods, None, overrides)
    task = source_name(task, **table)
    rated = read_source(task, for_task, **table)
    place, memory = choose_device(device), Memory(FeatureCache(cache))
    arms = {label: Method(some, checkpoint.default_start(some), place) for label, some in settings.items()}
    drawn = draw_trials(rated, Shots.parse("100%"), range(seeds))
    contents = _contents(by, drawn, next(iter(arms.values())), memory)
    every = [confound(draw, contents, shots) for draw in drawn]
    about = {label: cells.identity(method) for label, method in arms.items()}
    described = {"task": task, "by": by, "shots": shots, "ratings": ratings_hash(rated.every)}
    cells.claim(folder, described, about)
    missing = {
        label: [
            (file, draw, into)
            for draws, into in every
            for kind, draw in draws.items()
            if not (file := _file(folder, label, kind, draw.seed)).is_file()
        ]
        for label in arms
    }
    with track("trials", sum(map(len, missing.values()))) as log:
        for label, method in arms.items():
            read_pictures(method, [draw for _, draw, _ in missing[label]], memory)
            jobs = (delayed(_cell)(file, method, draw, into, memory) for file, draw, into in missing[label])
            for _ in in_parallel(jobs, workers if method.settings.adapt else 1):
                log({})
    found = {
        label: {kind: [cells.read(_file(folder, label, kind, seed)) for seed in range(seeds)] for kind in KINDS}
        for label in arms
    }
    first = _srcc(found[next(iter(arms))]["confounded"])
    return {
        "task": task,
        "seeds": seeds,
        "test": len(every[0][0]["balanced"].test),
        "arms": {
            label: {kind: float(np.mean(_srcc(each[kind]))) for kind in KINDS}
            | {"lost": metrics.paired_difference(_srcc(each["confounded"]), _srcc(each["balanced"]))}
            | {"over_first": metrics.paired_difference(_srcc(each["confounded"]), first)}
            | {"follows": {kind: float(np.mean([one["follows"] for one in each[kind]])) for kind in KINDS}}
            for label, each in found.items()
        },
        "plan": described,
        "methods": about,
        "versions": checkpoint.versions(),
    }


def confound(
    draw: Draw, contents: Callable[[Draw], Mapping[Record, bool]], shots: int
) -> tuple[dict[str, Draw], list[bool]]:
    """The draws of both kinds, and for each test picture whether its content is that of the good shots.

    `draw.shots` are the whole training pool, in random order; `contents` gives, for a draw, whether each picture is in
    the first half of the content.
    """
    half, middle = contents(draw), float(np.median([draw.scale.quality(shot.rating) for shot in draw.shots]))
    good_half = draw.seed % 2 == 0

    def combinations(records: Sequence[Record]) -> dict[tuple[bool, bool], list[Record]]:
        cut: dict[tuple[bool, bool], list[Record]] = {(a, b): [] for a in (True, False) for b in (True, False)}
        for record in records:
            cut[half[record] == good_half, draw.scale.quality(record.rating) > middle].append(record)
        return cut

    pool, test = combinations(draw.shots), combinations(draw.test)
    fewest, each = min(map(len, pool.values())), min(map(len, test.values()))
    if fewest < shots // 2 or each < 2:
        raise InputError(
            f"seed {draw.seed}: {fewest} training and {each} test pictures of one half of the content are of one half "
            f"of the quality: --shots {shots} need {shots // 2} and 2"
        )
    tested = [record for part in test.values() for record in part[:each]]
    into = [half[record] == good_half for record in tested]
    balanced = [record for part in pool.values() for record in part[: shots // 4]]
    together = [record for same in (True, False) for record in pool[same, same][: shots // 2]]
    chosen = dict(zip(KINDS, (balanced, together), strict=True))
    return {kind: replace(draw, shots=some, test=tested) for kind, some in chosen.items()}, into


def _contents(by: By, drawn: Sequence[Draw], method: Method, memory: Memory) -> Callable[[Draw], Mapping[Record, bool]]:
    """A function of a draw: whether each of its pictures is in the first half of the content."""
    every = list(dict.fromkeys(record for draw in drawn for record in draw.pictures))
    if by == "subset":
        names = {record: record.subset or "" for record in every}
        return lambda draw: _halves(by, names, draw)
    clip = shared_clip(method.settings.clip, method.device)
    teacher = zero_shot_teacher(load_config("grmp").model, "scene", clip)
    features = encoded(teacher, loader_of(method, drawn[0], memory), every, memory.features).of(every)
    if by == "scene":
        with torch.no_grad():
            state = teacher.encode_prompts()
            seen = teacher.compare(features, state, ["scene"])
        likeliest = seen.logits["scene"].softmax(dim=-1).mean(dim=1).argmax(dim=1).tolist()
        scenes = dict(zip(every, map(str, likeliest), strict=True))
        return lambda draw: _halves(by, scenes, draw)
    embeddings = features.embedding().mean(dim=1).double()
    centred = embeddings - embeddings.mean(dim=0)
    first = torch.linalg.eigh(centred.T @ centred)[1][:, -1]  # exact: an iteration would end elsewhere each time
    place = dict(zip(every, (embeddings @ first).tolist(), strict=True))

    def above(draw: Draw) -> dict[Record, bool]:
        middle = float(np.median([place[shot] for shot in draw.shots]))
        return {record: place[record] > middle for record in draw.pictures}

    return above


def _halves(by: By, names: Mapping[Record, str], draw: Draw) -> dict[Record, bool]:
    """Random names are in the first half until it holds half of the training pool."""
    counts = dict.fromkeys(sorted({names[record] for record in draw.pictures}), 0)
    if len(counts) < 2:
        raise InputError(f"--by {by}: all pictures are of one {by}: take another")
    for shot in draw.shots:
        counts[names[shot]] += 1
    order, held, chosen = list(counts), 0, set[str]()
    for i in permutation(len(order), draw.seed, "contents"):
        if held < len(draw.shots) / 2 and len(chosen) < len(order) - 1:
            held += counts[order[i]]
            chosen.add(order[i])
    return {record: names[record] in chosen for record in draw.pictures}


def _cell(file: Path, method: Method, draw: Draw, into: Sequence[bool], memory: Memory) -> None:
    with quiet():
        report = run_trial(method, draw, memory).report
    assert report is not None
    predicted, good = np.asarray(report.predicted), np.asarray(into)
    ahead = predicted[good].mean() - predicted[~good].mean()
    cells.write(file, {"srcc": report.metrics["srcc"], "follows": float(ahead / max(predicted.std(), 1e-12))})


def _srcc(found: Iterable[Mapping[str, Any]]) -> list[float]:
    return list(map(srcc_of, found))


def _file(folder: Path, label: str, kind: str, seed: int) -> Path:
    return folder / f"{label}-{kind}-seed{seed}.json"
