"""What the lab's commands share: the extra packages they need, and how they ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import UsageError

_PACKAGES = ("lightly", "yaml")


@contextmanager
def lab_packages(command: str) -> Iterator[None]:
    """Imports of the lab inside; a missing package becomes a sentence.

    Raises:
        UsageError: a package of the extra ``lab`` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _PACKAGES:
            raise
        raise UsageError(
            "missing_extra",
            field=command,
            found=f"no package '{missing}'",
            expected="the packages that the attack lab needs",
            action="Install them: pip install 'encoder-audit[lab]'.",
        ) from error
