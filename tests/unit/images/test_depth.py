"""Images of more than eight bits: what is white is decided for a set, by the brightest level in it."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from core.attacks.source_set import open_source
from core.images.decode import UnusableImage, decode
from core.images.load import load_images
from core.run import QuietRun
from tests.unit.images.pictures import picture, zipped

SIZE = (16, 16)


def png(levels: NDArray[np.uint16]) -> bytes:
    """A PNG of 16 bits of ``levels`` [H, W, C]: grey, grey and alpha, RGB or RGBA. Pillow writes grey ones only."""
    height, width, channels = levels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def levels(bits: int, channels: int, seed: int = 0) -> NDArray[np.uint16]:
    found = np.random.default_rng(seed).integers(0, 2**bits, (*SIZE, channels), dtype=np.uint16)
    found[0, 0] = 2**bits - 1
    return found


def tiff(values: NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF")
    return buffer.getvalue()


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_levels_are_read_by_the_bits_that_the_set_holds(bits: int, channels: int, tmp_path: Path) -> None:
    files = {f"{seed}.png": png(levels(bits, channels, seed)) for seed in range(3)}
    images = load_images(zipped(tmp_path / "x.zip", files), SIZE, minimum=3)
    colours = levels(bits, channels, 1)[..., : 1 if channels < 3 else 3]
    expected = np.broadcast_to(colours >> (bits - 8), (*SIZE, 3)).transpose(2, 0, 1)
    assert np.array_equal(images.pixels[1].numpy(), expected)
    assert [f"as of {bits}," in note for note in images.notes] == ([] if bits == 16 else [True])


def test_the_choice_is_one_for_the_whole_set(tmp_path: Path) -> None:
    dark, bright = np.full((*SIZE, 3), 100, np.uint16), np.full((*SIZE, 3), 4095, np.uint16)
    files = {"a.png": png(dark), "b.png": png(bright), "c.png": picture(2)}
    images = load_images(zipped(tmp_path / "x.zip", files), SIZE, minimum=3)
    assert images.pixels[0].unique().tolist() == [100 >> 4]
    assert images.pixels[1].unique().tolist() == [255]
    assert np.array_equal(images.pixels[2].numpy(), decode(picture(2), SIZE))
    assert images.notes == (
        "Levels of 16 bits were read as of 12, 4095 being white: the brightest level in the set is 4095.",
    )


def test_grey_tiffs_of_16_bits_and_of_floats(tmp_path: Path) -> None:
    files = {
        "a.tif": tiff(np.full(SIZE, 2048, np.uint16)),
        "b.tif": tiff(np.full(SIZE, 4000, np.uint16)),
        "c.tif": tiff(np.full(SIZE, 0.5, np.float32)),
        "d.tif": tiff(np.full(SIZE, 1.0, np.float32)),
    }
    images = load_images(zipped(tmp_path / "x.zip", files), SIZE, minimum=4)
    assert [image.unique().tolist() for image in images.pixels] == [[128], [250], [128], [255]]
    assert images.notes[1] == "Floats were read with 1 as white."


def test_floats_up_to_255(tmp_path: Path) -> None:
    files = {f"{value}.tif": tiff(np.full(SIZE, value, np.float32)) for value in (0.5, 200.0)}
    images = load_images(zipped(tmp_path / "x.zip", files), SIZE, minimum=2)
    assert [int(image.max()) for image in images.pixels] == [0, 200]


@pytest.mark.parametrize("value", [-0.5, np.nan, np.inf])
def test_floats_that_are_no_pixels_are_named(value: float) -> None:
    with pytest.raises(UnusableImage, match="values"):
        decode(tiff(np.full(SIZE, value, np.float32)), SIZE)


def test_an_attack_reads_the_same_pixels(tmp_path: Path) -> None:
    files = {f"{name}/{seed}.png": png(levels(12, 3, seed)) for name in ("cat", "dog") for seed in range(10)}
    path = zipped(tmp_path / "x.zip", files)
    images = load_images(path, SIZE, minimum=20)
    with open_source(path, QuietRun()) as source:
        assert all(np.array_equal(source.read(name), images.pixels[i].numpy()) for i, name in enumerate(images.names))
