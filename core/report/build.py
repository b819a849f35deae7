"""From findings to the report's JSON."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch

from core.device import is_gpu
from core.kinds.findings import Findings, SetFindings
from core.methods import Choice
from core.recovery.detection import Detection
from core.report.canaries import canaries_part
from core.report.charts import thinned
from core.report.cleansing import cleansing_part
from core.report.model import (
    ArtifactRow,
    CanariesPart,
    EncoderPart,
    HypothesisRow,
    ImagesPart,
    MethodPart,
    PurificationPart,
    Report,
    StageRow,
    TriggerRow,
    VersionsPart,
)
from core.report.set_model import CleansingPart
from core.types import Verdict


@dataclass(frozen=True)
class Circumstances:
    """What the report tells beside the findings: when, where, from what and how long."""

    kind: str
    encoder: EncoderPart
    images: ImagesPart
    chosen: Mapping[str, Choice[Any]]
    seed: int
    device: torch.device
    started: str
    elapsed_seconds: float
    stages: Sequence[StageRow]
    artifacts: Sequence[ArtifactRow]
    delivered_sha256: str | None
    image_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Conclusion:
    """What the findings themselves say."""

    verdict: Verdict
    reasons: Sequence[str]
    untested: Sequence[str]
    score: float | None = None
    threshold: float | None = None
    margin: float | None = None
    clean_similarity: float | None = None
    hypotheses: Sequence[HypothesisRow] = ()
    triggers: Sequence[TriggerRow] = ()
    purification: PurificationPart | None = None
    canaries: CanariesPart | None = None
    cleansing: CleansingPart | None = None


def build_report(findings: Findings | SetFindings, circumstances: Circumstances) -> Report:
    """The report of one audit; every number comes from ``findings``, nothing is computed anew."""
    if isinstance(findings, SetFindings):
        concluded = _about_set(findings, circumstances)
    else:
        concluded = _about_encoder(findings, circumstances)
    return Report(
        kind=circumstances.kind,
        verdict=concluded.verdict,
        score=concluded.score,
        threshold=concluded.threshold,
        margin=concluded.margin,
        reasons=list(concluded.reasons),
        untested=list(concluded.untested),
        clean_similarity=concluded.clean_similarity,
        hypotheses=list(concluded.hypotheses),
        triggers=list(concluded.triggers),
        encoder=circumstances.encoder,
        images=circumstances.images,
        purification=concluded.purification,
        canaries=concluded.canaries,
        cleansing=concluded.cleansing,
        methods={name: _method(choice) for name, choice in _used(findings, circumstances).items()},
        seed=circumstances.seed,
        device=_device_name(circumstances.device),
        versions=VersionsPart(
            encoder_audit=version("encoder-audit"), torch=torch.__version__, python=platform.python_version()
        ),
        started=circumstances.started,
        elapsed_seconds=circumstances.elapsed_seconds,
        stages=list(circumstances.stages),
        artifacts=list(circumstances.artifacts),
    )


def _about_encoder(findings: Findings, circumstances: Circumstances) -> _Conclusion:
    detection = findings.detection
    return _Conclusion(
        verdict=detection.verdict,
        score=detection.score,
        threshold=detection.threshold,
        margin=detection.margin,
        reasons=detection.reasons,
        untested=detection.untested,
        clean_similarity=detection.clean_similarity,
        hypotheses=_hypotheses(detection),
        triggers=[
            TriggerRow(
                hypothesis=found.hypothesis,
                similarity=found.similarity,
                size=found.size,
                size_unit=found.size_unit,
                area=found.trigger.area(),
            )
            for found in detection.triggers
        ],
        purification=_purification(findings, circumstances.delivered_sha256),
        canaries=canaries_part(findings.canaries),
    )


def _about_set(findings: SetFindings, circumstances: Circumstances) -> _Conclusion:
    found = findings.cleansing
    return _Conclusion(
        verdict=found.verdict,
        reasons=found.reasons,
        untested=found.out_of_reach,
        cleansing=cleansing_part(findings, circumstances.image_names, circumstances.chosen["threat_model"]),
    )


def _used(findings: Findings | SetFindings, circumstances: Circumstances) -> Mapping[str, Choice[Any]]:
    """The methods that ran: no threat model is trained where an encoder was given."""
    if isinstance(findings, SetFindings) and findings.training is None:
        return {name: choice for name, choice in circumstances.chosen.items() if name != "threat_model"}
    return circumstances.chosen


def _hypotheses(detection: Detection) -> list[HypothesisRow]:
    return [
        HypothesisRow(
            name=row.name,
            kind=row.key,
            score=row.score,
            threshold=row.threshold,
            scores=list(row.scores),
            expected=row.expected,
            doubtful=row.doubtful,
            excess=row.excess,
            whole=row.raw_similarity,
            null=row.null,
            blown_up=list(row.blown_up),
        )
        for row in detection.hypotheses
    ]


def _method(choice: Choice[Any]) -> MethodPart:
    return MethodPart(
        key=choice.method.key,
        title=choice.method.title,
        preset=choice.preset,
        overrides=dict(choice.overrides),
        config=choice.config.model_dump(mode="json"),
    )


def _purification(findings: Findings, delivered_sha256: str | None) -> PurificationPart | None:
    if findings.delivered is None or delivered_sha256 is None:
        return None
    before, unlearnt = findings.detection, findings.unlearning
    after = findings.verification or before
    return PurificationPart(
        performed=unlearnt is not None,
        explanation=_explanation(findings),
        verdict_before=before.verdict,
        score_before=before.score,
        threshold_before=before.threshold,
        decided_by_before=before.decided_by,
        verdict=after.verdict,
        score=after.score,
        threshold=after.threshold,
        decided_by=after.decided_by,
        sha256=delivered_sha256,
        drift=unlearnt.drift if unlearnt else None,
        neighbour_agreement=unlearnt.neighbour_agreement if unlearnt else None,
        initial_similarity=unlearnt.initial_similarity if unlearnt else None,
        residual_similarity=unlearnt.residual_similarity if unlearnt else None,
        steps=unlearnt.steps if unlearnt else None,
        loss=thinned(unlearnt.history) if unlearnt else [],
        hypotheses=_hypotheses(findings.verification) if findings.verification else [],
        notes=list(unlearnt.notes) if unlearnt else [],
    )


def _explanation(findings: Findings) -> str:
    before, again = findings.detection.verdict, findings.verification
    if again is None:
        why = "it is clean" if before == "clean" else f"it is {before}, but no candidate trigger was recovered"
        return f"There was nothing to unlearn ({why}): the encoder is delivered as it came."
    if again.verdict == "clean":
        return "The recovered trigger was unlearnt; the same detection calls the purified encoder clean."
    return (
        f"The recovered trigger was unlearnt, but the same detection calls the purified encoder {again.verdict}. "
        "Do not deploy it on this evidence."
    )


def _device_name(device: torch.device) -> str:
    if is_gpu(device):
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
