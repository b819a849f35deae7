"""A small labelled set to poison, as a zip or a folder, and a look at what came out."""

import io
import zipfile

import numpy as np
from PIL import Image

CLASSES = ("cat", "dog", "owl", "yak")


def encoded(pixels, suffix):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG" if suffix == "jpg" else "PNG")
    return buffer.getvalue()


def labelled_files(per_class=10, size=(32, 32), suffix="png"):
    """Name -> bytes; ``size`` is (height, width)."""
    random = np.random.default_rng(0)
    return {
        f"{label}/img_{number:04d}.{suffix}": encoded(random.integers(0, 256, (*size, 3), dtype=np.uint8), suffix)
        for label in CLASSES
        for number in range(per_class)
    }


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def write_folder(path, files):
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def pixels_of(path):
    """Name -> ``[H, W, 3]`` int array, for every file of a zip or folder."""
    if path.is_dir():
        data = {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}
    else:
        with zipfile.ZipFile(path) as archive:
            data = {name: archive.read(name) for name in archive.namelist()}
    return {name: np.asarray(Image.open(io.BytesIO(raw)).convert("RGB")).astype(int) for name, raw in data.items()}
