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
        raise AuditFailed(
            "loss_not_finite",
            field="parameters.learning_rate",
            found=f"a loss of {value} at step {step}",
            expected="finite losses",
            action="Use a smaller learning rate.",
        )
    return value
