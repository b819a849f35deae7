"""The files that an audit leaves behind."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from core.encoders.load import LoadedEncoder
from core.encoders.write import write_encoder
from core.kinds.findings import Findings
from core.methods import Choice
from core.report.build import Circumstances, build_report
from core.report.model import ArtifactRow, EncoderPart, ImagesPart, RejectedRow, Report, StageRow
from core.report.page import render_page
from core.report.pictures import Picture, trigger_pictures
from core.stage_clock import StageTime
from core.triggers import save_trigger
from core.types import ImageSet

REPORT_FILES = ("report.json", "report.html", "trigger.png", "mask.png", "triggered_samples.png", "trigger.npz")
"""Names of the artifacts that make up the report; a report may lack some."""

DELIVERED = "encoder"
"""Name of the artifact that is the purified encoder, whatever its file is called."""


@dataclass(frozen=True)
class Artifact:
    """A file an audit leaves behind. ``name`` is stable: report.json, report.html, trigger.png, mask.png,
    triggered_samples.png, trigger.npz, encoder."""

    name: str
    path: Path
    media_type: str


@dataclass(frozen=True)
class Inputs:
    """What the audit was given and how it was run. ``began`` is the start on the monotonic clock, in seconds."""

    kind: str
    loaded: LoadedEncoder
    encoder_path: Path
    container: str | None
    encoder_name: str
    images: ImageSet
    images_name: str
    chosen: Mapping[str, Choice[Any]]
    seed: int
    device: torch.device
    started: datetime
    began: float
    stages: Sequence[StageTime]


def write_artifacts(findings: Findings, inputs: Inputs, output: Path) -> tuple[Report, tuple[Artifact, ...]]:
    """Write every artifact of the audit into the folder ``output``; the report lists them with their digests."""
    delivered = _deliver(findings, inputs, output)
    drawn, pictures = _draw(findings, inputs.images, output)
    evidence = (*drawn, *delivered)
    rows = [_row(artifact) for artifact in evidence]
    report = build_report(
        findings,
        Circumstances(
            kind=inputs.kind,
            encoder=_encoder_part(inputs),
            images=_images_part(inputs),
            chosen=inputs.chosen,
            seed=inputs.seed,
            device=inputs.device,
            started=inputs.started.isoformat(timespec="seconds"),
            elapsed_seconds=round(time.monotonic() - inputs.began, 3),
            stages=[StageRow(name=s.name, steps=s.steps, seconds=round(s.seconds, 3)) for s in inputs.stages],
            artifacts=rows,
            delivered_sha256=next((row.sha256 for row in rows if row.name == DELIVERED), None),
        ),
    )
    document, page = output / "report.json", output / "report.html"
    document.write_text(json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    page.write_text(render_page(report, pictures), encoding="utf-8")
    written = (
        Artifact("report.json", document, "application/json"),
        Artifact("report.html", page, "text/html; charset=utf-8"),
        *evidence,
    )
    return report, written


def _deliver(findings: Findings, inputs: Inputs, output: Path) -> tuple[Artifact, ...]:
    """The encoder to hand out, in the form in which it came unless the request names another; the very same bytes
    where nothing was unlearnt and the form is the same."""
    if findings.delivered is None:
        return ()
    checkpoint = inputs.loaded.source.is_checkpoint
    suffix = inputs.container or (".pt" if checkpoint else ".safetensors")
    path = output / f"purified{suffix}"
    if findings.unlearning is None and checkpoint == (suffix != ".safetensors"):
        shutil.copyfile(inputs.encoder_path, path)
    else:
        write_encoder(inputs.loaded, findings.delivered, path)
    return (Artifact(DELIVERED, path, "application/octet-stream"),)


def _draw(findings: Findings, images: ImageSet, output: Path) -> tuple[tuple[Artifact, ...], tuple[Picture, ...]]:
    """Pictures and file of the best candidate trigger; none where there is no candidate."""
    if not findings.detection.triggers:
        return (), ()
    trigger = findings.detection.triggers[0].trigger
    pictures = trigger_pictures(trigger, images)
    for picture in pictures:
        (output / picture.name).write_bytes(picture.png)
    save_trigger(output / "trigger.npz", trigger)
    drawn = [Artifact(picture.name, output / picture.name, "image/png") for picture in pictures]
    return (*drawn, Artifact("trigger.npz", output / "trigger.npz", "application/octet-stream")), pictures


def _encoder_part(inputs: Inputs) -> EncoderPart:
    loaded = inputs.loaded
    return EncoderPart(
        name=inputs.encoder_name,
        sha256=loaded.digest,
        bytes=inputs.encoder_path.stat().st_size,
        architecture=loaded.card.architecture,
        parameters=loaded.parameters,
        feature_dim=loaded.encoder.feature_dim,
        image_size=loaded.encoder.image_size,
        dropped_keys=list(loaded.dropped),
        notes=list(loaded.notes),
    )


def _images_part(inputs: Inputs) -> ImagesPart:
    return ImagesPart(
        name=inputs.images_name,
        count=len(inputs.images),
        rejected=[RejectedRow(name=image.name, reason=image.reason) for image in inputs.images.rejected],
        digest=inputs.images.digest,
    )


def _row(artifact: Artifact) -> ArtifactRow:
    with artifact.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ArtifactRow(
        name=artifact.name, media_type=artifact.media_type, bytes=artifact.path.stat().st_size, sha256=digest
    )
