"""What Celery's main process may not do."""

from __future__ import annotations

import os
import subprocess
import sys


def test_the_main_process_imports_no_torch() -> None:
    """A process that has touched CUDA cannot start children that use it."""
    program = "import sys, worker.__main__, worker.tasks; sys.exit('torch' in sys.modules)"
    environment = os.environ | {
        "DATABASE_URL": "postgresql://nobody@127.0.0.1/none",
        "REDIS_URL": "redis://127.0.0.1/0",
        "S3_BUCKET": "none",
    }
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
