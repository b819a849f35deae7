"""What a method's parameters look like: one frozen model per method, beside its algorithm.

Each field carries its unit, range, the paper's symbol and value (or that the paper gives none) in ``description``; the
same text reaches the JSON Schema, the service's ``/methods`` and the command line's help.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from core.errors import UsageError


class MethodConfig(BaseModel):
    """Base of every method's ``Config``: frozen, no unknown fields, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


ConfigT = TypeVar("ConfigT", bound=MethodConfig)


def parse_config(model: type[ConfigT], values: Mapping[str, Any], *, path: str = "parameters") -> ConfigT:
    """``values`` as a ``model``; ``path`` is where they stand in the request.

    Raises:
        UsageError: the first value that does not fit, named by its path (``parameters.detection.steps``).
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join([path, *map(str, first["loc"])])
        known = ", ".join(model.model_fields)
        raise UsageError(
            "invalid_parameter",
            field=field,
            found=f"{first.get('input')!r}",
            expected=first["msg"].lower() if first["type"] != "extra_forbidden" else f"one of {known}",
            action="Correct it; the parameters and their ranges are listed by 'encoder-audit methods'.",
        ) from error
