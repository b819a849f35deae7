"""Every error a user can meet, each saying what was found, what was expected and what to do.

One class per *kind of answer* the caller must give (an exit code, a failure code); the particular fault is ``code``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Problem:
    """A fault in words a stranger can act on.

    ``code`` is stable, snake_case and machine-readable (``truncated_safetensors``); ``field`` names the input at fault
    (``encoder``, ``images``, ``card.mean``, ``parameters.seed``).
    """

    code: str
    field: str
    found: str
    expected: str
    action: str

    def sentence(self) -> str:
        return f"{self.field}: {self.found}. Expected {self.expected}. {self.action}"

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


class AuditError(Exception):
    """Base of all errors with a message for the user. ``exit_code`` is the command line's answer."""

    exit_code = 2

    def __init__(self, code: str, *, field: str, found: str, expected: str, action: str) -> None:
        self.problem = Problem(code, field, found, expected, action)
        super().__init__(self.problem.sentence())


class UnsupportedInput(AuditError):
    """A file that cannot be audited: not an encoder, unknown architecture, not images, hostile, too few images."""

    exit_code = 3


class UsageError(AuditError):
    """The request itself is wrong: an unknown parameter, a value out of range, a path that does not exist."""

    exit_code = 4


class AuditFailed(AuditError):
    """The audit started and could not end: out of memory, numbers that are not finite, a full disk."""

    exit_code = 2


class Cancelled(Exception):
    """The caller asked to stop; raised from inside ``Run.steps``, between two steps."""

    exit_code = 130
