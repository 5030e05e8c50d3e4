"""Randomness from names: every draw comes from a generator keyed by what it is for."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def key_seed(seed: int, *keys: object) -> int:
    """A 63-bit seed for `(seed, *keys)`, the same on every machine and in every process."""
    digest = hashlib.sha256(repr((seed, *keys)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, *keys: object) -> torch.Generator:
    """A CPU generator for `(seed, *keys)`."""
    return torch.Generator().manual_seed(key_seed(seed, *keys))


def integer(low: int, high: int, noise: torch.Generator) -> int:
    """One of `range(low, high)`."""
    return int(torch.randint(low, high, (), generator=noise))


@contextmanager
def scoped(seed: int, *keys: object) -> Iterator[None]:
    """Seed torch's own generators for modules that accept none (dropout, initialisers), then restore them."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(key_seed(seed, *keys))
        yield


def permutation(n: int, seed: int, *keys: object) -> list[int]:
    """A permutation of `range(n)` for `(seed, *keys)`."""
    return torch.randperm(n, generator=generator(seed, *keys)).tolist()
