"""Peak memory of the stages of an audit at 224 pixels, one step of each: ``python -m tests.benchmarks.peaks NETWORK``.

A process of its own, since an allocator remembers. On a processor the peak is that of the process' resident memory, on
a GPU that of PyTorch's allocator. Printed is what a stage needs above what the process held when the stages began (the
weights were part of that), and its share of the budget.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from core.allocator import kept_memory
from core.device import is_gpu, resolve_device
from core.memory import memory_budget
from core.memory_size import parse_size
from core.recovery.forward import frozen
from core.recovery.ssldefender_search import SSLDefenderConfig, search_all, target_budget
from core.recovery.towards_target import recover_towards
from core.run import Stateful
from core.triggers import MaskedTrigger
from core.types import Encoder, ImageSet
from core.unlearning.ssldefender import UnlearningConfig, unlearn

SIDE, IMAGES = 224, 48
BUDGET = "3GiB"


class OneStep:
    """The first step of every stage, and the peak of its memory; what comes between two stages counts to the next."""

    def __init__(self, device: torch.device, budget: int) -> None:
        self._device, self._budget = device, budget
        self._base = _peak(device)

    def plan(self, stages: object) -> None:
        pass

    def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
        yield from range(min(total, 1))
        peak = _peak(self._device) - self._base
        share = peak / self._budget
        print(f"  {name:45} peak {peak / 2**20:6.0f} MiB, {share:5.2f} of the budget", flush=True)

    def log(self, **scalars: float) -> None:
        pass


def _peak(device: torch.device) -> int:
    """Bytes, the most since this was asked last."""
    if is_gpu(device):
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return int(peak)
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    Path("/proc/self/clear_refs").write_text("5")
    return int(lines["VmHWM"].split()[0]) * 1024


def network(name: str) -> Encoder:
    """``torchvision/...`` or ``timm/...`` with random weights, ending in features."""
    import timm
    import torchvision

    library, _, model = name.partition("/")
    if library == "timm":
        backbone = timm.create_model(model, num_classes=0)
    else:
        backbone = torchvision.models.get_model(model)
        setattr(backbone, "fc" if hasattr(backbone, "fc") else "classifier", torch.nn.Identity())
    return Encoder(
        backbone, name=model, image_size=(SIDE, SIDE), feature_dim=0, mean=(0.485, 0.456, 0.406), std=(0.23, 0.22, 0.22)
    ).eval()


def noise() -> ImageSet:
    pixels = torch.randint(0, 256, (IMAGES, 3, SIDE, SIDE), dtype=torch.uint8)
    return ImageSet(pixels, tuple(f"{i}.png" for i in range(IMAGES)), "noise")


@contextmanager
def _as_in_an_audit(device: torch.device) -> Iterator[int]:
    with kept_memory(), memory_budget(parse_size(BUDGET), device) as budget:
        yield budget.size


def main(name: str) -> None:
    torch.manual_seed(0)
    device = resolve_device("auto")
    encoder, images = network(name).to(device), noise()
    config = SSLDefenderConfig(square_stride=0.3)
    with _as_in_an_audit(device) as budget:
        weights = sum(weight.nbytes for weight in encoder.parameters())
        print(f"{name} at {SIDE} pixels on {device}, weights {weights / 2**20:.0f} MiB, budget {BUDGET}:", flush=True)
        subject = frozen(encoder)
        run = OneStep(device, budget)
        search_all(subject, images, config, run, seed=0)
        pixels = images.batch(slice(None), device)
        target = torch.nn.functional.normalize(subject(pixels[:1]), dim=1)[0].float()
        recover_towards(subject, pixels[16:], pixels[:16], target, target_budget(config), run, number=0, seed=0)
        patch = torch.zeros(1, SIDE, SIDE)
        patch[:, -40:, -40:] = 1
        trigger = MaskedTrigger(patch, torch.ones(3, SIDE, SIDE))
        unlearn(encoder, images, [trigger], UnlearningConfig(max_drift=2, min_agreement=0), run, seed=0)


if __name__ == "__main__":
    main(sys.argv[1])
