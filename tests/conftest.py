"""What all tests share: the real engines, started once per run and only for tests that ask for them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from api.embedded.stack import Stack, start_stack

# The tests' tensors are tiny: a second thread only waits, and slows everything down on a busy machine.
torch.set_num_threads(1)
# The same for the processes that tests start: their idle threads sleep instead of keeping a core from the others.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def service_home() -> Iterator[Path]:
    """An empty folder for a service; it is not under pytest's own, whose paths are too long for Unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix="ea-"))
    folder.chmod(0o711)  # as root, PostgreSQL's unprivileged account must pass through it
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def stack(service_home: Path) -> Iterator[Stack]:
    """PostgreSQL, broker and S3, as the environment names them or embedded."""
    with start_stack(service_home) as running:
        yield running
