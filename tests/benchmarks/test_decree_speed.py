"""DECREE here against its published form, on the same encoder and images, one after the other in one process.

    BENCH_ENCODERS=one.safetensors:other.safetensors BENCH_IMAGES=clean.zip make bench

Without these variables: the demo's two encoders and photographs. Printed are seconds, steps, P-L1 and verdicts of both,
by the same thresholds, and the ratio; nothing is asserted but that both ran. BENCH_SEEDS (default 1) says how many
seeds each encoder gets. On a processor, seconds are those of the process: another program's do not count.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from core.device import resolve_device
from core.encoders.load import load_encoder
from core.images.load import load_images
from core.recovery.decree import DecreeConfig, detect
from core.run import QuietRun, Stateful
from samples.photographs import build_archives
from tests.benchmarks.published_decree import run_published

SAMPLES = Path(__file__).parents[2] / "samples"
SEEDS = int(os.environ.get("BENCH_SEEDS", "1"))
ENCODERS = [
    Path(name)
    for name in os.environ.get(
        "BENCH_ENCODERS", f"{SAMPLES / 'backdoored.safetensors'}:{SAMPLES / 'clean.safetensors'}"
    ).split(":")
]


class CountingRun(QuietRun):
    """How many steps were taken."""

    taken = 0

    def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
        for step in range(total):
            yield step
            self.taken += 1


def now() -> float:
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def verdict(p_l1: float, config: DecreeConfig) -> str:
    if p_l1 < config.threshold:
        return "backdoored"
    return "inconclusive" if p_l1 < config.doubtful else "clean"


@pytest.fixture(scope="module")
def images_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if "BENCH_IMAGES" in os.environ:
        return Path(os.environ["BENCH_IMAGES"])
    return build_archives(tmp_path_factory.mktemp("photographs"))[2]


@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("path", ENCODERS, ids=lambda path: path.stem)
def test_ours_against_the_published_form(path: Path, seed: int, images_path: Path) -> None:
    encoder = load_encoder(path).encoder.to(resolve_device("auto"))
    images = load_images(images_path, encoder.image_size)
    config, run = DecreeConfig(), CountingRun()
    began = now()
    published = run_published(encoder, images, seed=seed)
    between = now()
    ours = detect(encoder, images, config, run, seed=seed)
    seconds, published_seconds = now() - between, between - began
    assert published.steps and run.taken
    print(f"\n{path.stem}, seed {seed}, {len(images)} images, {encoder.device}, {torch.get_num_threads()} thread(s):")
    for name, took, steps, size, said in (
        ("published", published_seconds, published.steps, published.smallest, verdict(published.smallest, config)),
        ("ours", seconds, run.taken, 1 - ours.score if ours.score is not None else 1.0, str(ours.verdict)),
    ):
        print(
            f"  {name:10} {took:7.1f} s {steps:5} steps {1000 * took / steps:7.0f} ms a step  P-L1 {size:.4f}  {said}"
        )
    print(f"  ratio {published_seconds / seconds:.2f}; P-L1 of the published form's last epoch {published.p_l1:.4f}")
