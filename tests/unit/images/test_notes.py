"""What is said of a set before the answer."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from core.errors import UnsupportedInput
from core.images.load import load_images
from core.images.notes import notes_on


def filled(path: Path, names: list[str]) -> Path:
    """A zip of different pictures with these names."""
    with zipfile.ZipFile(path, "w") as archive:
        for index, name in enumerate(names):
            picture = io.BytesIO()
            Image.new("RGB", (16, 16), (index, 2 * index, 100)).save(picture, "PNG")
            archive.writestr(name, picture.getvalue())
    return path


def test_what_could_not_be_used_is_counted_and_named(tmp_path: Path) -> None:
    names = ["a.png", "b.png", "odd\nname.png", "b\\ack.png", "c\nd.png", "e\nf.png"]
    images = load_images(filled(tmp_path / "set.zip", names), (16, 16), minimum=2)
    (sentence,) = notes_on(images)
    assert sentence.startswith("4 files could not be used (") and sentence.endswith("; and 1 more).")
    assert "its name has a backslash" in sentence and r" c\nd.png: " in sentence
    assert notes_on(load_images(filled(tmp_path / "good.zip", ["a.png", "b.png"]), (16, 16), minimum=2)) == ()


def test_archives_among_images_are_named_with_a_way_that_works(tmp_path: Path) -> None:
    folder = tmp_path / "sets"
    folder.mkdir()
    one = filled(folder / "one.zip", [f"{index}.png" for index in range(3)])
    filled(folder / "two.zip", ["x.png"])
    with pytest.raises(UnsupportedInput, match=r"one\.zip: a zip archive among the images.*give the archive by itself"):
        load_images(folder, (16, 16), minimum=2)
    assert len(load_images(one, (16, 16), minimum=2)) == 3
