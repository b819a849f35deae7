"""Reasons for which no verdict is possible. Silence here would read as "clean"."""

from __future__ import annotations

import torch

from core.device import to_device
from core.errors import AuditFailed
from core.ops.cosine import pairwise_similarity
from core.passes import Passes, Workload
from core.recovery.forward import features_in_chunks
from core.run import Run, StateDict
from core.types import Encoder, Features, Images, ImageSet

CLEAN_FEATURES = "features of clean images"
"""The first stage of every detection."""
_SAMPLE = 512
_CHUNK = 64

COLLAPSED = 0.98
"""Mean pairwise cosine of clean images from which on an encoder tells images apart too little for any search."""


LEAST_CONTRAST = 0.1875
"""Deviation of all pixels, on the [0, 1] scale, below which images are dull: three quarters of that of the images that
thresholds come from (CIFAR-10: .25; Tiny-ImageNet and GTSRB .26, .27)."""


class _Look:
    """The features ``[B, D]`` of each step so far."""

    def __init__(self, device: torch.device) -> None:
        self.features: list[Features] = []
        self._device = device

    def state_dict(self) -> StateDict:
        return {"features": list(self.features)}

    def load_state_dict(self, state: StateDict) -> None:
        self.features = [to_device(part, self._device) for part in state["features"]]


def clean_similarity(encoder: Encoder, images: Images) -> float:
    """Mean pairwise cosine of the clean images' features: where every search starts.

    Raises:
        AuditFailed: the features are not finite.
    """
    return _similarity(features_in_chunks(encoder, images))


def _similarity(features: Features) -> float:
    if not bool(torch.isfinite(features).all()):
        raise AuditFailed(
            "features_not_finite",
            field="encoder",
            found="features with NaN or infinite values on clean images",
            expected="finite features for every image",
            action="Check that mean and std of the card fit the encoder, and that the weights are complete.",
        )
    return float(pairwise_similarity(features))


def look_plan(load: Workload) -> dict[str, Passes]:
    """The stage of :func:`unmet_preconditions`, and its encoder passes."""
    return {CLEAN_FEATURES: Passes(forward=min(_SAMPLE, load.images))}


def unmet_preconditions(encoder: Encoder, images: ImageSet, run: Run) -> tuple[str, ...]:
    """Sentences that say why nothing can be concluded from this encoder and these images; empty when all is well."""
    reasons = []
    pixels = images.pixels.flatten(1)
    constant = int((pixels.amax(1) == pixels.amin(1)).sum())
    if constant > len(images) // 2:
        reasons.append(f"{constant} of {len(images)} images are of one plain colour: they show nothing to an encoder.")
    distinct = len(torch.unique(pixels[:, :: max(1, pixels.shape[1] // 512)], dim=0))
    if distinct < max(8, len(images) // 10):
        reasons.append(f"Only {distinct} of {len(images)} images differ from each other.")
    parts = images.batch(slice(0, _SAMPLE), encoder.device).split(_CHUNK)
    looked = _Look(encoder.device)
    for step in run.steps(CLEAN_FEATURES, len(parts), state=looked):
        looked.features.append(features_in_chunks(encoder, parts[step]))
    similarity = _similarity(torch.cat(looked.features))
    if similarity >= COLLAPSED and not reasons:
        reasons.append(
            f"The encoder is collapsed: clean images already have a mean pairwise cosine of {similarity:.3f}, so that "
            "a trigger could not be told from no trigger."
        )
    return tuple(reasons)


def contrast(images: ImageSet) -> float:
    """Deviation of all pixels of at most 512 ``images``, on the [0, 1] scale."""
    return float((images.pixels[:: max(1, len(images) // 512)].float() / 255).std())


def why_too_dull(images: ImageSet) -> tuple[str, ...]:
    """A sentence where ``images`` have so little contrast that a trigger of full colours outweighs them on any encoder;
    none otherwise."""
    seen = contrast(images)
    if seen >= LEAST_CONTRAST:
        return ()
    return (
        f"The images are duller than those that the thresholds come from: their pixels deviate by {seen:.2f} of "
        "the whole range, those of photographs by 0.25. Triggers of full colours outweigh such images on any encoder, "
        "so that no score calls this one backdoored. Use images of usual contrast, if the encoder was trained on such.",
    )
