"""Random numbers that are a pure function of a seed and a position: the same on every device, in every batch."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

HALF = 0xFFFF
QUANTILES = 1 << 16


class Draws:
    """Independent streams for `seeds`, one per image; each draw continues where the last one ended.

    Word i of a stream is a hash of (seed, i), so that many streams can be drawn at once on a GPU, and each has
    the same numbers as alone on a CPU. All results have the streams as their first axis.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.device = device
        keys = np.stack([np.random.SeedSequence(seed).generate_state(2) for seed in seeds])
        self._low, self._high = torch.from_numpy(keys.view(np.int32)).to(device).split(1, dim=1)
        self._position = 0

    def words(self, count: int) -> Tensor:
        """The next `count` random 32-bit words of each stream, int32 (n, count)."""
        index = torch.arange(self._position, self._position + count, dtype=torch.int32, device=self.device)
        self._position += count
        words = index + self._low
        _scramble(words, spare := torch.empty_like(words))
        words ^= self._high
        _scramble(words, spare)
        return words

    def uniform(self, *shape: int) -> Tensor:
        """Uniform in [0, 1), float32 (n, *shape)."""
        words = self.words(math.prod(shape)).bitwise_right_shift_(8).bitwise_and_(0xFFFFFF)
        return words.float().mul_(2.0**-24).view(-1, *shape)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, float32 (n, *shape): each half of a random word picks one of 65,536 quantiles."""
        count = math.prod(shape)
        words = self.words((count + 1) // 2)
        quantiles = _normal_quantiles(self.device)
        low, high = words & HALF, words.bitwise_right_shift_(16).bitwise_and_(HALF)
        values = [quantiles.index_select(0, half.view(-1)).view(half.shape) for half in (low, high)]
        return torch.cat(values, dim=1)[:, :count].reshape(-1, *shape)

    def integers(self, limits: Sequence[tuple[int, int]], count: int) -> np.ndarray:
        """`count` tuples of integers, each between its two limits, both included: int64 (n, count, len(limits)).

        They are in the CPU's memory. The first tuples are the same whatever `count`.
        """
        lowest, highest = np.array(limits).T
        picks = self.uniform(count, len(limits)).double().cpu().numpy()
        return lowest + (picks * (highest - lowest + 1)).astype(np.int64)


def _scramble(words: Tensor, spare: Tensor) -> None:
    """Replace 32-bit words by a bijection in which every bit moves half of the others; `spare` is scratch memory.

    Shifts of int32 keep the sign, hence the masks; products wrap around, as intended.
    """
    for shift, mask, factor in ((16, HALF, 0x7FEB352D), (15, 0x1FFFF, 0x846CA68B - (1 << 32)), (16, HALF, None)):
        torch.bitwise_right_shift(words, shift, out=spare)
        words ^= spare.bitwise_and_(mask)
        if factor is not None:
            words *= factor


@lru_cache
def _normal_quantiles(device: torch.device | str) -> Tensor:
    """(65536,) float32: the standard normal's quantiles in the middle of equal shares, scaled to unit variance."""
    quantiles = ndtri((np.arange(QUANTILES) + 0.5) / QUANTILES)
    return torch.from_numpy((quantiles / quantiles.std()).astype(np.float32)).to(device)
