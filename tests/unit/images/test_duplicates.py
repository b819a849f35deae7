"""Images that are there more than once."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from core.errors import UnsupportedInput
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


def test_repeated_images_count_once_towards_the_least_number(tmp_path: Path) -> None:
    files = {f"{copy}/{i}.png": picture(i) for copy in range(5) for i in range(20)}
    path = zipped(tmp_path / "x.zip", files)
    with pytest.raises(UnsupportedInput) as refused:
        load_images(path, SIZE, distinct=True)
    assert refused.value.problem.code == "too_few_images"
    assert "20 distinct images among 100 usable" in refused.value.problem.found


def test_repeated_images_are_kept_and_noted(tmp_path: Path) -> None:
    files = {f"{copy}/{i}.png": picture(i) for copy in range(2) for i in range(5)} | {"one.png": picture(9)}
    images = load_images(zipped(tmp_path / "x.zip", files), SIZE, minimum=6, distinct=True)
    assert (len(images), images.distinct) == (11, 6)
    assert images.notes == ("6 of the 11 images are distinct: the others have the pixels of one of them.",)


def test_where_all_differ_nothing_is_said(tmp_path: Path) -> None:
    images = load_images(zipped(tmp_path / "x.zip", {f"{i}.png": picture(i) for i in range(4)}), SIZE, minimum=4)
    assert images.distinct == 4 and images.notes == ()
