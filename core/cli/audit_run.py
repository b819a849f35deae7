"""What the audit commands share: a place to work in, the run with its bar, and the report's way to its folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from core.cli.answer import print_notes_on_images, print_reading
from core.cli.console_run import ConsoleRun
from core.cli.forecast_answer import forecast_sentence

if TYPE_CHECKING:
    from core.audit import AuditOutcome, AuditRequest
    from core.encoders.reading import Reading
    from core.forecast.forecast import Forecast


@contextmanager
def workplace(beside: Path | None) -> Iterator[Path]:
    """A folder that is gone at the end, with all that was not moved out of it. ``beside``: on that file system, so
    that a finished file appears at its place at once."""
    with tempfile.TemporaryDirectory(prefix=".encoder-audit-", dir=beside) as name:
        yield Path(name)


def run_on_console(request: AuditRequest, folder: Path) -> AuditOutcome:
    """The audit, its artifacts in ``folder``, with a progress bar on standard error."""
    from core.audit import run_audit  # torch takes seconds to import, and --help must not

    console = Console(stderr=True)
    with ConsoleRun(console) as run:
        return run_audit(telling(request, console, run), folder, run)


def telling(request: AuditRequest, console: Console, run: ConsoleRun) -> AuditRequest:
    """``request`` with what was read and assumed, and what it will cost, printed on ``console`` before the search
    begins: a search takes long, and who gave the wrong card would rather know now. ``run`` hears the cost, too."""

    def on_read(reading: Reading, notes: Sequence[str]) -> None:
        print_reading(asdict(reading), console)
        print_notes_on_images(notes, console)

    def on_forecast(forecast: Forecast) -> None:
        console.print(forecast_sentence(forecast), highlight=False, soft_wrap=True)
        run.expect_seconds()

    return replace(request, on_read=on_read, on_forecast=on_forecast)


def place_report(outcome: AuditOutcome, folder: Path) -> None:
    """The report's files into ``folder``; pictures of an earlier audit do not stay beside this report."""
    from core.report.artifacts import REPORT_FILES

    folder.mkdir(exist_ok=True)
    written = {artifact.name: artifact.path for artifact in outcome.artifacts if artifact.name in REPORT_FILES}
    for name in REPORT_FILES:
        if name not in written:
            (folder / name).unlink(missing_ok=True)
    for name, path in written.items():
        part = folder / f".{name}.part"
        shutil.copyfile(path, part)
        os.replace(part, folder / name)
