"""When an attack has worked. Below its floor a result is no backdoored encoder: it would count as one that a detector
missed."""

from __future__ import annotations

from collections.abc import Sequence

from core.evaluation.results import Evaluation

SMALLEST_ASR = 95.0
"""Per cent, headline probe: what an attack on an encoder must reach (BadEncoder, DRUPE)."""
LARGEST_ACC_LOSS = 2.0
"""Percentage points below the clean encoder."""
SMALLEST_NET = 25.0
"""Percentage points of ``asr_net`` with the 1 % probe: what a poisoned pre-training must reach."""


def attack_failed(acc_before: float, after: Evaluation) -> str | None:
    """Why a backdoored encoder does not count, ``acc_before`` being the ACC (per cent) of the clean one it was made
    from; None if it does. Where ``after`` holds the clean one's ACC on the same images, that counts."""
    assert after.asr is not None
    on_the_same = after.probes[0].reference_acc if after.probes else None
    loss = (acc_before if on_the_same is None else on_the_same.percent) - after.acc.percent
    if after.asr.percent < SMALLEST_ASR:
        return f"ASR {after.asr.percent:.1f} %, below the floor of {SMALLEST_ASR:.0f}"
    if loss > LARGEST_ACC_LOSS:
        return f"ACC {loss:.1f} points lower, more than {LARGEST_ACC_LOSS:.0f}"
    return None


def poisoning_failed(evaluations: Sequence[Evaluation]) -> str | None:
    """Why a poisoned pre-training does not count; None if it does. Of several backdoors the weakest decides."""
    nets = [probe.asr_net for e in evaluations for probe in e.probes if probe.name == "linear-1pct"]
    points = [net.points for net in nets if net is not None]
    if len(points) < len(evaluations):
        return "no clean reference was given, so nothing says what the backdoor itself does"
    if min(points) < SMALLEST_NET:
        return f"asr_net {min(points):.1f} points with 1 % labels, below the floor of {SMALLEST_NET:.0f}"
    return None
