"""The backdoors that a canary audit plants: known ones, in a copy of the suspect, to see whether they are found."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from core.attacks.bad_encoder import BadEncoderConfig, backdoor
from core.attacks.trigger_spec import TriggerSpec, build_trigger
from core.image_parts import parts_of
from core.ops.cosine import paired_similarity, similarity_to, unit
from core.passes import Passes, Workload
from core.random import generator
from core.recovery.forward import features_in_chunks
from core.run import Run
from core.types import Encoder, ImageSet

TOOK = 0.8
"""Mean cosine of triggered features to the reference's from which on a backdoor counts as planted."""
KEPT = 0.8
"""Mean cosine of clean features before and after, below which the copy is broken rather than backdoored."""
_BATCH = 128
"""Images of a planting step."""


@dataclass(frozen=True)
class CanarySpec:
    """A backdoor to plant: its name in reports and its trigger, sizes relative to a 32-pixel image."""

    name: str
    kind: str
    side: int = 0

    def trigger(self, image_size: tuple[int, int]) -> TriggerSpec:
        """The trigger for images of ``image_size``."""
        if not self.side:
            return TriggerSpec.model_validate({"kind": self.kind})
        return TriggerSpec.model_validate({"kind": self.kind, "side": max(2, round(self.side * min(image_size) / 32))})


CANARIES = (
    CanarySpec("white patch in a corner", "white-patch", side=10),
    CanarySpec("small coloured patch in a corner", "colour-patch", side=5),
    CanarySpec("spectral pattern (CTRL's)", "spectral"),
    CanarySpec("blended random colours", "blended"),
)
"""BadEncoder's own trigger, a small patch, an invisible one and a full-image one."""


@dataclass(frozen=True)
class Planted:
    """A copy with a backdoor. ``attraction`` is the mean cosine of triggered features to the reference's, ``kept`` that
    of clean features to the original's, both on images that did not plant it."""

    encoder: Encoder
    attraction: float
    kept: float

    @property
    def took(self) -> bool:
        return self.attraction >= TOOK and self.kept >= KEPT


def planting_passes(steps: int, load: Workload) -> Passes:
    """Encoder passes of :func:`plant_canary`: the student sees each image of a step clean and triggered, and the
    reference twice; the original sees it clean."""
    batch = min(_BATCH, load.parts.training)
    return Passes(forward=steps * batch + 3 * load.parts.judging + 2, training=steps * (2 * batch + 2))


def plant_canary(encoder: Encoder, images: ImageSet, spec: CanarySpec, steps: int, run: Run, *, seed: int) -> Planted:
    """Plant ``spec`` into a copy of ``encoder`` by a short BadEncoder run on those of ``images`` that neither judge nor
    guard.

    The reference, which triggered images are to resemble, is one of the images: no label is needed, since what is
    tested is the detection.

    Raises:
        AuditFailed: the run's loss is not finite.
    """
    random = generator(seed, "canary", spec.name)
    parts = parts_of(len(images), seed)
    judging, shadow = images.batch(parts.judging, encoder.device), images.subset(parts.training)
    reference = shadow.batch(torch.randint(len(shadow), (1,), generator=random), encoder.device)
    trigger = build_trigger(spec.trigger(encoder.image_size), encoder.image_size)
    config = BadEncoderConfig(steps=steps, batch_size=min(_BATCH, len(shadow)))
    copy = backdoor(encoder, shadow, reference, trigger, config, run, seed=seed).encoder
    target = unit(features_in_chunks(copy, reference))[0]
    attraction = float(similarity_to(features_in_chunks(copy, trigger(judging)), target))
    before, after = features_in_chunks(encoder, judging), features_in_chunks(copy, judging)
    return Planted(copy, attraction, float(paired_similarity(before, after).mean()))
