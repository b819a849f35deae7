"""PoisonCAM: dataset cleansing by cluster activation masking (Qian et al.; Sec. IV, Eq. 1-3).

What it decides: which images of an unlabelled set carry a pasted patch that an encoder trained on the set obeys. Where
masking a part of an image moves it to another cluster, that part holds the image in its cluster; a patch that, pasted
on other images, moves them into the same cluster is a candidate trigger.

Symbols: X -> ``images``; f -> ``encoder``; C, l -> ``clustering``, ``clusters``; m_j, B, w -> ``masking``, ``masks``,
``window``; a_j, A -> ``activation_masking``; X^f -> ``flip_test``; s, r -> ``samples_per_cluster``, ``drop_fraction``;
X^p, k -> ``poison_set``; p -> ``noise_fraction``. The rest of the pipeline: ``pipeline``.

Deviations of this localiser (those of the pipeline are in its own docstring):
* Distances are scaled over the masks that leave the image in its cluster; the others' are distances to other centroids
  (``scale_all``: the formula as printed).
* The masks' places are an even lattice on the torus (``positions``; the paper draws them): Eq. 3 divides by a pixel's
  coverage, and at 32 pixels chance leaves some pixels almost bare.
* A masked pixel takes the encoder's mean colour, zero after normalisation; the paper says zero, not where (``fill``).
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from core.cleansing.activation_masking import ActivationMasking
from core.cleansing.clustering import Clustering
from core.cleansing.config import CleansingConfig
from core.cleansing.forward import Reader
from core.cleansing.masking import Fill, Positions, Strategy, draw_masks
from core.cleansing.pipeline import cleanse_with, shared_stage_plan
from core.cleansing.result import Cleansing
from core.cleansing.search import Localiser
from core.passes import Passes, Workload
from core.run import Run
from core.types import Encoder, ImageSet

METHOD = "poison_cam"


class PoisonCamConfig(CleansingConfig):
    """Parameters of PoisonCAM; the paper's symbol and value where it gives one."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {**CleansingConfig.QUICK, "masks": 36},
        "paper": {**CleansingConfig.PAPER, "masks": 256, "positions": "random", "scale_all": True},
        "exact": {**CleansingConfig.EXACT, "masks": 256},
    }

    masks: int = Field(
        64, ge=4, le=65536, description="B, masks per image; with even positions the nearest square. The paper: 256."
    )
    strategy: Strategy = Field(
        "full",
        description="What of a window is masked: all, every second block (interval), or half of the blocks at random. "
        "The paper finds full best.",
    )
    positions: Positions = Field("even", description="Where masks lie: on a lattice, or at random. The paper: random.")
    fill: Fill = Field(
        "mean",
        description="What masked pixels become: the encoder's mean colour, black, or the blurred image. Paper: zero.",
    )
    scale_all: bool = Field(False, description="Scale distances over all masks, as Eq. 2 is printed.")


def stage_plan(config: PoisonCamConfig, load: Workload) -> dict[str, Passes]:
    """Stage name -> encoder passes, which is what the time goes to."""
    masks = round(config.masks**0.5) ** 2 if config.positions == "even" else config.masks
    return shared_stage_plan(config, Passes(forward=masks + 1), load)


def cleanse(encoder: Encoder, images: ImageSet, config: PoisonCamConfig, run: Run, *, seed: int) -> Cleansing:
    """Find the poisoned images of ``images`` with ``encoder``, which was trained on them.

    Raises:
        UnsupportedInput: too few images for clusters.
        AuditFailed: features or losses that are not finite.
    """

    def localiser(reader: Reader, clustering: Clustering, window: int) -> Localiser:
        height, width = images.pixels.shape[2:]
        masks = draw_masks(
            config.masks, window, (height, width), strategy=config.strategy, positions=config.positions, seed=seed
        )
        return ActivationMasking(
            reader, clustering.centroids, masks, window, fill=config.fill, scale_all=config.scale_all
        )

    return cleanse_with(METHOD, localiser, encoder, images, config, run, seed=seed)
