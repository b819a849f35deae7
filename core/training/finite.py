"""Training that has run away is stopped and said so, not carried on with."""

from __future__ import annotations

import math

from torch import Tensor

from core.errors import AuditFailed


def require_finite(loss: Tensor, step: int) -> float:
    """The value of ``loss``, a scalar.

    Raises:
        AuditFailed: it is NaN or infinite.
    """
    value = float(loss.detach())
    if not math.isfinite(value):
        raise ran_away(value, step)
    return value


def ran_away(loss: float, step: int) -> AuditFailed:
    """What to raise when the loss of ``step`` is NaN or infinite."""
    return AuditFailed(
        "loss_not_finite",
        field="parameters.learning_rate",
        found=f"a loss of {loss} at step {step}",
        expected="finite losses",
        action="Use a smaller learning rate.",
    )
