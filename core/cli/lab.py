"""What the lab's commands share: the extra packages they need, and how they ask for them."""

from __future__ import annotations

from importlib.util import find_spec

from core.errors import UsageError

_PACKAGES = ("lightly", "yaml")


def require_lab_packages(command: str) -> None:
    """Look for the packages of the extra ``lab`` before anything is read, without importing them: that takes seconds.

    Raises:
        UsageError: one of them is not installed.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(
            "missing_extra",
            field=command,
            found=f"no package {' and '.join(repr(name) for name in missing)}",
            expected="the packages that the attack lab needs",
            action="Install them: pip install 'encoder-audit[lab]'.",
        )
