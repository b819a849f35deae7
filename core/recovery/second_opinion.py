"""A verdict that is doubtful or close to it, and what another method says of the same encoder.

Where the best trigger of the searched sizes lies among the highest that clean encoders score, or between those and
what is taken for a backdoor, a method that asks another question helps: DECREE's smallest mask has no bound on its
size. Both rarely err on the same clean encoder (``docs/calibration.md``), so its *backdoored* decides. Its *clean*
settles nothing: it misses backdoors that the first method sees. Not in the papers.
"""

from __future__ import annotations

from dataclasses import replace

from core.recovery.detection import Detection
from core.types import Verdict


def wants_another(found: Detection) -> bool:
    """Whether ``found`` is doubtful, or clean with little to spare, on a sound encoder of a measured family."""
    doubtful = found.verdict is Verdict.INCONCLUSIVE and bool(found.triggers)
    return found.calibrated and not found.irresolvable and (doubtful or bool(found.reserve))


def settled_by(found: Detection, second: Detection, title: str) -> Detection:
    """``found`` with the answer of the method ``title`` beside it; backdoored, on its score, if ``second`` is."""
    rows = tuple(
        replace(row, name=f"{row.name} ({title})", key=f"{second.method}: {row.key}") for row in second.hypotheses
    )
    said = f"{title}, asked for a second opinion, says {second.verdict}: {second.reasons[0]}"
    both = replace(found, hypotheses=(*found.hypotheses, *rows), reserve=())
    if second.verdict is not Verdict.BACKDOORED:
        return replace(both, reasons=(*found.reasons, said))
    triggers = found.triggers or found.reserve
    return replace(
        both,
        verdict=second.verdict,
        score=second.score,
        threshold=second.threshold,
        reasons=(said, *found.reasons),  # what decides comes first
        triggers=triggers,
        pending_targets=found.pending_targets or len({trigger.target for trigger in triggers}),
    )
