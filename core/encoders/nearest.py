"""What a file that fits nothing looks like: the nearest known architectures, and some of its own names."""

from __future__ import annotations

from collections.abc import Mapping

from core.encoders.placement import Path, Shape, flat_names, views
from core.encoders.shape_index import nearest_architectures

_NAMES = 4


def nearest_in_words(shapes: Mapping[Path, Shape]) -> str:
    """A clause for an error: which known architectures come nearest, and what names the file has."""
    by_name = flat_names(shapes)
    near: dict[str, float] = {}
    for view in views({name: shapes[path] for name, path in by_name.items()}):
        if 2 * len(view.own) < len(by_name) and view.prefix:
            continue  # a piece of something; also what keeps a file of countless prefixes cheap to refuse
        for name, share in nearest_architectures({own: shapes[by_name[full]] for own, full in view.own.items()}):
            near[name] = max(share, near.get(name, 0.0))
    ranked = sorted(near, key=lambda name: -near[name])[:3]
    listed = ", ".join(f"{name} (about {round(100 * near[name])} % in common)" for name in ranked)
    nearest = f"nearest by names and shapes: {listed}" if ranked else "no known architecture comes near"
    return f"{nearest}; the file's own names: {_some_names(by_name)}"


def _some_names(names: Mapping[str, Path]) -> str:
    listed = list(names)
    # Evenly over the file, so that its blocks show and not only its first layer.
    chosen = listed[:: max(1, len(listed) // _NAMES)][:_NAMES]
    shown = ", ".join(ascii(name)[1:-1][:80] for name in chosen)
    return shown + (f" and {len(listed) - len(chosen)} more" if len(listed) > len(chosen) else "")
