"""Small image files, and the archives that tests put them into."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = (16, 16)


def pixels(seed: int = 0, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """Random pixels ``[H, W, 3]``."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> bytes:
    """A PNG of ``pixels(seed, size)``."""
    buffer = io.BytesIO()
    Image.fromarray(pixels(seed, size)).save(buffer, "PNG")
    return buffer.getvalue()


def npy(array: NDArray[np.generic]) -> bytes:
    """An npy file of ``array``."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def idx(array: NDArray[np.uint8]) -> bytes:
    """An idx file of bytes, as MNIST's are."""
    return bytes((0, 0, 8, array.ndim)) + b"".join(side.to_bytes(4, "big") for side in array.shape) + array.tobytes()


def class_files() -> dict[str, bytes]:
    """Four images in each of three class folders."""
    return {f"{name}/{i}.png": picture(i) for name in ("dog", "cat", "ant") for i in range(4)}


def zipped(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: Mapping[str, bytes], mode: str = "w", form: int = tarfile.PAX_FORMAT) -> Path:
    """A tar; ``mode`` says how it is compressed (``w:gz``)."""
    with tarfile.open(path, mode, format=form) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            archive.addfile(entry(name, len(content)), io.BytesIO(content))
    return path


def entry(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    """The header of one member."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def raw_tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    """A tar of just these headers and bodies, whatever they say."""
    with path.open("wb") as file:
        for info, body in members:
            file.write(info.tobuf(tarfile.GNU_FORMAT) + body + bytes(-len(body) % 512))
        file.write(bytes(1024))
    return path
