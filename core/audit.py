"""One audit, from files to files: what the command line and the worker both call."""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from core.catalog import find_kind, read_parameters
from core.device import resolve_device
from core.encoders.load import load_encoder
from core.errors import AuditFailed, UsageError
from core.images.load import load_images
from core.kinds.findings import Findings, Subject
from core.report.write import Artifact, Inputs, write_artifacts
from core.run import Run
from core.stage_clock import StageClock
from core.types import Encoder, ImageSet, Verdict

__all__ = ["Artifact", "AuditOutcome", "AuditRequest", "run_audit"]


@dataclass(frozen=True)
class AuditRequest:
    """What to audit. ``card`` and ``parameters`` are as the user gave them, not yet checked."""

    kind: str
    encoder: Path | None
    images: Path
    card: Mapping[str, Any] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0  # where the parameters name none
    device: str = "auto"
    encoder_name: str | None = None  # the user's name for the file, where the path is a server's
    images_name: str | None = None
    container: str | None = None  # suffix of the delivered encoder (.safetensors, .pt, .pth); None: as it came


@dataclass(frozen=True)
class AuditOutcome:
    """``report`` is the report's JSON (also the artifact report.json); verdict, score and threshold are about the
    encoder that was given. The artifact ``encoder`` is there if the kind yields one."""

    verdict: Verdict
    score: float | None
    threshold: float | None
    report: Mapping[str, Any]
    artifacts: tuple[Artifact, ...]


def run_audit(request: AuditRequest, output: Path, run: Run) -> AuditOutcome:
    """Run the audit and write its artifacts into the existing folder ``output``.

    Raises:
        AuditError: with the problem in words for the user. Cancelled: when ``run`` was asked to stop.
    """
    began, started = time.monotonic(), datetime.now(UTC)
    kind = find_kind(request.kind)
    settings = read_parameters(kind, request.parameters)
    device = resolve_device(request.device)
    path = _encoder_path(request)
    clock = StageClock(run)
    with failures_explained():
        loaded = load_encoder(path, card=request.card, name=request.encoder_name)
        images = load_images(request.images, loaded.encoder.image_size, name=request.images_name)
        encoder = loaded.encoder.to(device).eval()
        check_features(encoder, images)
        seed = request.seed if settings.seed is None else settings.seed
        findings = kind.run(Subject(encoder, images, seed), settings, clock)
        check_findings(findings)
        inputs = Inputs(
            kind=kind.key,
            loaded=loaded,
            encoder_path=path,
            container=request.container,
            encoder_name=request.encoder_name or path.name,
            images=images,
            images_name=request.images_name or request.images.name,
            chosen=settings.chosen,
            seed=seed,
            device=device,
            started=started,
            began=began,
            stages=clock.times,
        )
        report, artifacts = write_artifacts(findings, inputs, output)
    detection = findings.detection
    return AuditOutcome(detection.verdict, detection.score, detection.threshold, report.to_json(), artifacts)


def _encoder_path(request: AuditRequest) -> Path:
    if request.encoder is None:
        raise UsageError(
            "missing_encoder",
            field="encoder",
            found="no encoder",
            expected=f"an encoder file for an audit of kind {request.kind}",
            action="Name or upload one.",
        )
    return request.encoder


@torch.no_grad()
def check_features(encoder: Encoder, images: ImageSet) -> None:
    """Refuse an encoder that no method can judge, before hours are spent on it.

    Raises:
        AuditFailed: features that are not finite.
    """
    if not bool(torch.isfinite(encoder(images.batch(slice(0, 64), encoder.device))).all()):
        raise AuditFailed(
            "features_not_finite",
            field="encoder",
            found="features of clean images that are NaN or infinite",
            expected="finite features",
            action="Check the card's mean and std, and that the weights are those of a finished training run.",
        )


def check_findings(findings: Findings) -> None:
    """A score that is not a number must not turn into a verdict.

    Raises:
        AuditFailed: a score or threshold is NaN or infinite.
    """
    planted = (canary.detection for canary in findings.canaries or ())
    for detection in filter(None, (findings.detection, findings.verification, *planted)):
        numbers = [detection.score, detection.threshold, *(row.score for row in detection.hypotheses)]
        if not all(number is None or math.isfinite(number) for number in numbers):
            raise AuditFailed(
                "not_finite",
                field="score",
                found=f"{detection.method} ended in a score that is NaN or infinite",
                expected="finite numbers throughout",
                action="Try another seed or a smaller learning rate; report it if it persists.",
            )


@contextmanager
def failures_explained() -> Iterator[None]:
    """Turn the machine's own failures (memory, disk) into words; everything else passes unchanged."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(error) from error
    except RuntimeError as error:
        # PyTorch's CPU allocator has no exception class of its own.
        if "can't allocate memory" not in str(error) and "not enough memory" not in str(error):
            raise
        raise _out_of_memory(error) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise AuditFailed(
            "disk_full",
            field="output",
            found="no space left while writing the results",
            expected="room for the report and the purified encoder",
            action="Free some space and run the audit again.",
        ) from error


def _out_of_memory(error: BaseException) -> AuditFailed:
    return AuditFailed(
        "out_of_memory",
        field="device",
        found=f"memory ran out ({str(error).splitlines()[0][:160] if str(error) else type(error).__name__})",
        expected="an encoder and batches that fit",
        action="Use a device with more memory, or a smaller batch size (see 'encoder-audit methods').",
    )
