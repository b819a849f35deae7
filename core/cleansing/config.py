"""The parameters that both cleansing methods share; each adds its localiser's own.

The papers are PoisonCAM (Qian et al., Sec. IV and VI) and PatchSearch (Tejankar et al., CVPR 2023).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from core.config import MethodConfig

LARGEST_WINDOW = 0.6
"""Largest window, relative to the image's shorter side: a larger one would be most of the image."""


class CleansingConfig(MethodConfig):
    """Parameters of the shared pipeline; the paper's symbol and value where it gives one."""

    PAPER: ClassVar[dict[str, Any]] = {
        "clusters": 1000,
        "window": 60,
        "flip_images": 1000,
        "first_flips": 0,
        "groups_first": False,
        "remove_always": True,
        "unscored_as_cluster": False,
        "match_triggers": False,
        "cut": 0.5,
        "classifier_width": 64,
        "classifier_steps": 2000,
        "classifier_batch": 64,
        "classifier_rate": 0.01,
        "classifier_crop": 0.2,
        "zoom": (0.33, 1.3),
        "half_precision": False,
    }
    """The papers' values for 224 pixels."""

    QUICK: ClassVar[dict[str, Any]] = {"flip_images": 128, "classifiers": 3}
    """A first look: scores are coarser, since a candidate is pasted on fewer images."""

    EXACT: ClassVar[dict[str, Any]] = {"first_flips": 0, "half_precision": False}
    """No approximation: every candidate sees the whole flip set, in fp32."""

    clusters: int | None = Field(
        None,
        ge=2,
        le=20000,
        description="l, clusters of the features. The paper: 1000 for 127,000 images. null: a cluster per 128 images, "
        "10 to 1000.",
    )
    cluster_iterations: int = Field(20, ge=1, le=1000, description="Steps of k-means. PatchSearch: 20.")
    window: int | None = Field(
        None,
        ge=2,
        description="w, side of the window in pixels. The paper: 60 of 224, for a trigger of 50. null: search at "
        "0.27 of the shorter side, then the size on which the best candidates agree.",
    )
    samples_per_cluster: int = Field(
        2, ge=1, le=100, description="s, images scored per cluster and round. The paper: 2."
    )
    drop_fraction: float = Field(
        0.25, gt=0, lt=1, description="r, least poisoned clusters dropped each round, rounded down. The paper: 0.25."
    )
    flip_images: int = Field(
        320,
        ge=8,
        le=20000,
        description="Images of the flip set, the nearest to each centroid. The paper: 1000, its number of clusters.",
    )
    flip_score: Literal["into_cluster", "changed"] = Field(
        "into_cluster",
        description="Poison score: images that move into the candidate's own cluster, net (PatchSearch's code), or "
        "all images whose cluster changes (PoisonCAM's text), which destructive windows score high on as well.",
    )
    cluster_score: Literal["sum", "max"] = Field(
        "sum", description="How a cluster's samples of a round count. PoisonCAM: sum; PatchSearch's code: max."
    )
    first_flips: int = Field(
        32,
        ge=0,
        description="Flip images that every candidate is pasted on first; the best of them then see the rest. 0: all "
        "candidates see the whole flip set. Not in the paper.",
    )
    finalists: float = Field(
        0.125,
        gt=0,
        le=1,
        description="Share of the candidates scored together that see the whole flip set; the others' scores are "
        "scaled up from the first part. Not in the paper.",
    )
    poison_set: int = Field(
        20, ge=1, le=1000, description="k, best candidates that form the poison set. The paper: 20."
    )
    groups_first: bool = Field(
        True,
        description="Rank candidates that show the same pixels in several images before all others, and take the "
        "poison set from them. Not in the paper, which goes by the score alone.",
    )
    remove_always: bool = Field(
        False, description="Remove what the classifier flags whatever the verdict, as the paper does."
    )
    match_triggers: bool = Field(
        True,
        description="Remove every image that shows the pixels of a trigger that was found, whatever the classifier "
        "says. Not in the paper.",
    )
    cut: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="The classifier's score above which an image is removed. The paper: 0.5 (argmax). null: where the "
        "fewest images are, between 0.5 and 0.8; up to 0.99 beside images that are known by a trigger's pixels.",
    )
    unit_queries: bool = Field(
        True,
        description="Normalise the flip test's features as the clusters' were. PatchSearch's code does not, and so "
        "asks for another centroid than the nearest.",
    )
    unscored_as_cluster: bool = Field(
        True,
        description="Images never scored count as their cluster's mean score when negatives are chosen. The papers: 0.",
    )
    noise_fraction: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="p, share of the images, the most poisoned ones, that are no negatives for the classifier. "
        "The paper: 0.1.",
    )
    classifiers: int = Field(5, ge=1, le=50, description="Members of the ensemble. PatchSearch's pipeline: 5.")
    classifier_width: int = Field(
        24,
        ge=4,
        le=256,
        description="Channels of a classifier's first stage. A ResNet's usual 64 is four times slower.",
    )
    classifier_steps: int = Field(
        200, ge=1, le=100000, description="Most training steps; fewer where it settles. PatchSearch: 2000."
    )
    classifier_batch: int = Field(
        128, ge=4, le=4096, description="Images a step, half of them stamped. PatchSearch: 32."
    )
    classifier_rate: float = Field(0.02, gt=0, le=1, description="SGD rate, cosine-decayed. PatchSearch: 0.01.")
    classifier_crop: float = Field(
        0.5, gt=0, le=1, description="Smallest area of a random crop of a training image. PatchSearch: 0.2."
    )
    zoom: tuple[float, float] = Field(
        (0.85, 1.15),
        description="Least and largest factor by which a pasted patch is resized. PatchSearch: 0.33 to 1.3.",
    )

    half_precision: bool = Field(
        True,
        description="bf16 where the device has it and where it leaves the images in their clusters. Not in the paper.",
    )
    batch_size: int = Field(512, ge=1, le=65536, description="Images per pass through the encoder.")

    @field_validator("zoom")
    @classmethod
    def _in_order(cls, zoom: tuple[float, float]) -> tuple[float, float]:
        if not 0 < zoom[0] <= zoom[1] <= 4:
            raise ValueError("two factors, the smaller first, above 0 and at most 4")
        return zoom
