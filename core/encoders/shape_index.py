"""Which architectures have which names and shapes: a table made once, so that inference builds only what may fit.

``shape_index.json`` holds of each architecture that torchvision and timm offer two fingerprints, of all names and
shapes, and of the same with the first convolution's kernel and the position embeddings left open (what a small-image
variant changes); and a sketch (MinHash, Broder 1997), by which the nearest is found where none fits.
``python -m core.encoders.shape_index`` writes it anew; an architecture younger than the table is merely not inferred,
and what the table proposes is always checked against the network itself.
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
_SKETCH = 16


def fingerprints(shapes: Mapping[str, Shape]) -> tuple[str, str]:
    """(exact, loose) fingerprints of names and shapes; heads and batch counters do not count."""
    exact, loose = hashlib.sha256(), hashlib.sha256()
    for name in sorted(shapes):
        if not _counts(name):
            continue
        exact.update(f"{name}{list(shapes[name])};".encode())
        loose.update(f"{name}{_loose(name, shapes[name])};".encode())
    return exact.hexdigest()[:16], loose.hexdigest()[:16]


def sketch(shapes: Mapping[str, Shape]) -> str:
    """The least of each of :data:`_SKETCH` hashes over all names and shapes, 4 hexadecimal digits each: the share of
    equal ones among two sketches estimates the share of names and shapes that two networks have in common."""
    tokens = [f"{name}{list(shape)}" for name, shape in shapes.items() if _counts(name)]
    digests = [hashlib.shake_128(token.encode()).digest(2 * _SKETCH) for token in tokens]
    least = [min((d[2 * i : 2 * i + 2] for d in digests), default=b"\xff\xff") for i in range(_SKETCH)]
    return b"".join(least).hex()


def nearest_architectures(shapes: Mapping[str, Shape], most: int = 3) -> list[tuple[str, float]]:
    """Architectures that share names and shapes with a file, nearest first, each with the share of those in either that
    are in both, as far as their sketches tell; none below a quarter."""
    own = sketch(shapes)
    shares = {name: _share(own, each) for name, (_, _, each) in _index().items()}
    ranked = sorted(shares, key=lambda name: -shares[name])
    return [(name, shares[name]) for name in ranked[:most] if shares[name] >= 0.25]


@cache
def architectures_by_fingerprint() -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, tuple[str, ...]]]:
    """Two tables, exact and loose: the architectures of each fingerprint, torchvision's first."""
    exact: dict[str, tuple[str, ...]] = {}
    loose: dict[str, tuple[str, ...]] = {}
    for architecture, (first, second, _) in _index().items():
        exact[first] = (*exact.get(first, ()), architecture)
        loose[second] = (*loose.get(second, ()), architecture)
    return exact, loose


def default_card(architecture: str) -> EncoderCard:
    """The card of ``architecture`` as its library ships it."""
    size, mean, std = default_preprocessing(architecture)
    side = size[0] if size[0] == size[1] else size
    return EncoderCard(architecture=architecture, input_size=side, mean=mean, std=std)


def index_row(architecture: str) -> tuple[str, str, str]:
    """Fingerprints and sketch of ``architecture`` at its default input size; nothing is allocated."""
    shapes = shapes_of(build_backbone(default_card(architecture), device="meta"))
    return *fingerprints(shapes), sketch(shapes)


def write_index(path: Path) -> None:
    """Build every known architecture on the meta device and write the table to ``path``; takes some minutes."""
    index: dict[str, tuple[str, str, str]] = {}
    for architecture in known_architectures():
        try:
            index[architecture] = index_row(architecture)
        except (UnsupportedInput, ValueError, NotImplementedError) as failure:
            sys.stderr.write(f"left out {architecture}: {str(failure)[:160]}\n")
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(prints)}" for name, prints in index.items())
    path.write_text("{\n" + rows + "\n}\n")


@cache
def _index() -> Mapping[str, tuple[str, str, str]]:
    read: Mapping[str, tuple[str, str, str]] = json.loads(resources.files(__package__).joinpath(_FILE).read_text())
    return read


def _share(one: str, other: str) -> float:
    pairs = zip(bytes.fromhex(one).hex(" ", 2).split(), bytes.fromhex(other).hex(" ", 2).split(), strict=True)
    return sum(a == b for a, b in pairs) / _SKETCH


def _counts(name: str) -> bool:
    return not is_head(name) and not name.endswith("num_batches_tracked")


def _loose(name: str, shape: Shape) -> str:
    if len(shape) == 4 and shape[1] == 3:
        return f"[{shape[0]}, 3, *]"
    return "*" if name.rpartition(".")[2] in ("pos_embed", "pos_embedding") else str(list(shape))


if __name__ == "__main__":
    write_index(Path(__file__).with_name(_FILE))
