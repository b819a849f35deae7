"""Images that are there more than once."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from PIL import Image

from core.images.duplicates import duplicate_groups
from core.images.load import load_images
from tests.unit.images.pictures import SIZE, picture, pixels, zipped


def recoded(seed: int, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels(seed)).save(buffer, form, **options)
    return buffer.getvalue()


def test_equal_pixels_are_grouped_whatever_the_file(tmp_path: Path) -> None:
    files = {
        "a.png": picture(1),
        "b.png": picture(2),
        "c.bmp": recoded(1, "BMP"),
        "d.png": picture(3),
        "e/copy.png": picture(2),
        "f.png": recoded(1, "PNG", compress_level=0),
        "g.jpg": recoded(3, "JPEG"),
    }
    images = load_images(zipped(tmp_path / "x.zip", files), SIZE, minimum=7)
    assert duplicate_groups(images) == (("a.png", "c.bmp", "f.png"), ("b.png", "e/copy.png"))


def test_images_are_compared_at_the_size_they_were_read(tmp_path: Path) -> None:
    files = {}
    for name, size in (("small.png", 16), ("large.png", 64)):
        buffer = io.BytesIO()
        Image.new("RGB", (size, size), (9, 99, 199)).save(buffer, "PNG")
        files[name] = buffer.getvalue()
    images = load_images(zipped(tmp_path / "x.zip", files), SIZE, minimum=2)
    assert duplicate_groups(images) == (("large.png", "small.png"),)


def test_one_changed_pixel_is_no_duplicate(tmp_path: Path) -> None:
    changed = pixels(1)
    changed[0, 0, 0] ^= 1
    buffer = io.BytesIO()
    Image.fromarray(changed).save(buffer, "PNG")
    images = load_images(zipped(tmp_path / "x.zip", {"a.png": picture(1), "b.png": buffer.getvalue()}), SIZE, minimum=2)
    assert duplicate_groups(images) == ()


def test_of_a_subset_only_its_own_images_count(tmp_path: Path) -> None:
    files = {name: picture(1) for name in ("a.png", "b.png", "c.png")}
    images = load_images(zipped(tmp_path / "x.zip", files), SIZE, minimum=3)
    assert duplicate_groups(images.subset(torch.tensor([2, 0]))) == (("c.png", "a.png"),)
