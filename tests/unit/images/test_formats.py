"""Formats beside JPEG and PNG: those that are read, and those that are refused with a conversion."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.errors import UnsupportedInput
from core.images import decode as decoding
from core.images.decode import NotAnImage, UnusableImage, decode, upright_size
from core.images.load import load_images
from tests.unit.images.pictures import picture, pixels, zipped


def saved(form: str, size: tuple[int, int] = (24, 16), **options: object) -> bytes:
    """A smooth picture, which compression leaves nearly as it is; ``size`` is (width, height)."""
    decoding._formats()  # registers HEIF
    width, height = size
    ramp = np.linspace(0, 255, width)[None, :, None] * np.ones((height, 1, 3)) * (1, 0.5, 0.25)
    buffer = io.BytesIO()
    Image.fromarray(ramp.astype(np.uint8)).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF", "JPEG2000", "AVIF", "HEIF"])
def test_one_picture_in_every_format_is_the_same(form: str) -> None:
    read = decode(saved(form), (16, 24)).astype(int)
    assert np.abs(read - decode(saved("PNG"), (16, 24))).mean() < 4


def test_a_mix_of_formats_is_one_set(tmp_path: Path) -> None:
    files = {f"{form}.x": saved(form) for form in ("JPEG", "TIFF", "AVIF", "JPEG2000", "HEIF", "GIF")}
    images = load_images(zipped(tmp_path / "x.zip", files), (16, 16), minimum=6)
    assert len(images) == 6 and images.rejected == ()


@pytest.mark.parametrize("form", ["TIFF", "AVIF", "JPEG", "WEBP"])
def test_the_cameras_orientation_in_every_format(form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter to the right
    data = saved(form, exif=exif)
    assert upright_size(data) == (24, 16)
    assert np.abs(decode(data, (24, 16)).astype(int) - np.rot90(decode(saved("PNG"), (16, 24)), -1, (1, 2))).mean() < 4


STRANGERS = {
    "JPEG XL": (b"\xff\x0a" + bytes(40), "djxl"),
    "Photoshop": (b"8BPS\0\1" + bytes(40), "PIL"),
    "SVG": (b'<?xml version="1.0"?>\n<svg xmlns="x"/>', "rsvg-convert"),
    "a film": (b"\0\0\0\x20ftypisom" + bytes(40), "ffmpeg"),
    "DICOM": (bytes(128) + b"DICM" + bytes(40), "dcm2img"),
    "a TIFF of an unusual form": (b"II*\0" + b"\xff" * 40, "magick"),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("what", STRANGERS)
def test_what_is_not_read_is_named_with_a_conversion(what: str) -> None:
    data, program = STRANGERS[what]
    with pytest.raises(NotAnImage) as refused:
        decode(data, (16, 16))
    assert what in str(refused.value) and program in str(refused.value)


def test_without_its_plugin_heic_is_named_with_two_remedies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {f"{i}.heic": saved("HEIF") for i in range(3)}
    monkeypatch.setattr(decoding, "_formats", lambda: decoding.FORMATS)
    with pytest.raises(UnsupportedInput) as refused:
        load_images(zipped(tmp_path / "x.zip", files), (16, 16), minimum=1)
    assert "encoder-audit[heif]" in refused.value.problem.found and "heif-convert" in refused.value.problem.found


@pytest.mark.parametrize("form", ["ICO", "PCX", "SGI", "DDS", "QOI"])
def test_the_conversion_by_pillow_works(form: str, tmp_path: Path) -> None:
    data = saved(form, size=(16, 16))
    with pytest.raises(NotAnImage) as refused:
        decode(data, (16, 16))
    line = str(refused.value).split('python -c "')[1].rstrip('"').replace("FILE", str(tmp_path / "x"))
    (tmp_path / "x").write_bytes(data)
    exec(line, {})  # what the refusal says
    assert decode((tmp_path / "x.png").read_bytes(), (16, 16)).shape == (3, 16, 16)


def test_the_preview_in_a_cameras_raw_file_is_not_taken_for_the_picture() -> None:
    with pytest.raises(UnusableImage, match="raw file"):
        decode(saved("TIFF", tiffinfo={254: 1}), (16, 16))


def test_colours_in_lab_are_named() -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels()).convert("L").convert("RGB").save(buffer, "PNG")
    lab = Image.merge("LAB", Image.fromarray(pixels()).split())
    lab.save(buffer := io.BytesIO(), "TIFF")
    with pytest.raises(UnusableImage, match="RGB"):
        decode(buffer.getvalue(), (16, 16))


def test_a_cut_off_tiff_is_damaged_and_no_stranger() -> None:
    data = saved("TIFF", size=(64, 64))
    with pytest.raises(UnusableImage):
        decode(data[: len(data) // 2], (16, 16))


def test_pictures_still_read_as_before() -> None:
    assert np.array_equal(decode(picture(3), (16, 16)), pixels(3).transpose(2, 0, 1))
