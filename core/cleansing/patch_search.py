"""PatchSearch: dataset cleansing by Grad-CAM (Tejankar et al., CVPR 2023), the baseline of PoisonCAM.

The pipeline is PoisonCAM's (which took it from here); the candidate window is where Grad-CAM says that the image's
cluster comes from.

Deviations from the published code, each undone by the preset ``as-published`` to show what it costs:
* A ViT's map explains the nearness to the image's cluster. The code attaches the centroids to a head that a ViT does
  not have, and so explains the largest feature channel (``explain_published``).
* The flip test's features are normalised like those the clusters come from (``unit_queries``).
* Images never scored are not ranked as 0 (``unscored_as_cluster``).
* The layer is the last whose map has at least 4x4 places; at 32 pixels a ResNet's last stage has one.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from core.cleansing.clustering import Clustering
from core.cleansing.config import CleansingConfig
from core.cleansing.forward import Reader
from core.cleansing.grad_cam import GradCam
from core.cleansing.pipeline import cleanse_with, shared_stage_plan
from core.cleansing.result import Cleansing
from core.cleansing.search import Localiser
from core.passes import Passes, Workload
from core.run import Run
from core.types import Encoder, ImageSet

METHOD = "patch_search"


class PatchSearchConfig(CleansingConfig):
    """Parameters of PatchSearch; the paper's value where it gives one."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": CleansingConfig.QUICK,
        "paper": {**CleansingConfig.PAPER, "cluster_score": "max"},
        "as-published": {
            **CleansingConfig.PAPER,
            "cluster_score": "max",
            "explain_published": True,
            "unit_queries": False,
        },
        "exact": CleansingConfig.EXACT,
    }

    explain_published: bool = Field(
        False, description="Explain what the published code explains: for a ViT its largest feature channel."
    )


def stage_plan(config: PatchSearchConfig, load: Workload) -> dict[str, Passes]:
    """Stage name -> encoder passes: a map takes one with a gradient."""
    return shared_stage_plan(config, Passes(backward=1), load)


def cleanse(encoder: Encoder, images: ImageSet, config: PatchSearchConfig, run: Run, *, seed: int) -> Cleansing:
    """Find the poisoned images of ``images`` with ``encoder``, which was trained on them.

    Raises:
        UnsupportedInput: too few images for clusters, or a network without feature maps or tokens.
        AuditFailed: features or losses that are not finite.
    """

    def localiser(reader: Reader, clustering: Clustering, window: int) -> Localiser:
        return GradCam(reader, clustering.centroids, as_published=config.explain_published)

    return cleanse_with(METHOD, localiser, encoder, images, config, run, seed=seed)
