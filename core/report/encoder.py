"""The encoder that an audit is about, or that judged a set of images, as part of the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core.kinds.findings import Findings, SetFindings
from core.report.artifacts import THREAT_MODEL, Inputs
from core.report.model import ArtifactRow, EncoderPart

TRAINED_HERE = (
    "No encoder was given: this one was trained on the suspect images for this audit. It is as poisoned as they are; "
    "use it for nothing but a repetition of this audit."
)


def encoder_part(findings: Findings | SetFindings, inputs: Inputs, rows: Sequence[ArtifactRow]) -> EncoderPart:
    """The part; ``rows`` are the artifacts, among which is the file of an encoder that was trained here."""
    loaded, path = inputs.loaded, inputs.encoder_path
    if loaded is not None and path is not None:
        return EncoderPart(
            name=inputs.encoder_name or path.name,
            sha256=loaded.digest,
            bytes=_size(path),
            architecture=loaded.card.architecture,
            parameters=loaded.parameters,
            feature_dim=loaded.encoder.feature_dim,
            image_size=loaded.encoder.image_size,
            dropped_keys=list(loaded.dropped),
            audited=inputs.reading.audited,
            assumptions=list(inputs.reading.assumptions),
            notes=list(inputs.reading.notes),
        )
    assert isinstance(findings, SetFindings) and findings.training is not None and inputs.subject.fresh is not None
    trained = findings.training.encoder
    file = next(row for row in rows if row.name == THREAT_MODEL)
    return EncoderPart(
        name=THREAT_MODEL,
        sha256=file.sha256,
        bytes=file.bytes,
        architecture=inputs.subject.fresh.architecture,
        parameters=sum(weight.numel() for weight in trained.backbone.parameters()),
        feature_dim=trained.feature_dim,
        image_size=trained.image_size,
        dropped_keys=[],
        audited=inputs.reading.audited,
        assumptions=list(inputs.reading.assumptions),
        notes=[TRAINED_HERE],
    )


def _size(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return (
        sum(file.stat().st_size for file in path.iterdir() if file.is_file()) if path.is_dir() else path.stat().st_size
    )
