from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from core.errors import UnsupportedInput, UsageError
from core.images.labelled import load_labelled
from core.images.load import load_images
from core.run import QuietRun, Stateful


def picture(seed: int = 0, size: tuple[int, int] = (32, 32), form: str = "PNG", mode: str = "RGB") -> bytes:
    """An image file of random pixels; ``size`` is (width, height)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return encoded(Image.fromarray(pixels).convert(mode), form)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def zipped(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def unpacked(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def refusal(path: Path, minimum: int = 1) -> tuple[str, str]:
    with pytest.raises(UnsupportedInput) as caught:
        load_images(path, (32, 32), minimum=minimum)
    assert caught.value.exit_code == 3
    assert caught.value.problem.sentence().isprintable()
    return caught.value.problem.code, caught.value.problem.found


def test_reading_is_a_stage_with_steps(tmp_path: Path) -> None:
    class Heard(QuietRun):
        stages: ClassVar[list[tuple[str, int]]] = []

        def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
            self.stages.append((name, total))
            return super().steps(name, total, state=state)

    files = {f"{i:03}.png": picture(i) for i in range(70)}
    images = load_images(zipped(tmp_path / "x.zip", files), (32, 32), run=Heard())
    assert images.names == tuple(files)
    assert Heard.stages == [("reading the images", 3)]


def test_pixels_names_and_order(tmp_path: Path) -> None:
    files = {"b/2.png": picture(2), "a/1.png": picture(1), "top.png": picture(3), "a/deep/er/0.png": picture(0)}
    images = load_images(zipped(tmp_path / "x.zip", files), (32, 32), minimum=4)
    assert images.names == ("a/1.png", "a/deep/er/0.png", "b/2.png", "top.png")
    assert images.pixels.dtype == torch.uint8
    assert images.pixels.shape == (4, 3, 32, 32)
    expected = np.asarray(Image.open(io.BytesIO(files["a/1.png"]))).transpose(2, 0, 1)
    assert np.array_equal(images.pixels[0].numpy(), expected)
    assert images.rejected == ()


def test_a_folder_and_a_zip_of_it_are_the_same_set(tmp_path: Path) -> None:
    files = {f"class{i % 2}/{i}.jpg": picture(i, form="JPEG") for i in range(6)}
    folder = load_images(unpacked(tmp_path / "folder", files), (32, 32), minimum=6)
    archive = load_images(
        zipped(tmp_path / "x.zip", dict(reversed(files.items())), zipfile.ZIP_DEFLATED), (32, 32), minimum=6
    )
    assert folder.names == archive.names
    assert folder.digest == archive.digest
    assert torch.equal(folder.pixels, archive.pixels)


def test_the_digest_follows_the_pixels(tmp_path: Path) -> None:
    digests = {
        load_images(zipped(tmp_path / f"{seed}.zip", {"a.png": picture(seed)}), (32, 32), minimum=1).digest
        for seed in range(3)
    }
    assert len(digests) == 3


def test_resizing_keeps_the_shape_and_crops_the_centre(tmp_path: Path) -> None:
    wide = np.zeros((40, 120, 3), dtype=np.uint8)
    wide[:, 40:80] = (200, 100, 50)  # the middle third, exactly the central square
    path = zipped(tmp_path / "x.zip", {"wide.png": encoded(Image.fromarray(wide))})
    pixels = load_images(path, (20, 20), minimum=1).pixels[0]
    assert pixels.shape == (3, 20, 20)
    assert pixels[:, 10, 10].tolist() == [200, 100, 50]
    assert pixels[:, 10, 2].tolist() == [200, 100, 50]


def test_height_comes_before_width(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a.png": picture(size=(64, 48))})
    assert load_images(path, (24, 40), minimum=1).pixels.shape == (1, 3, 24, 40)


def test_the_cameras_orientation_is_applied(tmp_path: Path) -> None:
    half = np.zeros((16, 16, 3), dtype=np.uint8)
    half[:8] = 255  # white above
    exif = Image.Exif()
    exif[0x0112] = 3  # taken upside down
    path = zipped(tmp_path / "x.zip", {"a.jpg": encoded(Image.fromarray(half), "JPEG", quality=95, exif=exif)})
    pixels = load_images(path, (16, 16), minimum=1).pixels[0].float()
    assert pixels[:, :6].mean() < 5
    assert pixels[:, 10:].mean() > 250


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_other_colour_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    form = "JPEG" if mode == "CMYK" else "PNG"
    path = zipped(tmp_path / "x.zip", {"a": picture(mode=mode, form=form)})
    assert load_images(path, (32, 32), minimum=1).pixels.shape == (1, 3, 32, 32)


def test_sixteen_bit_grey_keeps_its_levels(tmp_path: Path) -> None:
    levels = np.full((16, 16), 128 * 256, dtype=np.uint16)
    path = zipped(tmp_path / "x.zip", {"a.png": encoded(Image.fromarray(levels))})
    assert load_images(path, (16, 16), minimum=1).pixels.flatten().tolist() == [128] * 768


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM"])
def test_formats_are_known_by_their_bytes(tmp_path: Path, form: str) -> None:
    path = zipped(tmp_path / "x.zip", {"name.without.truth": picture(form=form)})
    assert len(load_images(path, (32, 32), minimum=1)) == 1


def test_what_cannot_be_used_is_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    files = {f"{i}.png": picture(i) for i in range(5)} | {
        "cut.jpg": picture(form="JPEG", size=(64, 64))[:300],
        "tiny.png": picture(size=(2, 2)),
        "notes.txt": b"hello",
        "vector.svg": b"<svg/>",
        ".DS_Store": b"x",
        "__MACOSX/._0.png": b"x",
        "sub/Thumbs.db": b"x",
    }
    images = load_images(zipped(tmp_path / "x.zip", files), (32, 32), minimum=5)
    assert len(images) == 5
    reasons = {r.name: r.reason for r in images.rejected}
    assert set(reasons) == {"cut.jpg", "tiny.png", "notes.txt", "vector.svg"}
    assert reasons["cut.jpg"] == "damaged or cut off"
    assert reasons["tiny.png"].startswith("2x2 pixels")
    assert reasons["notes.txt"] == "not an image"


def test_ten_images_are_too_few(tmp_path: Path) -> None:
    files = {f"{i}.png": picture(i) for i in range(10)} | {"tiny.png": picture(size=(2, 2))}
    code, found = refusal(zipped(tmp_path / "x.zip", files), minimum=50)
    assert code == "too_few_images"
    assert "10 usable images" in found
    assert "tiny.png: 2x2 pixels" in found


def test_a_zip_of_text_files(tmp_path: Path) -> None:
    code, found = refusal(zipped(tmp_path / "x.zip", {f"{i}.txt": b"text" for i in range(100)}), minimum=50)
    assert code == "no_images"
    assert "100 files rejected" in found


@pytest.mark.parametrize("empty", ["zip", "folder"])
def test_nothing_at_all(tmp_path: Path, empty: str) -> None:
    path = zipped(tmp_path / "x.zip", {}) if empty == "zip" else tmp_path
    assert refusal(path)[0] == "no_images"


def test_an_absent_path_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        load_images(tmp_path / "nothing.zip", (32, 32))


def test_an_image_of_too_many_pixels_is_refused_unread(tmp_path: Path) -> None:
    header = b"P6 100000 100000 255\n"
    files = {"ok.png": picture(), "huge.ppm": header + b"\0" * 100, "large.ppm": b"P6 9000 9000 255\n" + b"\0" * 100}
    images = load_images(zipped(tmp_path / "x.zip", files), (32, 32), minimum=1)
    assert all("megapixels" in r.reason for r in images.rejected)
    assert len(images.rejected) == 2


def test_equal_and_constant_images_stay(tmp_path: Path) -> None:
    grey = encoded(Image.new("RGB", (32, 32), (9, 9, 9)))
    path = zipped(tmp_path / "x.zip", {f"{i}.png": grey for i in range(4)})
    assert load_images(path, (32, 32), minimum=4).pixels.flatten().tolist() == [9] * 4 * 3072


def class_files() -> dict[str, bytes]:
    return {f"{name}/{i}.png": picture(i) for name in ("dog", "cat", "ant") for i in range(4)}


@pytest.mark.parametrize("root", ["", "outer/", "outer/inner/"])
def test_labels_are_the_class_folders(tmp_path: Path, root: str) -> None:
    path = zipped(tmp_path / "x.zip", {root + name: data for name, data in class_files().items()})
    labelled = load_labelled(path, (32, 32), minimum=12)
    assert labelled.classes == ("ant", "cat", "dog")
    assert labelled.labels.dtype == torch.int64
    assert [labelled.classes[i] for i in labelled.labels] == [
        name.removeprefix(root).split("/")[0] for name in labelled.images.names
    ]


def test_labels_stay_with_their_images_when_some_are_damaged(tmp_path: Path) -> None:
    files = class_files() | {"ant/2.png": b"broken", "README.txt": b"outside every class"}
    labelled = load_labelled(zipped(tmp_path / "x.zip", files), (32, 32), minimum=11)
    assert labelled.labels.tolist() == [0] * 3 + [1] * 4 + [2] * 4
    assert len(labelled.labels) == len(labelled.images)


def test_a_limit_takes_the_first_of_each_class(tmp_path: Path) -> None:
    labelled = load_labelled(zipped(tmp_path / "x.zip", class_files()), (32, 32), minimum=1, limit_per_class=2)
    assert labelled.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert labelled.images.names[:2] == ("ant/0.png", "ant/1.png")


def test_flat_images_have_no_labels(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {f"{i}.png": picture(i) for i in range(4)})
    with pytest.raises(UnsupportedInput) as caught:
        load_labelled(path, (32, 32), minimum=1)
    assert caught.value.problem.code == "no_classes"
