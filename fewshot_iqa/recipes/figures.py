"""Figures, as files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..score import Attention


@contextmanager
def drawn_figure(path: Path, option: str, size: tuple[float, float]) -> Iterator[Any]:
    """A figure of so many inches that is written to `path`; InputError, naming the option, where it cannot be."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    yield figure
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise InputError(f"{option} {path}: cannot be drawn ({error})") from None


def draw_attention(seen: Attention, path: Path) -> None:
    """A picture, and beside it where a branch saw its likeliest phrase."""
    height, width = seen.weights.shape
    with drawn_figure(path, "--map", (10, 5 * height / width + 0.4)) as figure:
        plain, bright = figure.subplots(1, 2)
        for axes in (plain, bright):
            axes.imshow(seen.image.permute(1, 2, 0).numpy())
            axes.set_axis_off()
        bright.imshow(seen.weights.numpy(), cmap="inferno", alpha=0.65)
        bright.set_title(f"{seen.branch}: {seen.phrase}")
