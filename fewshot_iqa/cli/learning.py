"""The commands that learn: metatrain, adapt, pretrain."""

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from ..errors import InputError
from ..files import write_csv, write_json
from ..printing import decimals, echo, nearby, print_metrics
from ..resources import SHIPPED
from .checks import check_folder, check_run
from .options import (
    CACHE,
    CHECKPOINT,
    CLIP,
    CONFIG,
    DATA,
    DEVICE,
    JSON,
    METHOD,
    PROTOCOL,
    RESUME,
    SEED,
    SET,
    SHOTS,
    START,
    TASK,
    option,
    with_table_options,
)
from .outputs import OUTPUT, table_file

WORTHWHILE = 0.01  # SRCC that twenty more ratings bring


def metatrain(
    images: Annotated[Path | None, option(DATA, "FOLDER", "Your folder of clean photographs.")] = None,
    task: Annotated[str, option(DATA, "NAME", "Synthetic task from `fsiqa tasks`.")] = "synthetic",
    config: CONFIG = "gp_prompts",
    clip: CLIP = None,
    overrides: SET = None,
    device: DEVICE = None,
    seed: SEED = None,
    out: CHECKPOINT = Path("runs/metatrain"),
    resume: RESUME = False,
    json_file: JSON = None,
) -> None:
    """Meta-train prompts on synthetic distortions of clean photographs."""
    _check_metatrain(config, task, images, overrides or (), out, resume)
    from ..recipes.metatraining import metatrain as run

    result = run(
        config, task=task, images=images, clip=clip, out=out, seed=seed, device=device,
        overrides=overrides or (), resume=resume,
    )  # fmt: skip
    history = result.provenance["history"]
    rows = {f"step {entry['step']}": entry for entry in history}
    if prior := result.provenance.get("prior"):
        rows["prior mean"] = prior
    print_metrics("held-out distortions of held-out photographs, before any adaptation", rows)
    echo(f"saved the prompts of step {result.provenance['step']} in {nearby(result.out)}")
    write_json(json_file, result.provenance)


def _check_metatrain(
    config: str, task: str, images: Path | None, overrides: Iterable[str], out: Path, resume: bool
) -> None:
    from ..config import load_config, load_task, split_overrides
    from ..files import photographs_in

    for_method, for_task = split_overrides(overrides)
    if load_config(config, for_method).meta is None:
        raise InputError(f"--config {config}: this method has no meta stage")
    if load_task(task, for_task).kind == "table":
        raise InputError(f"--task {task}: meta-training needs clean photographs, not a table")
    if images is not None:
        photographs_in(images)
    check_folder(out, resume=resume)


@with_table_options
def adapt(
    table: dict[str, Any],
    task: TASK = None,
    config: Annotated[
        str | None,
        option(
            METHOD,
            "NAME",
            "A name from `fsiqa configs`, or a .yaml file. Default: that of the meta-trained prompts, gp_prompts.",
        ),
    ] = None,
    start: START = None,
    clip: CLIP = None,
    overrides: SET = None,
    device: DEVICE = None,
    cache: CACHE = None,
    shots: SHOTS = None,
    seeds: Annotated[
        int, option(PROTOCOL, "N", "Draws of shots, with seeds from --seed on; --out keeps the first.", min=1)
    ] = 1,
    seed: SEED = None,
    out: CHECKPOINT = Path("runs/adapt"),
    csv_file: Annotated[
        Path | None,
        option(
            OUTPUT, "FILE", "Write the rating and prediction of each image here.", "--csv", callback=table_file("seed")
        ),
    ] = None,
    json_file: JSON = None,
) -> None:
    """Learn from rated images: from all of them, or with --shots from a draw, tested once on others."""
    from ..recipes.starts import find_method

    method = find_method(config, start)[1]
    counts = [] if shots is None else [shots]
    check_run([method], overrides or (), shots=counts, start=start, task=task, table=table, clip=clip)
    check_folder(out)
    from ..recipes.adaptation import adapt as run

    result = run(
        config, task=task, shots=shots, start=start, seeds=seeds, clip=clip, out=out, seed=seed, device=device,
        cache=cache, overrides=overrides or (), **table,
    )  # fmt: skip
    found = result.metrics
    if found["agreement"]:
        _print_agreement(found, result.provenance)
    elif found["trials"]:
        _print_trials(found)
    else:
        echo(f"{found['method']}: no fold can be tested: all images are of one group, or ratings hardly differ")
    several = len(found["trials"]) > 1 and not found["agreement"]
    start = "the shipped prompts" if Path(found["start"]) == SHIPPED else nearby(found["start"])
    echo(f"started from {start}; {'the first model' if several else 'the model'} saved in {nearby(result.out)}")
    _print_next(found, table, nearby(result.out), cache)
    write_csv(csv_file, result.pictures)
    write_json(json_file, found)


