"""Figures, returned and written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, first_sentence
from ..files import writing
from ..images import own_mark
from ..score import Attention

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(size: tuple[float, float]) -> Figure:
    """An empty figure of so many inches, of no window system."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def save_figure(figure: Figure, path: str | Path | None) -> Figure:
    """The figure, also written to `path` where that is given; InputError where it cannot be."""
    if path is not None:
        kind = Path(path).suffix.lower().removeprefix(".") or "png"
        more: dict[str, Any] = (
            {"pil_kwargs": {"exif": own_mark()}} if kind in ("jpg", "jpeg") else {}
        )  # others name Matplotlib
        try:
            with writing(Path(path), "wb") as file:
                figure.savefig(file, dpi=150, format=kind, **more)
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: the figure cannot be written ({first_sentence(error)})") from None
    return figure


def draw_attention(seen: Attention, path: Path) -> None:
    """A picture, and beside it where a branch saw its likeliest phrase."""
    height, width = seen.weights.shape
    figure = new_figure((10, 5 * height / width + 0.4))
    plain, bright = figure.subplots(1, 2)
    for axes in (plain, bright):
        axes.imshow(seen.image.transpose(1, 2, 0))
        axes.set_axis_off()
    bright.imshow(seen.weights, cmap="inferno", alpha=0.65)
    bright.set_title(f"{seen.branch}: {seen.phrase}")
    save_figure(figure, path)
