"""A rating session: who rates what next, and what was voted."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from ..errors import InputError
from .ballot import COMPARISON, RATING, Ballot

ACR = {5: "excellent", 4: "good", 3: "fair", 2: "poor", 1: "bad"}  # ITU-T P.910
PREFERRED = ("a", "equal", "b")
SPANS = {"acr": "1-5", "continuous": "0-100", "pairs": ""}  # for `data.readers.stated_range`
Scale = Literal["acr", "continuous", "pairs"]
APART = 10  # trials at least between the two showings of an image that is repeated


@dataclass(frozen=True)
class Trial:
    """What is shown at once, for the (repetition + 1)-th time: the name of an image, or of two."""

    images: tuple[str, ...]
    repetition: int = 0


class Session:
    """Trials of each rater, in a seeded order of its own or in that of the images (`ordered`), and the votes in a file.

    `acr` asks for one of five grades, `continuous` for a number from 0 to 100, `pairs` which of two images is better:
    each image is compared `rounds` times. Of the grades and numbers, `repeats` images are asked for twice.
    """

    def __init__(
        self,
        images: Sequence[str],
        path: Path,
        scale: Scale = "acr",
        *,
        seed: int = 0,
        repeats: int = 0,
        rounds: int = 6,
        ordered: bool = False,
    ) -> None:
        if scale == "pairs" and len(images) < 2:
            raise InputError("--scale pairs: at least two images are needed")
        self.images, self.scale, self.seed = list(images), scale, seed
        self.repeats, self.rounds, self.ordered = repeats, rounds, ordered
        self.ballot = Ballot(path, COMPARISON if scale == "pairs" else RATING)
        for row in self.ballot.rows:
            if row.get("rating_scale", SPANS[scale]) != SPANS[scale]:
                stated = row["rating_scale"]
                raise InputError(
                    f"{path}: holds ratings from {stated}, not from {SPANS[scale]}: name another file with -o"
                )
        self._trials: dict[str, list[Trial]] = {}
        self._passed: dict[str, list[Trial]] = defaultdict(list)
        self.broken: dict[str, str] = {}

    def trials(self, rater: str) -> list[Trial]:
        """All trials of a rater, in order, but for those of broken images."""
        if rater not in self._trials:
            noise = random.Random(f"{self.seed} {rater}")
            self._trials[rater] = self._pairs(noise) if self.scale == "pairs" else self._single(noise)
        return [trial for trial in self._trials[rater] if not self.broken.keys() & set(trial.images)]

    def open_trials(self, rater: str) -> list[Trial]:
        """Those that the rater has not voted on yet; what was skipped comes last."""
        waiting = [each for each in self.trials(rater) if self.ballot.count(rater, each.images) <= each.repetition]
        skipped = [each for each in self._passed[rater] if each in waiting]
        again = {each.images for each in skipped}  # a repetition would follow at once, and is left out
        return [each for each in waiting if each.images not in again] + skipped

    def vote(self, rater: str, trial: Trial, value: str, seconds: float) -> None:
        """Record a vote; a repeated message of one that is recorded changes nothing. InputError for a vote that does
        not fit."""
        self._require(rater, trial)
        if not self._fits(value):
            raise InputError(f"'{value}' is no vote on this scale")
        if self.ballot.count(rater, trial.images) > trial.repetition:
            return
        self.ballot.append(self._row(rater, trial, value, seconds))

    def correct(self, rater: str, image: str, value: str, seconds: float) -> None:
        """Record a vote on an image in the place of those that the rater gave before."""
        if not rater.strip() or not self._fits(value):
            raise InputError(f"'{value}' by '{rater}' is no vote on this scale")
        if not (image.isprintable() and rater.isprintable()):
            raise InputError("the name holds characters that a table cannot")
        self.ballot.put(self._row(rater, Trial((image,)), value, seconds))

    def _row(self, rater: str, trial: Trial, value: str, seconds: float) -> dict[str, str]:
        names = COMPARISON[:3] if self.scale == "pairs" else RATING[:2]
        row = dict(zip(names, (*trial.images, value), strict=True))
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return row | {
            "rater": rater, "rating_scale": SPANS[self.scale], "seconds": f"{seconds:.2f}", "time": now,
        }  # fmt: skip

    def undo(self, rater: str, votes: int) -> None:
        """Take back the last of a rater's `votes` votes; a repeated message changes nothing."""
        if votes == sum(row["rater"] == rater for row in self.ballot.rows):
            self.ballot.remove_last(rater)

    def skip(self, rater: str, trial: Trial) -> None:
        """Ask for it again behind all others."""
        self._require(rater, trial)
        self._passed[rater] = [each for each in self._passed[rater] if each != trial] + [trial]

    def drop(self, image: str, reason: str) -> None:
        """Ask for a broken image no more."""
        if image not in self.images:
            raise InputError(f"{image}: not an image of this session")
        self.broken[image] = reason

    def _require(self, rater: str, trial: Trial) -> None:
        if not rater.strip():
            raise InputError("the rater has no name")
        if trial not in self.trials(rater):
            raise InputError(f"{', '.join(trial.images)}: not asked for in this session")

    def _fits(self, value: str) -> bool:
        if self.scale == "pairs":
            return value in PREFERRED
        if self.scale == "acr":
            return value in {str(grade) for grade in ACR}
        try:
            return 0 <= float(value) <= 100
        except ValueError:
            return False

    def _single(self, noise: random.Random) -> list[Trial]:
        images = self.images if self.ordered else noise.sample(self.images, len(self.images))
        order = [Trial((image,)) for image in images]
        for trial in order[: self.repeats]:
            earliest = min(order.index(trial) + APART, len(order))
            order.insert(noise.randint(earliest, len(order)), Trial(trial.images, 1))
        return order

    def _pairs(self, noise: random.Random) -> list[Trial]:
        """In each round every image meets another, at random; of an odd number one waits."""
        found: list[Trial] = []
        met: dict[frozenset[str], list[Trial]] = defaultdict(list)
        for _ in range(self.rounds):
            order = noise.sample(self.images, len(self.images))
            for pair in zip(order[::2], order[1::2], strict=False):
                before = met[frozenset(pair)]
                before.append(Trial(before[0].images if before else pair, len(before)))
                found.append(before[-1])
        return found
