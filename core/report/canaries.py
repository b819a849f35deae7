"""What a canary audit found, as part of the report."""

from __future__ import annotations

from collections.abc import Sequence

from core.kinds.findings import Canary
from core.report.model import CanariesPart, CanaryRow


def canaries_part(canaries: Sequence[Canary] | None) -> CanariesPart | None:
    """The part, with the one sentence that says what a verdict is worth; None where none were planted."""
    if canaries is None:
        return None
    planted, found = sum(one.planted for one in canaries), sum(one.found for one in canaries)
    return CanariesPart(
        planted=planted, found=found, sentence=_sentence(canaries), rows=[_row(one) for one in canaries]
    )


def _sentence(canaries: Sequence[Canary]) -> str:
    planted, missed = (
        [one for one in canaries if one.planted],
        [one for one in canaries if one.planted and not one.found],
    )
    if not planted:
        return "No known backdoor could be planted in this encoder, so nothing says what the detection could have seen."
    text = f"On this encoder, {len(planted) - len(missed)} of {len(planted)} planted backdoors were found"
    text += f"; missed: {', '.join(one.name for one in missed)}." if missed else "."
    failed = [one.name for one in canaries if not one.planted]
    return text + (f" Not counted, since the backdoor did not take: {', '.join(failed)}." if failed else "")


def _row(one: Canary) -> CanaryRow:
    seen = one.detection
    return CanaryRow(
        name=one.name,
        planted=one.planted,
        attraction=one.attraction,
        kept=one.kept,
        found=one.found,
        verdict=None if seen is None else seen.verdict,
        score=None if seen is None else seen.score,
        threshold=None if seen is None else seen.threshold,
    )
