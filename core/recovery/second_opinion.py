"""A doubtful verdict, and what another method says of the same encoder.

Where the best trigger of the searched sizes lies between what clean encoders score and what is taken for a backdoor, a
method that asks another question helps: DECREE's smallest mask has no bound on its size. Both rarely err on the same
clean encoder (``docs/calibration.md``), so its *backdoored* settles the doubt. Its *clean* does not: it misses
backdoors that the first method sees. Not in the papers.
"""

from __future__ import annotations

from dataclasses import replace

from core.recovery.detection import Detection
from core.types import Verdict


def is_in_doubt(found: Detection) -> bool:
    """Whether ``found`` is inconclusive on a sound encoder of a measured family, so that another look may settle it."""
    return found.verdict is Verdict.INCONCLUSIVE and found.calibrated and bool(found.triggers)


def settled_by(found: Detection, second: Detection, title: str) -> Detection:
    """``found`` with the answer of the method ``title`` beside it; backdoored, on its score, if ``second`` is."""
    rows = tuple(replace(row, name=f"{row.name} ({title})") for row in second.hypotheses)
    said = f"{title}, asked for a second opinion, says {second.verdict}: {second.reasons[0]}"
    both = replace(found, reasons=(*found.reasons, said), hypotheses=(*found.hypotheses, *rows))
    if second.verdict is not Verdict.BACKDOORED:
        return both
    return replace(both, verdict=second.verdict, score=second.score, threshold=second.threshold)
