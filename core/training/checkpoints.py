"""Trainings that survive a kill: a checkpoint folder beside the result, named after all that decides the result."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from core.checkpointed_run import CheckpointedRun
from core.run import Run
from core.training.parallel import rank

VERSIONS = ("encoder-audit", "torch", "torchvision", "timm", "lightly")


def fingerprint(*parts: object) -> str:
    """A digest of ``parts``, JSON values: of everything that decides what a training becomes."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def content_fingerprint(path: Path) -> str:
    """A digest of a file's bytes; of a folder, of the names, sizes and times of what is in it: reading it all would
    take as long as the work that is to be taken up. Of nothing where nothing is at ``path``."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(each for each in path.rglob("*") if each.is_file())
    return fingerprint(*([str(each), each.stat().st_size, each.stat().st_mtime_ns] for each in files))


def versions() -> dict[str, str]:
    """Versions of the packages that an encoder's weights depend on."""
    return {name: version(name) for name in VERSIONS}


@contextmanager
def checkpoint_folder(output: Path, key: str, run: Run, *, say: Callable[[str], None]) -> Iterator[CheckpointedRun]:
    """``run`` with checkpoints beside ``output``; they are removed when the block ends well and stay when it does not.

    Every process of a distributed training keeps its own: each holds the same weights but its own share of the views.
    """
    folder = output.with_name(f".{output.name}.{key[:16]}.{rank()}.checkpoint")

    def resumed(name: str, step: int) -> None:
        say(f"Going on from step {step} of '{name}', which was interrupted.")

    yield CheckpointedRun(run, folder, on_resume=resumed)
    shutil.rmtree(folder, ignore_errors=True)
