"""A trigger in words: what a poisoner or a zoo's recipe writes down, and what becomes a trigger once a size is known.

On the command line it is ``KIND`` or ``KIND:KEY=VALUE,...``: ``colour-patch:side=8,seed=3``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

from pydantic import Field, model_validator
from torch import Tensor

from core.attacks import trigger_patterns
from core.config import MethodConfig, parse_config
from core.errors import UsageError
from core.triggers import AdditiveTrigger, BlendedTrigger, MaskedTrigger

Kind = Literal["white-patch", "colour-patch", "noise-patch", "spectral", "noise", "blended"]
PATCHES: tuple[Kind, ...] = ("white-patch", "colour-patch", "noise-patch")
_SETTINGS: Mapping[Kind, tuple[str, ...]] = {
    "white-patch": ("side", "top", "left"),
    "colour-patch": ("side", "top", "left", "seed"),
    "noise-patch": ("side", "top", "left", "seed"),
    "spectral": ("magnitude",),
    "noise": ("grey_levels", "seed"),
    "blended": ("alpha", "seed"),
}
_CORNER_MARGIN = 1
"""BadEncoder's patch ends one pixel before the lower right corner, at 32 pixels (21..30) and at 224 (173..222)."""


class TriggerSpec(MethodConfig):
    """A kind of trigger and its settings. A setting that the kind does not have is refused."""

    kind: Kind = Field(
        description="white-patch (BadEncoder), colour-patch (HTBA, SSL-Backdoor: 4x4 random colours, enlarged), "
        "noise-patch (random pixels), spectral (CTRL), noise (full image, +- some grey levels) or blended (a full "
        "image of random colours)."
    )
    side: int = Field(8, ge=1, description="Patches: side in pixels. SSL-Backdoor: 50 of 224; BadEncoder: 10 of 32.")
    top: int | None = Field(
        None,
        ge=0,
        description="Patches: row of the upper edge, with left. None: a random place where images are poisoned, and "
        "BadEncoder's lower right corner where one place is needed.",
    )
    left: int | None = Field(None, ge=0, description="Patches: column of the left edge, with top.")
    magnitude: float = Field(
        100.0,
        gt=0,
        le=10_000,
        description="Spectral: added to four DCT coefficients of [0, 255] images. CTRL: 50, 100.",
    )
    grey_levels: float = Field(
        8.0, gt=0, le=255, description="Noise: grey levels of 255 by which every pixel changes. Ours: 8 and 16."
    )
    alpha: float = Field(0.2, gt=0, le=1, description="Blended: weight of the pattern. The paper gives none.")
    seed: int = Field(0, ge=0, description="Where the pattern's random colours or signs come from.")

    @model_validator(mode="after")
    def _settings_belong_to_the_kind(self) -> Self:
        if (self.top is None) != (self.left is None):
            raise ValueError("top and left go together")
        for name, field in type(self).model_fields.items():
            if name not in ("kind", *_SETTINGS[self.kind]) and getattr(self, name) != field.default:
                raise ValueError(f"{self.kind} has no '{name}'; it has {', '.join(_SETTINGS[self.kind])}")
        return self

    @property
    def is_patch(self) -> bool:
        """Whether it covers a square and could stand anywhere."""
        return self.kind in PATCHES

    def settings(self) -> dict[str, Any]:
        """The kind and the settings that it has, as JSON."""
        return self.model_dump(mode="json", include={"kind", *_SETTINGS[self.kind]})


def parse_trigger(text: str) -> TriggerSpec:
    """``KIND`` or ``KIND:KEY=VALUE,...`` as a :class:`TriggerSpec`.

    Raises:
        UsageError: an unknown kind, a setting it does not have, or a value out of range.
    """
    kind, _, rest = text.partition(":")
    values: dict[str, str] = {"kind": kind}
    for setting in rest.split(",") if rest else []:
        key, equals, value = setting.partition("=")
        if not equals or not key or key in values:
            raise _bad_trigger("trigger", f"'{setting}' in '{text}'", "settings as KEY=VALUE, each once")
        values[key] = value
    try:
        return parse_config(TriggerSpec, values, path="trigger")
    except UsageError as error:
        problem = error.problem
        raise _bad_trigger(problem.field, f"{problem.found} in '{text}'", problem.expected) from error


def build_trigger(spec: TriggerSpec, image_size: tuple[int, int]) -> MaskedTrigger | AdditiveTrigger | BlendedTrigger:
    """``spec`` for images of ``image_size`` (height, width); a patch without a place stands in the lower right corner.

    Raises:
        UsageError: ``trigger_too_large`` when the patch does not lie inside the image.
    """
    if spec.kind == "spectral":
        return trigger_patterns.spectral(image_size, spec.magnitude)
    if spec.kind == "noise":
        return trigger_patterns.full_image_noise(image_size, spec.grey_levels, seed=spec.seed)
    if spec.kind == "blended":
        return trigger_patterns.blended_noise(image_size, spec.alpha, seed=spec.seed)
    corner = [max(0, extent - spec.side - _CORNER_MARGIN) for extent in image_size]
    top = corner[0] if spec.top is None else spec.top
    left = corner[1] if spec.left is None else spec.left
    if top + spec.side > image_size[0] or left + spec.side > image_size[1]:
        raise trigger_too_large(spec, f"images of {image_size[0]}x{image_size[1]} pixels")
    return trigger_patterns.patch(patch_pattern(spec), image_size, top, left)


def patch_pattern(spec: TriggerSpec) -> Tensor:
    """The patch alone, ``[3, side, side]`` float in [0, 1], whole grey levels: for patches placed image by image.

    Raises:
        ValueError: ``spec`` is no patch.
    """
    square = (spec.side, spec.side)
    if spec.kind == "white-patch":
        return trigger_patterns.white_patch(square, spec.side, 0, 0).pattern
    if spec.kind == "colour-patch":
        return trigger_patterns.random_colour_patch(square, spec.side, 0, 0, seed=spec.seed).pattern
    if spec.kind == "noise-patch":
        return trigger_patterns.noise_patch(square, spec.side, 0, 0, seed=spec.seed).pattern
    raise ValueError(f"{spec.kind} is no patch")


def trigger_too_large(spec: TriggerSpec, place: str) -> UsageError:
    """The error for a patch that does not lie inside ``place``."""
    at = "" if spec.top is None else f" at ({spec.top}, {spec.left})"
    return UsageError(
        "trigger_too_large",
        field="trigger",
        found=f"a patch of {spec.side}x{spec.side} pixels{at}",
        expected=f"one that lies inside {place}",
        action="Make the patch smaller or move it, as in --trigger colour-patch:side=4.",
    )


def _bad_trigger(field: str, found: str, expected: str) -> UsageError:
    return UsageError(
        "invalid_trigger",
        field=field,
        found=found,
        expected=expected,
        action="Write KIND or KIND:KEY=VALUE,..., as in colour-patch:side=8,seed=3; the kinds are "
        f"{', '.join(get_args(Kind))}.",
    )
