"""What a kind of audit works on and what it finds."""

from __future__ import annotations

from dataclasses import dataclass

from core.cleansing.result import Cleansing
from core.encoders.card import EncoderCard
from core.passes import Workload
from core.recovery.detection import Detection
from core.training.pretrain import Pretraining
from core.types import Encoder, ImageSet, Verdict
from core.unlearning.result import Unlearning


@dataclass(frozen=True)
class Subject:
    """The encoder, the images, and the seed that every random choice comes from.

    ``fresh`` is the card of ``encoder`` where none was given and it is an untrained network that the kind trains first;
    None where it was given.
    """

    encoder: Encoder
    images: ImageSet
    seed: int
    fresh: EncoderCard | None = None

    @property
    def load(self) -> Workload:
        """How many images there are, and their size."""
        count, _, height, width = self.images.pixels.shape
        return Workload(count, height, width)


@dataclass(frozen=True)
class Canary:
    """A known backdoor that was planted in a copy of the encoder, and what the detection said of the copy.

    ``attraction`` is the mean cosine of triggered features to the reference's, ``kept`` that of clean features to the
    original's. ``detection`` is None where the backdoor did not take (``planted`` is False): nothing is learnt then.
    """

    name: str
    planted: bool
    attraction: float
    kept: float
    detection: Detection | None

    @property
    def found(self) -> bool:
        """Whether the copy was called backdoored; ``inconclusive`` is not enough."""
        return self.detection is not None and self.detection.verdict is Verdict.BACKDOORED


@dataclass(frozen=True)
class Findings:
    """What is found out about an encoder.

    ``detection`` is about the encoder that was given. ``unlearning`` and ``verification`` (the same detection on the
    purified encoder) are None where nothing was unlearnt; ``delivered`` is the encoder to hand out, None for kinds that
    yield none, and the given one itself where there was nothing to unlearn. ``canaries`` are None where none were
    planted.
    """

    detection: Detection
    unlearning: Unlearning | None = None
    verification: Detection | None = None
    delivered: Encoder | None = None
    canaries: tuple[Canary, ...] | None = None

    @property
    def verdict(self) -> Verdict:
        return self.detection.verdict

    @property
    def score(self) -> float | None:
        return self.detection.score

    @property
    def threshold(self) -> float | None:
        return self.detection.threshold


@dataclass(frozen=True)
class SetFindings:
    """What is found out about a set of images. ``training`` made the threat model, None where an encoder was given;
    ``duplicates`` are groups of names with identical pixels; ``archive``: whether the cleaned set was asked for."""

    cleansing: Cleansing
    training: Pretraining | None
    duplicates: tuple[tuple[str, ...], ...]
    archive: bool

    @property
    def verdict(self) -> Verdict:
        return self.cleansing.verdict

    @property
    def score(self) -> None:
        """No single number decides: see the reasons."""
        return None

    @property
    def threshold(self) -> None:
        return None
