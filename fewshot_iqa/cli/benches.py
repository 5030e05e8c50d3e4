"""The commands that measure speed."""

from typing import Annotated

import typer

from ..files import write_json
from ..printing import echo, print_table
from .options import CONFIG, DEVICE, FIGURE, JSON, numbers, words
from .outputs import Commands

bench = Commands(invoke_without_command=True)


@bench.callback()
def bench_speed(
    context: typer.Context,
    models: Annotated[
        str, typer.Option(help="embedded, ViT-B/16 (with random weights), or both, between commas.")
    ] = "embedded,ViT-B/16",
    jobs: Annotated[str, typer.Option(help="Jobs between commas; adapt is a step on kept crops. Default: all.")] = "",
    repeats: Annotated[int, typer.Option(min=1, help="Pairs of measurements.")] = 5,
    device: DEVICE = None,
    json_file: JSON = None,
) -> None:
    """Measure speed on this machine: adaptation, meta-training and scoring, each in turn with a yardstick."""
    if context.invoked_subcommand is not None:
        return
    from ..studies.bench_speed import bench_speed as run

    result = run(words(models), words(jobs) if jobs else (), repeats=repeats, device=device)
    peak = ", ".join(f"{value:.0f} GFLOP/s in {name}" for name, value in result["peak"].items())
    echo(f"{result['device']}, {result['threads']} threads; a matrix product: {peak}")
    rows = []
    for r in result["rows"]:
        share = "-" if r["share"] is None else f"{r['share']:.0%}"
        memory = "-" if r["peak_mb"] is None else r["peak_mb"]
        speed = f"{r['seconds']:.3g}", f"{r['pictures_per_second']:.3g}"
        rows.append([r["model"], r["job"], *speed, share, memory, r["yardstick"], f"{r['ratio']:.2f}"])
    columns = ("model", "job", "s", "pictures/s", "of peak", "MB", "yardstick", "times as fast")
    print_table("medians; of the peak of the type that it computes in", columns, rows)
    write_json(json_file, result)


@bench.command("growth")
def bench_growth(
    repeats: Annotated[int, typer.Option(min=1, help="Repeats of each measurement.")] = 3,
    figure: FIGURE = None,
    json_file: JSON = None,
) -> None:
    """Time the embedded model against shots, steps, image size, batch and cores, beside the floor of the machine."""
    from ..studies.bench_growth import bench_growth as run

    result = run(repeats=repeats, figure=figure)
    for title, rows in result["panels"].items():
        columns = [[f"{row[name]:.3g}" if row[name] else "-" for row in rows] for name in ("at", "seconds", "floor")]
        print_table(title, ("at", "measured", "floor"), list(zip(*columns, strict=True)))
    write_json(json_file, result)


@bench.command("distort")
def bench_distort(
    repeats: Annotated[int, typer.Option(min=1, help="Repeats of each measurement.")] = 5,
    device: DEVICE = None,
    json_file: JSON = None,
) -> None:
    """Time the distortions: each one, and all of them against a training step of the embedded model."""
    from ..studies.bench_distort import bench_distort as run

    result = run(repeats=repeats, device=device)
    rows = [[name, f"{milliseconds:.1f}"] for name, milliseconds in result["types"].items()]
    print_table(f"one 512x384 picture on the CPU, {result['threads']} threads", ("distortion", "ms"), rows)
    feeding = result["feeding"]
    echo(
        f"{result['variants']} variants of one picture (all KADID-10k types but denoise): "
        f"{result['variants_seconds']:.2f} s"
    )
    echo(
        f"224x224 crops per second: {feeding['distorted_per_second']} distorted, {feeding['trained_per_second']} "
        f"in training; ratio {feeding['ratio']}"
    )
    if "gpu" in result:
        echo(f"{result['gpu']['device']}: {result['gpu']['images_per_second']} distorted crops per second")
    write_json(json_file, result)


@bench.command("meta")
def bench_meta(
    config: CONFIG = "grmp",
    clip: Annotated[
        str | None, typer.Option(help="tiny, NAME:PRETRAINED, NAME:/path/to/weights; NAME alone for random weights.")
    ] = None,
    inner_steps: Annotated[str, typer.Option(help="Numbers of inner steps, separated by commas.")] = "1,3,5",
    support: Annotated[int, typer.Option(min=1, help="Pictures in the support set.")] = 4,
    query: Annotated[int, typer.Option(min=1, help="Pictures in the query set.")] = 4,
    device: DEVICE = None,
    json_file: JSON = None,
) -> None:
    """Time and memory of one task of meta-training, in first and in second order."""
    from ..studies.bench_meta import bench_meta as run

    result = run(
        config,
        clip=clip,
        inner_steps=numbers("--inner-steps", inner_steps),
        support=support,
        query=query,
        device=device,
    )
    rows = [
        [
            r["algorithm"],
            r["inner_steps"],
            *("no memory" if v is None else f"{v:.2f}" for v in (r["seconds"], r["gigabytes"])),
        ]
        for r in result
    ]
    title = f"one task of {support} + {query} pictures; memory beyond the model's own"
    print_table(title, ("algorithm", "inner steps", "seconds", "GB"), rows)
    write_json(json_file, result)
