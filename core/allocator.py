"""Freed memory that is kept for the next step, instead of being given back to the system and asked for again.

By default glibc gives every freed block of more than 32 MiB back at once, and the kernel must clear each page of the
next one: at 224 pixels the activations of every step. With MobileNetV2 that was a third to a half of a step's time.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""``mallopt``'s names of: the free bytes at the heap's end that are given back, the number of blocks outside the heap.
The threshold of size for these cannot be raised beyond 32 MiB, but there may be none of them."""
_KEEP, _USUAL_TRIM, _USUAL_MMAP_MAX = 2**31 - 1, 2**26, 2**16


@contextmanager
def kept_memory() -> Iterator[None]:
    """Within the block freed memory is kept; at its end all of it goes back to the system. On Linux with glibc; no
    change elsewhere, and none to memory of a GPU."""
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, _KEEP)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_MAX, _USUAL_MMAP_MAX)
        libc.mallopt(_TRIM_THRESHOLD, _USUAL_TRIM)
        release_freed()


def release_freed() -> None:
    """Give freed memory back to the system now: what comes next is of another size."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
