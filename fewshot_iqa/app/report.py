"""The report of an adapted model: one page of HTML that loads nothing."""

import base64
import io
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from ..config import dump
from ..config.spec import as_list
from ..errors import InputError
from ..files import require_writable, writing
from ..recipes import plots
from ..recipes.reporting import BASELINES, Findings, find_report
from ..recipes.results import tested
from ..resources import SHIPPED, citations
from .rendering import decimals, is_given, render
from .thumbnails import jpeg_thumbnail

SHOWN = 6  # pictures of each kind
STYLE = """<style>svg { color: #1a1a1a } @media (prefers-color-scheme: dark) { svg { color: #e8eaed } }
text { fill: currentColor }</style>"""


def report(
    folder: str | Path,
    out: str | Path = "report.html",
    *,
    baselines: Sequence[str] = BASELINES,
    device: str | None = None,
    cache: str | Path | None = None,
) -> Path:
    """Write a report on the checkpoint of `adapt` in `folder`, a page that needs no other file and no network.

    `baselines` are methods of `fsiqa configs` that learn from the same ratings. Features are kept in the folder
    `cache`. InputError where the folder is no such checkpoint, or `out` cannot be written.

    Examples:
        >>> report("runs/adapt", "report.html")  # doctest: +SKIP
    """
    out = Path(out)
    require_writable(out)
    found = find_report(folder, baselines, device=device, cache=cache)
    page = render(
        "report.html",
        found=found,
        about=found.provenance,
        better=_better(found.methods),
        rows=found.methods.astype(object).where(found.methods.notna(), None).to_dict("records"),
        facts=_facts(found),
        figures=_figures(found),
        albums=_albums(found),
        config=dump(found.settings),
        citations=citations(str(found.provenance["method"])),
        version=version("fewshot-iqa"),
        made=datetime.now(timezone.utc).date().isoformat(),
    )
    with writing(out) as file:
        file.write(page)
    return out


def _facts(found: Findings) -> dict[str, Any]:
    """The ratings, groups and start of the model, as the page names them."""
    rows = tested(found.pictures)
    about, groups = found.provenance, rows["group"].nunique()
    (low, high), labels = sorted(about["scale"]), as_list(about["source"].get("labels"))
    return {
        "low": f"{low:.4g}",
        "high": f"{high:.4g}",
        "tested": len(rows),
        "groups": f"{groups} {'pictures' if groups == len(rows) else 'groups'}",
        "source": Path(labels[0]).name if labels else about["task"],
        "start": "the shipped prompts" if Path(about["start"]) == SHIPPED else about["start"],
    }


def _better(methods: pd.DataFrame) -> list[dict[Any, Any]]:
    """The baselines that the model is behind of, beyond doubt."""
    if "ahead_high" not in methods:
        return []
    return methods[methods["ahead_high"] < 0].to_dict("records")


def _figures(found: Findings) -> list[dict[str, str]]:
    """Title, picture (a data: address), its text, and what to see in it."""
    about, pictures = found.provenance, found.pictures
    best = found.methods.iloc[0]
    drawn: list[tuple[str, Figure, str, str]] = [
        (
            "Prediction and rating",
            plots.plot_scatter(pictures),
            f"Scatter of {len(tested(pictures))} ratings over predictions, SRCC {decimals(best['srcc'])}",
            "Each point is a picture that the predicting model did not learn from.",
        )
    ]
    if "predicted_rating_std" in pictures:
        drawn.append(
            (
                "Calibration of the intervals",
                plots.plot_calibration(pictures),
                f"Share of ratings inside predicted intervals; {best['coverage']:.0%} at the level of 90 %",
                "Below the diagonal predicted deviations are too small, above it too large.",
            )
        )
    names, groups = plots.residual_groups(tested(pictures))
    drawn.append(
        (
            f"Residuals by {groups}",
            plots.plot_residuals(pictures),
            f"Box plots of rating minus prediction in {names.nunique()} groups",
            "A box beside zero is a group that the model rates too low (right) or too high (left).",
        )
    )
    if curve := about.get("learning_curve"):
        drawn.append(
            (
                "Learning curve inside the ratings",
                plots.plot_learning_curve(curve, about.get("ceiling")),
                f"SRCC after {', '.join(map(str, curve['shots']))} ratings: {', '.join(map(decimals, curve['srcc']))}",
                "Means over several cuts into folds, so that all ratings may differ a little from the agreement above. "
                f"{curve['more']} more ratings would bring about {curve['gain']:.2f} SRCC.",
            )
        )
    if history := about.get("history"):
        drawn.append(
            (
                "Training",
                plots.plot_training(history),
                f"Loss of {len(history)} gradient steps, from {history[0]['loss']:.3g} to {history[-1]['loss']:.3g}",
                "The cosine is of the angle between the gradients of quality and scene, where QGR is on.",
            )
        )
    return [{"title": title, "src": _svg(figure), "alt": text, "note": note} for title, figure, text, note in drawn]


def _albums(found: Findings) -> list[dict[str, Any]]:
    """Titles, and the pictures below each: name, address, rating and prediction."""
    rows = tested(found.pictures).drop_duplicates(["image", "rating"])
    off = (rows["rating"] - rows["predicted_rating"]).abs()
    ordered = rows.sort_values("predicted_quality", ascending=False)
    chosen = {
        "Predicted best": ordered.head(SHOWN),
        "Predicted worst": ordered.tail(SHOWN)[::-1],
        "Most mistaken": rows.loc[off.sort_values(ascending=False).index[:SHOWN]],
    }
    albums = []
    for title, some in chosen.items():
        shown = [_shown(row) for row in some.to_dict("records")]
        albums.append({"title": title, "pictures": [each for each in shown if each]})
    return [album for album in albums if album["pictures"]]


def _shown(row: dict[Any, Any]) -> dict[str, str] | None:
    try:
        image = jpeg_thumbnail(Path(row["image"]))
    except InputError:
        return None
    name = Path(row["image"]).name
    distorted = f" ({row['distortion']} {row['level']:g}, shown before)" if is_given(row.get("level")) else ""
    std = row.get("predicted_rating_std")
    spread = f" ± {std:.3g}" if is_given(std) else ""
    return {
        "name": name + distorted,
        "src": "data:image/jpeg;base64," + base64.b64encode(image).decode(),
        "rating": f"{row['rating']:.3g}",
        "predicted": f"{row['predicted_rating']:.3g}{spread}",
    }


def _svg(figure: Figure) -> str:
    """A figure as a data: address, drawn in the colour of the page's text."""
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "fsiqa"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue().replace("#000000", "currentColor").replace("<defs>", STYLE + "<defs>", 1)
    return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()
