"""Which architectures have which names and shapes: a table made once, so that inference builds only what may fit.

``shape_index.json`` holds two fingerprints of each architecture that torchvision and timm offer: of all names and
shapes, and of the same with the first convolution's kernel and the position embeddings left open (what a small-image
variant changes). ``python -m core.encoders.shape_index`` writes it anew; an architecture younger than the table is
merely not inferred, and what the table proposes is always checked against the network itself.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path

from core.encoders.architectures import build_backbone, default_preprocessing, known_architectures, shapes_of
from core.encoders.card import EncoderCard
from core.encoders.placement import Shape, is_head
from core.errors import UnsupportedInput

_FILE = "shape_index.json"


def fingerprints(shapes: Mapping[str, Shape]) -> tuple[str, str]:
    """(exact, loose) fingerprints of names and shapes; heads and batch counters do not count."""
    exact, loose = hashlib.sha256(), hashlib.sha256()
    for name in sorted(shapes):
        if is_head(name) or name.endswith("num_batches_tracked"):
            continue
        exact.update(f"{name}{list(shapes[name])};".encode())
        loose.update(f"{name}{_loose(name, shapes[name])};".encode())
    return exact.hexdigest()[:16], loose.hexdigest()[:16]


@cache
def architectures_by_fingerprint() -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, tuple[str, ...]]]:
    """Two tables, exact and loose: the architectures of each fingerprint, torchvision's first."""
    index = json.loads(resources.files(__package__).joinpath(_FILE).read_text())
    exact: dict[str, tuple[str, ...]] = {}
    loose: dict[str, tuple[str, ...]] = {}
    for architecture, (first, second) in index.items():
        exact[first] = (*exact.get(first, ()), architecture)
        loose[second] = (*loose.get(second, ()), architecture)
    return exact, loose


def default_card(architecture: str) -> EncoderCard:
    """The card of ``architecture`` as its library ships it."""
    size, mean, std = default_preprocessing(architecture)
    side = size[0] if size[0] == size[1] else size
    return EncoderCard(architecture=architecture, input_size=side, mean=mean, std=std)


def fingerprints_of(architecture: str) -> tuple[str, str]:
    """Fingerprints of ``architecture`` at its default input size; nothing is allocated."""
    return fingerprints(shapes_of(build_backbone(default_card(architecture), device="meta")))


def write_index(path: Path) -> None:
    """Build every known architecture on the meta device and write the table to ``path``; takes some minutes."""
    index: dict[str, tuple[str, str]] = {}
    for architecture in known_architectures():
        try:
            index[architecture] = fingerprints_of(architecture)
        except (UnsupportedInput, ValueError, NotImplementedError) as failure:
            sys.stderr.write(f"left out {architecture}: {str(failure)[:160]}\n")
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(prints)}" for name, prints in index.items())
    path.write_text("{\n" + rows + "\n}\n")


def _loose(name: str, shape: Shape) -> str:
    if len(shape) == 4 and shape[1] == 3:
        return f"[{shape[0]}, 3, *]"
    return "*" if name.rpartition(".")[2] in ("pos_embed", "pos_embedding") else str(list(shape))


if __name__ == "__main__":
    write_index(Path(__file__).with_name(_FILE))
