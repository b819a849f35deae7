"""Images of more than eight bits a channel: which of their levels is white is decided for a whole set, never for one
image.

A camera's 12 bits stand in a PNG or TIFF of 16, and files of floats hold [0, 1] or [0, 255]: the file does not say
which. Read by what the format could hold, such images are nearly black. The brightest level in the set says what it is.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

_WHITES = (255, 1023, 4095, 16383, 65535)
"""White in 8, 10, 12, 14 and 16 bits."""
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_COLOURS = frozenset(f"{mode};16{order}" for mode in ("RGB", "RGBA") for order in _OTHER_BYTE)
_GREY_AND_ALPHA = "LA;16B"


class Depth:
    """The brightest level of a set's deep images, integers and floats apart, and what follows from it."""

    def __init__(self) -> None:
        self._brightest = {"u": 0.0, "f": 0.0}
        self.images = 0

    def see(self, levels: NDArray[np.generic]) -> None:
        """Take one image into account."""
        kind = _kind(levels)
        self._brightest[kind] = max(self._brightest[kind], float(levels.max()))
        self.images += 1

    def white(self, kind: str) -> float:
        """The level that is white, for integers ("u") or floats ("f")."""
        brightest = self._brightest[kind]
        if kind == "f" and brightest <= 1:
            return 1.0
        return float(next((white for white in _WHITES if brightest <= white), _WHITES[-1]))

    def whites(self) -> tuple[float, float]:
        """The white of integers and that of floats."""
        return self.white("u"), self.white("f")

    def notes(self) -> tuple[str, ...]:
        """How the deep images were read, where that had to be decided."""
        said = []
        if self._brightest["u"] > 0 and self.white("u") < _WHITES[-1]:
            bits = int(self.white("u")).bit_length()
            said.append(
                f"Levels of 16 bits were read as of {bits}, {self.white('u'):.0f} being white: the brightest level in "
                f"the set is {self._brightest['u']:.0f}."
            )
        if self._brightest["f"] > 0:
            said.append(f"Floats were read with {self.white('f'):g} as white.")
        return tuple(said)


def deep_levels(image: Image.Image, data: bytes, formats: Sequence[str]) -> NDArray[np.generic] | None:
    """The levels ``[H, W]`` or ``[H, W, 3]`` of an ``image`` with more than eight bits a channel, opened from ``data``
    with one of ``formats`` and not yet loaded; None for others.

    Of 16-bit colours Pillow keeps the high byte only: they are read twice, once for each byte.

    Raises:
        OSError, ValueError, ...: as Pillow does on a damaged image.
    """
    if image.mode.startswith("I") or image.mode == "F":
        levels: NDArray[np.generic] = np.asarray(image)
        return levels
    if not isinstance(image, ImageFile.ImageFile):
        return None
    modes = {_raw_mode(tile) for tile in image.tile}
    if modes == {_GREY_AND_ALPHA} and image.mode == "RGBA":
        image.tile = [_in_mode(tile, "RGBA") for tile in image.tile]  # four bytes a pixel, the first two of them grey
        pair = np.asarray(image).astype(np.uint16)
        return (pair[..., 0] << 8) | pair[..., 1]
    if not modes or not modes <= _COLOURS:
        return None
    other = Image.open(io.BytesIO(data), formats=list(formats))
    assert isinstance(other, ImageFile.ImageFile)
    other.tile = [_of_other_byte(tile) for tile in other.tile]
    high, low = (np.asarray(each)[..., :3].astype(np.uint16) for each in (image, other))
    return (high << 8) | low


def to_bytes(levels: NDArray[np.generic], whites: tuple[float, float]) -> Image.Image:
    """An 8-bit image of ``levels``; ``whites`` are those of integers and floats."""
    white = whites[_kind(levels) == "f"]
    if _kind(levels) == "u":
        shift = max(0, int(white).bit_length() - 8)
        return Image.fromarray((levels.astype(np.int64).clip(0, int(white)) >> shift).astype(np.uint8))
    scaled = levels.astype(np.float64) * (255 / white)
    return Image.fromarray(np.rint(scaled.clip(0, 255)).astype(np.uint8))


def _kind(levels: NDArray[np.generic]) -> str:
    return "f" if levels.dtype.kind == "f" else "u"


def _raw_mode(tile: ImageFile._Tile) -> str:
    """How the pixels stand in the file, in Pillow's words."""
    return str(tile.args if isinstance(tile.args, str) or not tile.args else tile.args[0])


def _in_mode(tile: ImageFile._Tile, mode: str) -> ImageFile._Tile:
    return tile._replace(args=(mode, *tile.args[1:]) if isinstance(tile.args, tuple) else mode)


def _of_other_byte(tile: ImageFile._Tile) -> ImageFile._Tile:
    mode = _raw_mode(tile)
    return _in_mode(tile, mode[:-1] + _OTHER_BYTE[mode[-1]])
