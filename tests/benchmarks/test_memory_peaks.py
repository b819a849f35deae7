"""Peak memory at 224 pixels of every stage of a purification, as a share of the budget. Nothing is asserted."""

from __future__ import annotations

import subprocess
import sys

import pytest

NETWORKS = ("torchvision/resnet50", "torchvision/mobilenet_v2", "timm/vit_base_patch16_224")


@pytest.mark.parametrize("network", NETWORKS)
def test_peaks(network: str) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.peaks", network]
    print("\n" + subprocess.run(command, capture_output=True, text=True, check=True).stdout, end="")
