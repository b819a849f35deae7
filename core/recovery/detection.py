"""What every detection method returns, whatever its algorithm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from core.triggers.additive import AdditiveTrigger
from core.triggers.masked import MaskedTrigger
from core.types import Verdict


@dataclass(frozen=True)
class RecoveredTrigger:
    """A candidate trigger and how strongly it acts on images that its search never saw.

    ``hypothesis`` names its kind for people, ``key`` (``hypotheses.kind_key``) for programs.

    ``similarity`` is the mean off-diagonal pairwise cosine of triggered features; ``size`` is the trigger's extent in
    ``size_unit`` (fraction of pixels for masks, largest change on the [0, 1] scale for additive patterns). ``target``
    numbers the embedding that it leads to: triggers of one backdoor share it.
    """

    hypothesis: str
    trigger: MaskedTrigger | AdditiveTrigger
    similarity: float
    size: float
    size_unit: str
    target: int = 0
    key: str = ""


def top_k_per_target(triggers: Sequence[RecoveredTrigger], most: int = 2) -> tuple[RecoveredTrigger, ...]:
    """``triggers`` without those of a target of whose kind ``most`` stand before them.

    A dozen windows that lead to one embedding teach an unlearning little that two do not, and it has to give up what
    lies under each of them: on the zoo that cost half a point of accuracy and drew steps from the true trigger.
    """
    kept: list[RecoveredTrigger] = []
    seen: Counter[tuple[int, str]] = Counter()
    for trigger in triggers:
        kind = (trigger.target, trigger.key)
        seen[kind] += 1
        if seen[kind] <= most:
            kept.append(trigger)
    return tuple(kept)


@dataclass(frozen=True)
class HypothesisResult:
    """One kind of trigger that was looked for: its statistic against its own threshold (larger is more suspicious).

    ``name`` is for people; ``key`` (``hypotheses.kind_key``) is what other encoders' are found by, of any size.
    ``measured`` is False where no clean encoder was searched for this kind with these bounds: its threshold is then
    borrowed, and it can accuse but not acquit.

    ``scores`` are the single restarts' statistics, so that a reader sees the spread; ``score`` is the one that counts.
    Where the threshold comes from clean encoders, ``expected`` is what they usually score, ``doubtful`` where doubt
    begins, ``excess`` how far the score is beyond the threshold on the scale of ``core.recovery.nulls``, and ``null``
    names the encoders. ``half`` is there where the threshold follows from the similarity that half the strength reaches
    on this encoder (``core.recovery.growth``). ``blown_up`` are those of ``scores`` that prove nothing
    (``core.recovery.blow_up``). ``raw_similarity`` is that of which ``score`` is what remains without the effect of
    the same trigger elsewhere in the image (``core.recovery.plain_squares``).
    """

    name: str
    score: float
    threshold: float
    scores: tuple[float, ...]
    doubtful: float | None = None
    expected: float | None = None
    excess: float | None = None
    null: str | None = None
    half: float | None = None
    blown_up: tuple[float, ...] = ()
    raw_similarity: float | None = None
    key: str = ""
    measured: bool = True

    @property
    def sound(self) -> tuple[float, ...]:
        """The scores that count, best first."""
        return tuple(score for score in self.scores if score not in self.blown_up)


class About(StrEnum):
    """What a :class:`Caveat` speaks of."""

    FAMILY = "family"
    PARAMETERS = "parameters"


@dataclass(frozen=True)
class Caveat:
    """Why thresholds are not those of clean encoders like the suspect, searched as it was: a sentence for reports."""

    about: About
    sentence: str


@dataclass(frozen=True)
class Detection:
    """The conclusion about one encoder.

    ``score`` is larger for more suspicious encoders and is compared with ``threshold``; ``margin`` is their signed
    distance in the score's unit. ``reasons`` are sentences for the report, ``untested`` names what was not looked for.
    ``clean_similarity`` is the mean pairwise cosine of the clean images' features: the floor of every score.
    ``triggers`` are best first, and empty when nothing acts like a backdoor. ``calibrated`` is False where no clean
    encoder of the suspect's own family, searched with the same parameters, stands behind the thresholds; ``caveats``,
    whose sentences are among the reasons, say why. ``pending_targets`` counts the target embeddings that no recovery
    was made towards yet: unlearning wants that done first (``Method.expand_triggers``). ``reserve`` has the triggers of
    an encoder that is called clean with little to spare, until another method was asked. ``blown_up``: inconclusive
    because the trigger drives the encoder out of its range, as those would that another method finds. ``stranger``: it
    is not like the encoders that the thresholds come from, so that it is never called backdoored.
    """

    method: str
    verdict: Verdict
    score: float | None
    threshold: float | None
    reasons: tuple[str, ...]
    hypotheses: tuple[HypothesisResult, ...] = ()
    triggers: tuple[RecoveredTrigger, ...] = ()
    clean_similarity: float | None = None
    untested: tuple[str, ...] = ()
    calibrated: bool = True
    pending_targets: int = 0
    reserve: tuple[RecoveredTrigger, ...] = ()
    blown_up: bool = False
    stranger: bool = False
    caveats: tuple[Caveat, ...] = ()

    @property
    def irresolvable(self) -> bool:
        """Whether neither another method nor a purified copy would settle a doubt."""
        return self.blown_up or self.stranger

    @property
    def decided_by(self) -> str | None:
        """The name of the hypothesis whose score and threshold those are; None where nothing was scored."""
        rows = (row for row in self.hypotheses if self.score in (row.score, *row.scores))
        return next((row.name for row in rows if row.threshold == self.threshold), None)

    @property
    def margin(self) -> float | None:
        if self.score is None or self.threshold is None:
            return None
        return self.score - self.threshold
