"""Real images without a download: patches of the photographs that ship inside scikit-image and scikit-learn.

    python -m samples.photographs FOLDER [--side 64] [--prefix photographs-64-]

writes into FOLDER ``train.zip`` and ``test.zip`` (class folders; the class is the picture) and ``clean-images.zip``
(flat, no classes: what an auditor would have). Patches are squares of 40 to 80 pixels, resized to 32x32 (``--side``),
at places drawn from a fixed seed. The three sets never share a pixel: the right 30 % of each picture are for testing,
of the rest the upper 70 % for training and the lower 30 % for the auditor. The same versions of Pillow and NumPy write
the same bytes.

Licences: scikit-image's ``data/README.txt`` and scikit-learn's ``datasets/images/README.txt`` (public domain, CC0, CC
BY).
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import zipfile
from pathlib import Path

import torch
from PIL import Image

from core.random import generator

PICTURES = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "brick": ("skimage", "data/brick.png"),
    "cat": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "galaxies": ("skimage", "data/hubble_deep_field.jpg"),
    "grass": ("skimage", "data/grass.png"),
    "gravel": ("skimage", "data/gravel.png"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "retina": ("skimage", "data/retina.jpg"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "temple": ("sklearn", "datasets/images/china.jpg"),
    "tissue": ("skimage", "data/ihc.png"),
}
"""Class name -> (package, file inside it). All are in the wheels; nothing is fetched."""

IMAGE_SIZE = 32
TRAIN_PER_CLASS, TEST_PER_CLASS, CLEAN_PER_CLASS = 300, 100, 40
_SMALLEST, _LARGEST = 40, 80
_SPLIT_COLUMN, _SPLIT_ROW = 0.7, 0.7
_SEED = 0
_EPOCH = (1980, 1, 1, 0, 0, 0)


def build_archives(folder: Path, side: int = IMAGE_SIZE, prefix: str = "") -> tuple[Path, Path, Path]:
    """Write ``train.zip``, ``test.zip`` and ``clean-images.zip`` into ``folder`` and return their paths.

    ``side`` is the patches' in pixels, ``prefix`` stands before the files' names.

    Raises:
        FileNotFoundError: a picture is not in the installed wheels; the message names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {name: _open_picture(*where) for name, where in PICTURES.items()}
    train, test, clean = (folder / f"{prefix}{name}.zip" for name in ("train", "test", "clean-images"))
    _write(train, {f"{n}/{i:03d}.png": png for n, p in pictures.items() for i, png in _patches(n, p, "train", side)})
    _write(test, {f"{n}/{i:03d}.png": png for n, p in pictures.items() for i, png in _patches(n, p, "test", side)})
    flat = [png for name, picture in pictures.items() for _, png in _patches(name, picture, "clean", side)]
    shuffled = torch.randperm(len(flat), generator=generator(_SEED, "clean order")).tolist()
    _write(clean, {f"{position:04d}.png": flat[index] for position, index in enumerate(shuffled)})
    return train, test, clean


def _open_picture(package: str, file: str) -> Image.Image:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the package {package} is not installed; it carries {file}")
    path = Path(next(iter(spec.submodule_search_locations))) / file
    if not path.is_file():
        raise FileNotFoundError(f"{file} is not in the installed {package}; install the wheel from PyPI")
    return Image.open(path).convert("RGB")


def _region(picture: Image.Image, part: str) -> tuple[int, int, int, int]:
    """The pixels (left, top, right, bottom) of ``picture`` that belong to a part: train, test or clean."""
    column, row = int(_SPLIT_COLUMN * picture.width), int(_SPLIT_ROW * picture.height)
    return {
        "train": (0, 0, column, row),
        "clean": (0, row, column, picture.height),
        "test": (column, 0, picture.width, picture.height),
    }[part]


def _patches(name: str, picture: Image.Image, part: str, side: int) -> list[tuple[int, bytes]]:
    """The numbered patches of one part of one picture, as PNG."""
    count = {"train": TRAIN_PER_CLASS, "test": TEST_PER_CLASS, "clean": CLEAN_PER_CLASS}[part]
    left, top, right, bottom = _region(picture, part)
    random = torch.rand(count, 3, generator=generator(_SEED, "patch", name, part), dtype=torch.float64)
    patches = []
    for index, (size, x, y) in enumerate(random.tolist()):
        cut = _SMALLEST + int(size * (_LARGEST - _SMALLEST + 1))
        corner = (left + int(x * (right - left - cut + 1)), top + int(y * (bottom - top - cut + 1)))
        box = (corner[0], corner[1], corner[0] + cut, corner[1] + cut)
        patch = picture.crop(box).resize((side, side), Image.Resampling.BILINEAR)
        data = io.BytesIO()
        patch.save(data, format="PNG")
        patches.append((index, data.getvalue()))
    return patches


def _write(path: Path, members: dict[str, bytes]) -> None:
    """A zip without compression (PNG is compressed) and with a fixed date: the same members give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(members.items()):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m samples.photographs")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=IMAGE_SIZE, help="pixels")
    parser.add_argument("--prefix", default="", help="of the files' names")
    options = parser.parse_args()
    for written in build_archives(options.folder, options.side, options.prefix):
        print(f"{written}  {written.stat().st_size / 1e6:.1f} MB")
