"""One image file to pixels, with the decoders and sizes bounded."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM")
_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm")
MIN_SIDE = 8
MAX_PIXELS = 50_000_000
_ON_THEIR_SIDE = (5, 6, 7, 8)
"""The camera orientations that exchange height and width."""


class NotAnImage(Exception):
    """The bytes are of none of :data:`FORMATS`."""


class UnusableImage(Exception):
    """An image that is damaged, too small or too large; the message is the reason in a few words."""


def has_image_suffix(name: str) -> bool:
    """Whether a file calls itself an image; whether it is one, only its bytes say."""
    return name.lower().endswith(_SUFFIXES)


def decode(data: bytes, image_size: tuple[int, int]) -> NDArray[np.uint8]:
    """RGB pixels ``[3, H, W]`` of an image file at ``image_size`` (height, width).

    The camera's orientation is applied, then the image is scaled (bicubic) until it covers ``image_size`` and cropped
    in the centre: its shape is kept and its border may be lost. Of an animation the first frame counts; transparency
    is dropped.

    Raises:
        NotAnImage: an unknown format.
        UnusableImage: damaged, smaller than 8x8 or larger than 50 megapixels.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if min(width, height) < MIN_SIDE:
            raise UnusableImage(f"{width}x{height} pixels; at least {MIN_SIDE}x{MIN_SIDE} are needed")
        if width * height > MAX_PIXELS:
            raise UnusableImage(f"{width}x{height} pixels; at most {MAX_PIXELS // 10**6} megapixels are read")
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
        image = _rgb(image)
    except UnidentifiedImageError as failure:
        raise NotAnImage("not an image") from failure
    except Image.DecompressionBombError as failure:
        raise UnusableImage(f"more than {MAX_PIXELS // 10**6} megapixels") from failure
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error) as failure:
        raise UnusableImage("damaged or cut off") from failure
    target = (image_size[1], image_size[0])
    if image.size != target:
        image = ImageOps.fit(image, target, method=Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.uint8).transpose(2, 0, 1)


def upright_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) in pixels of an image file, by its header and the camera's orientation; None where it has none
    that can be read: ``decode`` meets the same fault and names it."""
    with warnings.catch_warnings():
        # Pillow warns of large or odd images; what is refused is decided where they are decoded.
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                turned = image.getexif().get(ExifTags.Base.Orientation, 1) in _ON_THEIR_SIDE
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError):
            return None
    return (width, height) if turned else (height, width)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        image.load()
        return image
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion would clip all but the darkest values
        levels = np.asarray(image).astype(np.int64)
        image = Image.fromarray((levels.clip(0, 65535) >> 8).astype(np.uint8))
    return image.convert("RGB")
