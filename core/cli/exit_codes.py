"""What the command line answers to the shell. The numbers are published and stay."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """A pipeline can rely on 0: only an encoder or a set that was called clean ends there."""

    CLEAN = 0
    BACKDOORED = 1
    POISONED = 1
    FAILED = 2
    UNSUPPORTED = 3
    USAGE = 4
    INCONCLUSIVE = 5
    INTERRUPTED = 130


def exit_code_for(verdict: str) -> ExitCode:
    """The answer to a verdict: ``clean``, ``backdoored``, ``poisoned`` or ``inconclusive``."""
    return ExitCode[verdict.upper()]
