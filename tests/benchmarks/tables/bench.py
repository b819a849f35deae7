"""The cells of a zoo: every table asks here, so that what two tables need alike is run once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from core.registry import DETECTION, PURIFICATION
from tests.benchmarks.tables.cells import AuditRun, DetectionRun, Measurement, Purification
from tests.benchmarks.tables.encoders import SIDE, ZooEncoder
from tests.benchmarks.tables.images import CleanImages, ImageLibrary
from tests.benchmarks.tables.poison_cells import CleansingRun
from tests.benchmarks.tables.poisoned import PoisonedSet

HOLDING_RATE = 0.05
"""Clean images for a defence, as a share of the test half's size. SSLDefender: 5 %."""
TRANSFER = "gtsrb"
"""Signs, on which encoders from other images are measured too (Table IV)."""
MOVED_BY = ("bad-encoder", "drupe")
"""Attacks that move triggered images to one point whatever the classes: their backdoors act in any classifier."""

DEFAULT: Mapping[str, Any] = {"method": "ssldefender"}
CLEANSE: Mapping[str, Any] = {"method": "poison_cam"}


@dataclass(frozen=True)
class Bench:
    """What there is to measure, on which images, with how many seeds; whole audits with which budgets."""

    zoo: tuple[ZooEncoder, ...]
    library: ImageLibrary
    seeds: int
    poisoned: tuple[PoisonedSet, ...] = ()
    budgets: tuple[str, ...] = ("quick",)

    @property
    def encoders(self) -> tuple[ZooEncoder, ...]:
        """Those of the papers' small images: every table but one is about them."""
        return tuple(encoder for encoder in self.zoo if encoder.side == SIDE)

    @property
    def larger(self) -> tuple[ZooEncoder, ...]:
        """Those of images of another size, the smallest first."""
        return tuple(sorted((each for each in self.zoo if each.side != SIDE), key=lambda each: each.side))

    @property
    def detection_methods(self) -> tuple[str, ...]:
        return tuple(method.key for method in DETECTION)

    @property
    def purification_methods(self) -> tuple[str, ...]:
        return tuple(method.key for method in PURIFICATION)

    @property
    def backdoored(self) -> tuple[ZooEncoder, ...]:
        return tuple(encoder for encoder in self.encoders if encoder.backdoors)

    def of_attack(self, *attacks: str) -> tuple[ZooEncoder, ...]:
        return tuple(encoder for attack in attacks for encoder in self.backdoored if encoder.attack == attack)

    def representative(self, attack: str) -> ZooEncoder | None:
        """The zoo's first encoder of ``attack`` with a patch as its trigger, else its first of that attack."""
        found = self.of_attack(attack)
        return next((e for e in found if e.trigger == "patch"), found[0] if found else None)

    def representatives(self, attacks: Iterable[str]) -> tuple[ZooEncoder, ...]:
        return tuple(encoder for attack in attacks if (encoder := self.representative(attack)) is not None)

    def clean(self, encoder: ZooEncoder, rate: float = HOLDING_RATE, *, dataset: str | None = None) -> CleanImages:
        """As many images as ``rate`` of the test half of the encoder's own set; of ``dataset`` if another is to stand
        in for it."""
        return CleanImages(dataset or encoder.dataset, round(rate * self.library.test_size(encoder.dataset)))

    def evaluated_on(self, encoder: ZooEncoder) -> tuple[str, ...]:
        moved = encoder.attack in MOVED_BY and self.library.has(TRANSFER) and encoder.dataset != TRANSFER
        return (encoder.dataset, TRANSFER) if moved else (encoder.dataset,)

    def measurement(self, encoder: ZooEncoder) -> Measurement:
        on = self.evaluated_on(encoder)
        return Measurement(encoder, on, self._sets(on))

    def detection(
        self, encoder: ZooEncoder, seed: int, values: Mapping[str, Any] = DEFAULT, images: CleanImages | None = None
    ) -> DetectionRun:
        given = images or self.clean(encoder)
        return DetectionRun(encoder, given, values, seed, self._sets([given.dataset]))

    def purification(
        self,
        encoder: ZooEncoder,
        seed: int,
        values: Mapping[str, Any] = DEFAULT,
        *,
        detection: Mapping[str, Any] = DEFAULT,
        images: CleanImages | None = None,
        verified: bool = False,
    ) -> Purification:
        found = self.detection(encoder, seed, detection, images)
        return Purification(found, self.measurement(encoder), values, verified)

    def audit(self, encoder: ZooEncoder, seed: int, parameters: Mapping[str, Any], images: CleanImages) -> AuditRun:
        """Measured on the encoder's own set alone: at larger sizes a measurement takes minutes."""
        on = (encoder.dataset,)
        before = Measurement(encoder, on, self._sets(on)) if encoder.backdoors else None
        sets, apart = self._sets([images.dataset]), self.library.clean_images(images.dataset)
        if apart is not None:
            sets["clean images"] = [apart.name, apart.stat().st_size]
        return AuditRun(encoder, images, parameters, seed, sets, before)

    def cleansing(
        self, poisoned: PoisonedSet, seed: int, values: Mapping[str, Any] = CLEANSE, *, twin: bool = False
    ) -> CleansingRun:
        return CleansingRun(poisoned, values, seed, self._sets([poisoned.encoder.dataset]), twin)

    def _sets(self, datasets: Iterable[str]) -> dict[str, list[object]]:
        return {dataset: self.library.identity(dataset) for dataset in datasets}
