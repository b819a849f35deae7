"""Freed memory stays with the process within the block, and goes back to the system after it."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import mmap, sys
from core.allocator import _glibc, kept_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE / 2**20

import torch
BLOCK = 48 * 2**20  # bytes; more than the threshold that glibc adapts by itself
if _glibc() is None:
    print("other allocator")
    sys.exit()
torch.ones(BLOCK, dtype=torch.uint8)
before = resident()
with kept_memory():
    torch.ones(BLOCK, dtype=torch.uint8)
    within = resident()
torch.ones(BLOCK, dtype=torch.uint8)
print(round(within - before), round(resident() - before))
"""


def test_memory_is_kept_within_the_block_and_returned_after_it() -> None:
    answer = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True).stdout.strip()
    if answer != "other allocator":
        within, after = map(int, answer.split())
        assert within >= 40
        assert after <= 8
