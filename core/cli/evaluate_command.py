"""``evaluate``: accuracy, and the attack success rate where the trigger is known."""

from __future__ import annotations


def evaluate() -> int:
    """Placeholder."""
    return 0