def _print_agreement(found: dict[str, Any], provenance: dict[str, Any]) -> None:
    """Of a model that learned from all ratings."""
    agreed, (low, high) = found["agreement"], sorted(provenance["scale"])
    folds = len(found["trials"])
    tested = (
        f"out-of-fold predictions, {folds} folds" if folds > 1 else f"predictions of {agreed['pictures']} test images"
    )
    echo(f"{found['method']}: learned from {provenance['shots']} ratings; agreement of {tested}:")
    interval = agreed["srcc_interval"]
    given = f" (95 % interval {interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
    echo(f"  SRCC {decimals(agreed['srcc'])}{given}, PLCC {decimals(agreed['plcc'])}")
    if (most := found["ceiling"]) is not None:
        reached = f"SRCC {decimals(most['srcc'])}, PLCC {decimals(most['plcc'])}"
        echo(f"  a perfect model would reach {reached}, as the ratings have noise")
    echo(f"  RMSE {agreed['rmse']:.3g} on the rating scale of {low:.4g} to {high:.4g}")
    if (coverage := agreed.get("coverage")) is not None:
        echo(f"  {coverage:.0%} of the ratings lie within the predicted 90 % intervals")


def _print_next(found: dict[str, Any], table: dict[str, Any], model: str, cache: Path | None) -> None:
    """What more ratings would bring, and the command to go on with."""
    labels, folder = table.get("labels"), shlex.quote(str(table.get("root") or "FOLDER"))
    cached = f" --cache {shlex.quote(str(cache))}" if cache else ""
    if curve := found["learning_curve"]:
        worth = curve["gain"] >= WORTHWHILE
        brought = f"about {curve['gain']:.2f} SRCC" if worth else f"less than {WORTHWHILE:.2f} SRCC"
        echo(f"{curve['more']} more ratings would bring {brought}")
        named = {"image_column", "score_column"} & table.keys()  # which `fsiqa suggest` does not take
        if worth and labels is not None and not named:
            ask = f"fsiqa suggest {folder} --rated {shlex.quote(str(labels))} -n {curve['more']} -o more.csv{cached}"
            echo(f"for more: {ask}")
    echo(f"next: fsiqa score {shlex.quote(model)} {folder} --csv scores.csv{cached}")


def _print_trials(found: dict[str, Any]) -> None:
    """Of one draw or several, by the protocol of the studies."""
    first, count = found["trials"][0], len(found["trials"])
    title = f"{found['task']}, {found['method']}: {first['shots']} shots of {first['pool']}, "
    title += f"tested on {first['test']} pictures; rmse of quality in [0, 1]"
    title += f"; median of {count} trials (interquartile range)" if count > 1 else ""
    print_metrics(title, _stages(found["median"]), _stages(found["iqr"]) if count > 1 else None)
    if (coverage := found["median"].get("coverage")) is not None:
        echo(f"{coverage:.0%} of the test ratings lie within the predicted 90 % intervals")
    for target in ("scene", "distortion"):
        if (accuracy := found["median"].get(f"{target}_accuracy")) is not None:
            echo(f"the likeliest {target} is right in {accuracy:.0%} of the test pictures that have one")
    for name, what in (("srcc", "SRCC"), ("auc", "area under the ROC curve")):
        if (value := found["median"].get(f"alignment_{name}")) is not None:
            echo(f"alignment of image and prompt: {what} {value:.3f}")


def _stages(found: dict[str, Any]) -> dict[str, Any]:
    """The rows that are printed of trials: zero-shot, after adaptation, and that within each subset."""
    before = {"before adaptation": found["zero_shot"]} if found["zero_shot"] else {}
    return before | {"after adaptation": found} | {f"  within {name}": row for name, row in found["within"].items()}


def pretrain(
    root: Annotated[Path, option(DATA, "FOLDER", "Folder that holds the sources of the configuration.")],
    config: Annotated[str, option(METHOD, "NAME", "A name, or a .yaml file.")] = "pretrain",
    overrides: SET = None,
    device: DEVICE = None,
    seed: SEED = None,
    out: Annotated[Path, option(OUTPUT, "FOLDER", "Folder of the weights and the training state.")] = Path(
        "runs/pretrain"
    ),
    resume: RESUME = False,
) -> None:
    """Train the embedded CLIP anew."""
    from ..pretraining.recipe import pretrain as run

    weights = run(root, config, out=out, seed=seed, device=device, overrides=overrides or (), resume=resume)
    echo(f"weights in {weights}")
