"""DINOv2 with registers by the names of its authors: the names and shapes that timm's network of it has.

There the registers are called otherwise, and the class token has no position: timm adds it to the token.
"""

from __future__ import annotations

from collections.abc import Mapping


def as_timm(own: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]] | None:
    """``own``, names relative to the encoder's prefix and shapes, as timm has them; None for any other file."""
    registers, positions = own.get("register_tokens", ()), own.get("pos_embed", ())
    if len(registers) != 3 or len(positions) != 3 or "cls_token" not in own:
        return None
    shapes = {name: shape for name, shape in own.items() if name != "register_tokens"}
    return shapes | {"reg_token": registers, "pos_embed": (1, positions[1] - 1, positions[2])}
