"""What an evaluation answers: one row per probe, and the first probe's numbers once more by themselves."""

from __future__ import annotations

from dataclasses import dataclass

from core.evaluation.rates import Difference, Rate


@dataclass(frozen=True)
class ProbeResult:
    """What one probe reads. Rates are per cent, differences percentage points.

    ``labels_used``: labelled training images it was fitted on. ``asr`` is ``asr_excl``: triggered images of other
    classes that are called the target; ``asr_all`` counts images of the target class too; ``base`` is ``asr`` without
    the trigger; ``net`` = asr - base; ``asr_net`` = asr - ``reference_asr``, where the reference is a clean encoder
    with a probe of its own. None: no backdoor was given, or no reference. ``draws``: how many draws of the labels the
    numbers are the mean of (``core.evaluation.draws``); counts are then summed over the draws.
    """

    name: str
    labels_used: int
    acc: Rate
    asr: Rate | None = None
    asr_all: Rate | None = None
    base: Rate | None = None
    net: Difference | None = None
    asr_net: Difference | None = None
    triggered_acc: Rate | None = None
    reference_acc: Rate | None = None
    reference_asr: Rate | None = None
    draws: int = 1


@dataclass(frozen=True)
class Evaluation:
    """``acc``, ``asr``, ``base``, ``net`` (percentage points) and ``triggered_acc`` are those of ``probes[0]``, which
    is the linear probe unless others were asked for; ``knn_acc`` is the kNN monitor's, where it is among the probes."""

    acc: Rate
    knn_acc: Rate | None
    test_images: int
    classes: tuple[str, ...]
    target_class: str | None = None
    asr: Rate | None = None
    base: Rate | None = None
    net: float | None = None
    triggered_acc: Rate | None = None
    asr_all: Rate | None = None
    asr_net: Difference | None = None
    probes: tuple[ProbeResult, ...] = ()


def summarise(
    probes: tuple[ProbeResult, ...], test_images: int, classes: tuple[str, ...], target: int | None
) -> Evaluation:
    """The evaluation whose headline is the first of ``probes``."""
    first = probes[0]
    return Evaluation(
        acc=first.acc,
        knn_acc=next((row.acc for row in probes if row.name == "knn"), None),
        test_images=test_images,
        classes=classes,
        target_class=None if target is None else classes[target],
        asr=first.asr,
        base=first.base,
        net=None if first.net is None else first.net.points,
        triggered_acc=first.triggered_acc,
        asr_all=first.asr_all,
        asr_net=first.asr_net,
        probes=probes,
    )
