"""A suspect set in a file and an audit of it that takes seconds: for tests of everything around a cleansing."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from core.audit import AuditRequest
from core.types import ImageSet
from tests.unit.cleansing.planted_set import planted_set

SEARCH: Mapping[str, Any] = {
    "clusters": 8,
    "samples_per_cluster": 1,
    "masks": 4,
    "flip_images": 8,
    "first_flips": 0,
    "classifiers": 1,
    "classifier_width": 4,
    "classifier_steps": 12,
    "classifier_batch": 16,
    "remove_always": True,  # so that all stages run whatever a hardly trained encoder sees
}
THREAT: Mapping[str, Any] = {"epochs": 1, "least_steps": 0, "batch_size": 32, "projection_dim": 16}
COUNT = 120


def png(images: ImageSet, index: int) -> bytes:
    """Image ``index`` as a file."""
    buffer = io.BytesIO()
    Image.fromarray(images.pixels[index].permute(1, 2, 0).numpy()).save(buffer, "PNG")
    return buffer.getvalue()


def suspect_zip(path: Path, count: int = COUNT) -> Path:
    """``count`` images, in folders that look like classes, the first of them twice, and one file that is none."""
    images = planted_set(count).images
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(count):
            archive.writestr(f"class-{index % 6}/{index:04}.png", png(images, index))
        archive.writestr("class-0/again.png", png(images, 0))
        archive.writestr("class-0/broken.png", png(images, 1)[:60])
    return path


def request(images: Path, **parameters: Any) -> AuditRequest:
    """A cleansing without an encoder, on the processor."""
    settings = {"cleansing": dict(SEARCH), "threat_model": dict(THREAT), **parameters}
    return AuditRequest("cleanse", None, images, parameters=settings, seed=3, device="cpu")
