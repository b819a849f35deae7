"""Scratch folders vanish, whoever dies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from worker.scratch import scratch_folder

DIE_INSIDE = """
import os, signal, sys
from pathlib import Path
from worker.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "large").write_bytes(b"x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_folder_is_private_and_removed_at_the_end(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with scratch_folder(root) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert root.stat().st_mode & 0o777 == 0o700
        (folder / "file").write_text("x")
    assert list(root.iterdir()) == []


def test_a_folder_is_removed_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="boom"), scratch_folder(tmp_path / "root"):
        raise ValueError("boom")
    assert list((tmp_path / "root").iterdir()) == []


def test_a_killed_owner_s_folder_is_removed_by_the_next_one_and_a_living_one_s_is_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with scratch_folder(root) as living:
        subprocess.run([sys.executable, "-c", DIE_INSIDE, str(root)], check=False)
        assert len(list(root.glob("*/large"))) == 1
        with scratch_folder(root) as other:
            assert sorted(path for path in root.iterdir() if path.is_dir()) == sorted([living, other])
    assert list(root.iterdir()) == []
