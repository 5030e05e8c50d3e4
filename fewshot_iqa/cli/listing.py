"""What `fsiqa score` shows and writes of scores."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import from_cell
from ..printing import echo, print_table, rounded, with_std

if TYPE_CHECKING:
    from ..score import Score

LISTED, SHORT = 30, 10  # rows on the screen: of all images, and of the first and the worst of many
COLUMNS = ("image", "quality", "quality_std", "rating", "rating_std", "note")


@dataclass
class Listing:
    """What the screen shows of scores: the first, the `most` worst, and a summary; others are not kept."""

    most: int
    count: int = 0
    failed: int = 0
    total: float = 0.0
    lowest: float = math.inf
    highest: float = -math.inf
    has_std: bool = False
    first: list["Score"] = field(default_factory=list)
    failures: list["Score"] = field(default_factory=list)
    worst: list[tuple[float, int, "Score"]] = field(default_factory=list)  # a heap, the best of them on top

    def add(self, score: "Score") -> None:
        if self.count < LISTED:
            self.first.append(score)
        heappush(self.worst, (-_rank(score), -self.count, score))
        if len(self.worst) > self.most:
            heappop(self.worst)
        self.count += 1
        self.has_std |= score.quality_std is not None
        if score.quality is None:
            self.failed += 1
            self.failures += [score] if self.failed <= SHORT else []
            return
        self.total += score.quality
        self.lowest, self.highest = min(self.lowest, score.quality), max(self.highest, score.quality)

    def show(self, more: Sequence[str], *, ordered: bool, csv_file: Path | None) -> None:
        """Print one table, of the worst where it is `ordered`; or the first and the worst of many images."""
        title = "quality from 0 to 1, higher is better" + ("; ± one standard deviation" if self.has_std else "")
        worst = [score for _, _, score in sorted(self.worst, reverse=True)]
        if ordered:
            self._print(
                title + (f"; the {len(worst)} worst of {self.count}" if len(worst) < self.count else ""), worst, more
            )
        elif self.count <= LISTED:
            self._print(title, self.first, more)
        else:
            self._print(f"{title}; the first {SHORT} of {self.count}", self.first[:SHORT], more)
            self._print(f"the {SHORT} worst", worst, more)
        scored = self.count - self.failed
        if self.count > LISTED and scored:
            mean = self.total / scored
            every = f"all are in {csv_file}" if csv_file else "--csv FILE writes all"
            echo(
                f"{scored} images: quality {mean:.3f} on average, from {self.lowest:.3f} to {self.highest:.3f}; {every}"
            )
        for score in self.failures if self.count > LISTED else ():
            echo(f"{score.image}: {score.note}", err=True)

    def _print(self, title: str, scores: Sequence["Score"], more: Sequence[str]) -> None:
        rows = []
        for each in scores:
            quality, rating = with_std(each.quality, each.quality_std), with_std(each.rating, each.rating_std)
            rows.append([each.image, quality, rating, *_more(each, more), each.note])
        print_table(title, ("image", "quality", "rating", *more, "note"), rows)


def row_of(score: "Score", more: Sequence[str]) -> list[Any]:
    """The cells of a file's row."""
    numbers = (score.quality, score.quality_std, score.rating, score.rating_std)
    return [score.image, *map(rounded, numbers), score.note, *_more(score, more)]


def score_of(row: Sequence[str], more: Sequence[str]) -> "Score":
    """The score of a row of a file."""
    from ..score import Score

    name, note = from_cell(row[0]), from_cell(row[len(COLUMNS) - 1])
    quality, quality_std, rating, rating_std = (float(cell) if cell else None for cell in row[1 : len(COLUMNS) - 1])
    further = {column: from_cell(cell) for column, cell in zip(more, row[len(COLUMNS) :], strict=True)}
    alignment = further.pop("alignment", "")
    return Score(name, quality, quality_std, rating, rating_std, note, further, float(alignment) if alignment else None)


def _more(score: "Score", more: Sequence[str]) -> list[Any]:
    return [rounded(score.alignment) if name == "alignment" else score.likeliest.get(name, "") for name in more]


def _rank(score: "Score") -> float:
    return math.inf if score.quality is None else score.quality


def worst_first(scores: Sequence["Score"]) -> list["Score"]:
    """Those without a quality last."""
    return sorted(scores, key=_rank)
