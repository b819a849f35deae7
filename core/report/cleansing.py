"""What a cleansing found, as part of the report."""

from __future__ import annotations

import torch
from torch import Tensor

from core.cleansing.result import Candidate, Cleansing
from core.kinds.findings import SetFindings
from core.methods import Choice, Train
from core.report.set_model import (
    CandidateRow,
    CleansingPart,
    DistributionPart,
    DuplicatesPart,
    FlaggedRow,
    RoundRow,
    ThreatModelPart,
)

FLAGGED = 100
"""Removed images that the report names; removed.csv names all."""

GROUPS, OF_A_GROUP = 50, 20
"""Groups of duplicates that the report names, and names of each; duplicates.csv has all."""


def cleansing_part(findings: SetFindings, names: tuple[str, ...], threat_model: Choice[Train]) -> CleansingPart:
    """The part; ``names`` are those of the set's images."""
    found = findings.cleansing
    return CleansingPart(
        kept=len(names) - found.removed,
        removed=found.removed,
        scored=found.scored,
        clusters=found.clusters,
        flip_images=found.flip_images,
        window=found.window,
        candidates=[_candidate(each) for each in found.candidates],
        flagged=[_flagged(found, names, index) for index in ranked_removed(found)[:FLAGGED]],
        rounds=[
            RoundRow(clusters=r.clusters, dropped=r.dropped, scored=r.scored, best=r.best, bar=r.bar)
            for r in found.rounds
        ],
        distribution=_distribution(found),
        duplicates=_duplicates(findings.duplicates),
        threat_model=_threat_model(findings, threat_model),
        notes=list(found.notes),
    )


def ranked_removed(found: Cleansing) -> list[int]:
    """Indices of the images that are not kept, the highest probability of poison first."""
    removed = (~found.keep).nonzero().flatten()
    order = torch.argsort(found.findings.classifier_score[removed], descending=True, stable=True)
    indices: list[int] = removed[order].tolist()
    return indices


def poison_score(found: Cleansing, index: int) -> float | None:
    """The image's poison score in flip images; None where it was not scored."""
    return number(found.findings.poison_score[index])


def number(value: Tensor) -> float | None:
    """A score of the findings; None for NaN, which says that there is none."""
    return None if bool(value.isnan()) else float(value)


def _candidate(candidate: Candidate) -> CandidateRow:
    return CandidateRow(
        rank=candidate.rank,
        name=candidate.name,
        top=candidate.window.top,
        left=candidate.window.left,
        size=candidate.window.side,
        cluster=candidate.cluster,
        score=candidate.score,
        flips=candidate.flips,
        changed=candidate.changed,
        group=candidate.group,
        found_by=candidate.found_by,
    )


def _flagged(found: Cleansing, names: tuple[str, ...], index: int) -> FlaggedRow:
    return FlaggedRow(
        name=names[index],
        classifier_score=float(found.findings.classifier_score[index]),
        match_score=number(found.findings.match_score[index]),
        poison_score=poison_score(found, index),
        cluster=int(found.findings.cluster[index]),
    )


def _distribution(found: Cleansing) -> DistributionPart | None:
    scores = found.distribution
    if scores is None:
        return None
    return DistributionPart(edges=list(scores.edges), counts=list(scores.counts), cut=scores.cut)


def _duplicates(groups: tuple[tuple[str, ...], ...]) -> DuplicatesPart:
    largest = sorted(groups, key=len, reverse=True)[:GROUPS]
    return DuplicatesPart(
        groups=len(groups), images=sum(map(len, groups)), largest=[list(group[:OF_A_GROUP]) for group in largest]
    )


def _threat_model(findings: SetFindings, choice: Choice[Train]) -> ThreatModelPart | None:
    training = findings.training
    if training is None:
        return None
    return ThreatModelPart(
        method=choice.method.key,
        steps=training.steps,
        epochs=choice.config.model_dump()["epochs"],
        first_loss=training.curve[0].loss,
        last_loss=training.curve[-1].loss,
    )
