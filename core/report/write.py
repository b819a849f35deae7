"""The files that an audit leaves behind."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from core.encoders.load import LoadedEncoder
from core.encoders.write import write_encoder
from core.encoders.write_folder import copy_folder
from core.kinds.findings import Findings, SetFindings
from core.report.artifacts import DELIVERED, Artifact, Inputs, artifact_row
from core.report.build import Circumstances, build_report
from core.report.cleansing_files import write_cleansing
from core.report.encoder import encoder_part
from core.report.model import ImagesPart, RejectedRow, Report, StageRow
from core.report.page import render_page
from core.report.pictures import Picture, trigger_pictures
from core.run import Run
from core.triggers import save_trigger
from core.types import Encoder, ImageSet


def write_artifacts(
    findings: Findings | SetFindings, inputs: Inputs, output: Path, run: Run
) -> tuple[Report, tuple[Artifact, ...]]:
    """Write every artifact of the audit into the folder ``output``; the report lists them with their digests.

    Raises:
        AuditError: as the files of each kind say. Cancelled: when ``run`` was asked to stop.
    """
    if isinstance(findings, SetFindings):
        evidence, pictures = write_cleansing(findings, inputs, output, run)
    else:
        drawn, pictures = _draw(findings, inputs.images, output)
        evidence = (*drawn, *_deliver(findings, inputs, output))
    rows = [artifact_row(artifact) for artifact in evidence]
    report = build_report(
        findings,
        Circumstances(
            kind=inputs.kind,
            encoder=encoder_part(findings, inputs, rows),
            images=_images_part(inputs),
            image_names=inputs.images.names,
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
    assert inputs.loaded is not None and inputs.encoder_path is not None  # kinds that deliver one require one
    if inputs.loaded.source.folder is not None and inputs.container != ".safetensors":
        return (
            _deliver_folder(findings.delivered, inputs.loaded, inputs, output, changed=findings.unlearning is not None),
        )
    checkpoint = inputs.loaded.source.is_checkpoint
    suffix = inputs.container or (".pt" if checkpoint else ".safetensors")
    path = output / f"purified{suffix}"
    same_form = inputs.loaded.source.folder is None and checkpoint == (suffix != ".safetensors")
    if findings.unlearning is None and same_form:
        shutil.copyfile(inputs.encoder_path, path)
    else:
        write_encoder(inputs.loaded, findings.delivered, path)
    return (Artifact(DELIVERED, path, "application/octet-stream"),)


def _deliver_folder(
    delivered: Encoder, loaded: LoadedEncoder, inputs: Inputs, output: Path, *, changed: bool
) -> Artifact:
    """What came as a folder or a zip of one, as such again."""
    assert inputs.encoder_path is not None and loaded.source.folder is not None
    came_zipped = not inputs.encoder_path.is_dir()
    zipped = came_zipped if inputs.container is None else inputs.container == ".zip"
    path = output / ("purified.zip" if zipped else "purified")
    if not changed and zipped and came_zipped:
        shutil.copyfile(inputs.encoder_path, path)
    elif not changed and not zipped and not came_zipped:
        copy_folder(loaded.source.folder, inputs.encoder_path, path)
    else:
        write_encoder(loaded, delivered, path)
    return Artifact(DELIVERED, path, "application/zip" if zipped else "application/octet-stream")


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


def _images_part(inputs: Inputs) -> ImagesPart:
    return ImagesPart(
        name=inputs.images_name,
        count=len(inputs.images),
        distinct=inputs.images.distinct,
        rejected=[RejectedRow(name=image.name, reason=image.reason) for image in inputs.images.rejected],
        notes=list(inputs.images.notes),
        digest=inputs.images.digest,
    )
