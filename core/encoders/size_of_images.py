"""An input size that was only assumed is held against the images: who has images of 32 pixels trained at 32.

The usual stem of a network for small images, with other strides and no max-pool, can have the very names and shapes of
the network for large ones; then only the images show that it was not meant for 224 pixels.
"""

from __future__ import annotations

import json

from core.encoders.load import LoadedEncoder
from core.encoders.samples import at_size
from core.errors import UnsupportedInput


def require_size_like_images(loaded: LoadedEncoder, usual: tuple[int, int]) -> None:
    """``usual`` is (height, width) in pixels of most of the images that come with the encoder.

    Raises:
        UnsupportedInput: ``ambiguous_architecture``, the size is a guess and the images are at most half as large.
    """
    side, given = min(loaded.card.image_size), min(usual)
    if not loaded.size_assumed or 2 * given > side:
        return
    sample = at_size(loaded.card, given).to_json()
    sample.pop("feature_dim", None)
    raise UnsupportedInput(
        "ambiguous_architecture",
        field="card.input_size",
        found=f"weights of {loaded.card.architecture} without a card, whose usual input size is {side} pixels, and "
        f"images of {usual[0]}x{usual[1]} pixels",
        expected="an encoder card: networks for small images have the same names and shapes, other strides and often "
        "no max-pool",
        action="Write a card beside the file (NAME.card.json) or pass it with --card; if the encoder was trained on "
        "such images give their size, mean and std, and under overrides what is changed in its first layers; if it "
        f"does take {side} pixels, say {side}; check each value of this sample: {json.dumps(sample)}",
    )
