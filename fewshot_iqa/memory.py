"""The memory that a process has held."""

import ctypes
import sys
from contextlib import suppress

import torch


def reset_peak_memory(device: str) -> None:
    """Start anew, where the device can (a GPU)."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mb(device: str) -> int | None:
    """The most memory in MB that the process has held so far, on a GPU that PyTorch has; None where it is not known."""
    if device.startswith("cuda"):
        return round(torch.cuda.max_memory_allocated(device) / 2**20)
    if sys.platform == "win32":
        return None
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(most / (2**20 if sys.platform == "darwin" else 2**10))


def release_memory() -> None:
    """Return freed memory to the system, on Linux with glibc. Objects that stay allocated fragment its heap: it grew
    by a gigabyte for a hundred cached pictures."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
