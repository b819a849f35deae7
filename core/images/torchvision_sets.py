"""torchvision's labelled data sets, for those who have them, as an archive of class folders like any other.

Nothing is downloaded. Pixels are kept exactly (PNG). Tiny-ImageNet and ImageNet need no conversion: they are folders of
class folders already.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from core.errors import UsageError

_EPOCH = (1980, 1, 1, 0, 0, 0)

SETS: Mapping[str, Callable[[bool], Mapping[str, Any]]] = MappingProxyType(
    {
        "CIFAR10": lambda train: {"train": train},
        "CIFAR100": lambda train: {"train": train},
        "STL10": lambda train: {"split": "train" if train else "test"},
        "SVHN": lambda train: {"split": "train" if train else "test"},
        "GTSRB": lambda train: {"split": "train" if train else "test"},
    }
)
"""torchvision's name -> (training half?) -> what its constructor calls that half."""


def export_set(name: str, root: Path, output: Path, *, train: bool) -> None:
    """Write one half of torchvision's set ``name``, found under ``root``, to the zip ``output``: CLASS/NUMBER.png.

    Raises:
        UsageError: no such set, or it is not under ``root``.
    """
    if name not in SETS:
        raise UsageError(
            "unknown_dataset",
            field="data.torchvision",
            found=f"'{name}'",
            expected=f"one of {', '.join(SETS)}",
            action="Use one of these, or give train and test archives.",
        )
    try:
        from torchvision import datasets  # seconds to import: see core.encoders.architectures

        found = getattr(datasets, name)(root, **SETS[name](train))
    except (RuntimeError, OSError) as error:
        raise UsageError(
            "no_such_dataset",
            field="data.torchvision",
            found=f"no {name} under {root}",
            expected=f"torchvision's {name} as it unpacks it",
            action="Download it with torchvision first; this program never does.",
        ) from error
    names = getattr(found, "classes", None)
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(output.name + ".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for index in range(len(found)):
            image, label = found[index]
            folder = f"{int(label):03d}" if names is None else str(names[int(label)]).replace("/", "-")
            data = io.BytesIO()
            image.convert("RGB").save(data, "PNG")
            archive.writestr(zipfile.ZipInfo(f"{folder}/{index:06d}.png", _EPOCH), data.getvalue())
    os.replace(part, output)
