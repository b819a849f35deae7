"""One image file to pixels, with the decoders and sizes bounded."""

from __future__ import annotations

import importlib
import io
import struct
import warnings
from functools import cache
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from core.images.depth import Depth, deep_levels, to_bytes
from core.images.strangers import RAW, named_archive, named_stranger

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF", "JPEG2000", "AVIF")
"""Read everywhere; HEIC, too, where the extra ``heif`` is installed."""
_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".tif", ".tiff", ".jp2", ".j2k", ".jpx", ".avif", ".heic", ".heif"),
)
NOT_AN_IMAGE = "not an image"
MIN_SIDE = 8
MAX_PIXELS = 50_000_000
_ON_THEIR_SIDE = (5, 6, 7, 8)
"""The camera orientations that exchange height and width."""
_SUBFILE_TYPE, _PREVIEW = 254, 1
_FAULTS = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error)
"""What Pillow raises on a damaged image."""


class NotAnImage(Exception):
    """The bytes are of none of :data:`FORMATS`; the message is what they are in a few words."""


class UnusableImage(Exception):
    """An image that is damaged, too small or too large; the message is the reason in a few words."""


def has_image_suffix(name: str) -> bool:
    """Whether a file calls itself an image; whether it is one, only its bytes say."""
    return name.lower().endswith(_SUFFIXES)


def decode(data: bytes, image_size: tuple[int, int], depth: Depth | None = None) -> NDArray[np.uint8]:
    """RGB pixels ``[3, H, W]`` of an image file at ``image_size`` (height, width).

    The camera's orientation is applied, then the image is scaled (bicubic) until it covers ``image_size`` and cropped
    in the centre: its shape is kept and its border may be lost. Of an animation the first frame counts; transparency
    is dropped. ``depth`` is what is known of the set's deep images (more than eight bits a channel); it sees this one,
    and says which of its levels is white.

    Raises:
        NotAnImage: an unknown format.
        UnusableImage: damaged, smaller than 8x8 or larger than 50 megapixels.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=_formats())
        width, height = image.size
        if min(width, height) < MIN_SIDE:
            raise UnusableImage(f"{width}x{height} pixels; at least {MIN_SIDE}x{MIN_SIDE} are needed")
        if width * height > MAX_PIXELS:
            raise UnusableImage(f"{width}x{height} pixels; at most {MAX_PIXELS // 10**6} megapixels are read")
        if _is_preview(image):
            raise UnusableImage(RAW)
        image = _upright_rgb(image, data, depth or Depth())
    except UnidentifiedImageError as failure:
        raise NotAnImage(named_stranger(data) or named_archive(data) or _unread_tiff(data) or NOT_AN_IMAGE) from failure
    except Image.DecompressionBombError as failure:
        raise UnusableImage(f"more than {MAX_PIXELS // 10**6} megapixels") from failure
    except _FAULTS as failure:
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
            with Image.open(io.BytesIO(data), formats=_formats()) as image:
                width, height = image.size
                # Of a TIFF Pillow gives the size as it stands upright.
                turned = image.format != "TIFF" and _orientation(image) in _ON_THEIR_SIDE
        except (*_FAULTS, Image.DecompressionBombError):
            return None
    return (width, height) if turned else (height, width)


def _upright_rgb(image: Image.Image, data: bytes, depth: Depth) -> Image.Image:
    levels = deep_levels(image, data, _formats())  # first: to ask for the orientation may load the pixels
    orientation = _orientation(image)
    if levels is not None:
        if not np.isfinite(levels).all():
            raise UnusableImage("values that are NaN or infinite")
        if levels.min() < 0:
            raise UnusableImage("values below zero; pixels in [0, 1], or from 0 up, are read")
        depth.see(levels)
        deep, image = image, to_bytes(levels, depth.whites())
        if orientation != 1 and deep.format != "TIFF":
            image.getexif()[ExifTags.Base.Orientation] = orientation
    if image.mode == "LAB":
        raise UnusableImage("colours in L*a*b*; convert it to RGB: magick FILE -colorspace sRGB FILE.png")
    if orientation != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "RGB":
        image.load()
        return image
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    found = image.getexif().get(ExifTags.Base.Orientation, 1)
    return found if found in range(1, 9) else 1


def _is_preview(image: Image.Image) -> bool:
    """Whether what Pillow opens in a TIFF is the small preview of something else, a camera's raw picture."""
    tags = getattr(image, "tag_v2", {})
    return image.format == "TIFF" and bool(int(tags.get(_SUBFILE_TYPE, 0)) & _PREVIEW)


def _unread_tiff(data: bytes) -> str | None:
    if data[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return None
    return "a TIFF of an unusual form; convert it to 8-bit RGB: magick FILE FILE.png"


@cache
def _formats() -> tuple[str, ...]:
    if find_spec("pillow_heif") is None:
        return FORMATS
    importlib.import_module("pillow_heif").register_heif_opener()
    return (*FORMATS, "HEIF")
