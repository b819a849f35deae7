"""One audit, from files to files: what the command line and the worker both call."""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from core.allocator import kept_memory
from core.catalog import AuditKind, Settings, budgets_of, find_kind, read_parameters
from core.device import resolve_device
from core.encoders.first_statistics import why_other_pixels
from core.encoders.fresh import fresh_encoder
from core.encoders.load import LoadedEncoder, load_encoder
from core.encoders.reading import TRAINED_HERE, Reading, audited
from core.encoders.size_of_images import require_size_like_images
from core.errors import AuditFailed, UsageError
from core.forecast.forecast import Forecast, forecast_of
from core.forecast.limit import check_limit
from core.forecast.weighed_run import WeighedRun
from core.images.load import load_images
from core.images.notes import notes_on
from core.images.sizes import usual_size
from core.kinds.findings import Findings, SetFindings, Subject
from core.memory import current_budget, memory_budget
from core.memory_size import LEAST, in_words
from core.micro_batches import features_in_chunks
from core.report.artifacts import THREAT_MODEL, Artifact, Inputs
from core.report.write import write_artifacts
from core.run import Run
from core.stage_clock import StageClock
from core.types import Encoder, ImageSet, Verdict

__all__ = ["Artifact", "AuditOutcome", "AuditRequest", "forecast_audit", "run_audit"]


@dataclass(frozen=True)
class AuditRequest:
    """What to audit. ``encoder`` may be None for kinds that do without it. ``card`` and ``parameters`` are as the user
    gave them, not yet checked."""

    kind: str
    encoder: Path | None
    images: Path
    card: Mapping[str, Any] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0  # where the parameters name none
    device: str = "auto"
    memory: int | None = None  # bytes that passes of the encoder may take; None: a quarter of what is free
    encoder_name: str | None = None  # the user's name for the file, where the path is a server's
    images_name: str | None = None
    copy: str | None = None  # which copy of the encoder, where its file holds several; before the card's
    container: str | None = None  # suffix of the delivered encoder (.safetensors, .pt, .pth); None: as it came
    # hears what was read and assumed, and the notes on the images, before the search
    on_read: Callable[[Reading, Sequence[str]], None] = lambda reading, notes: None
    time_limit: float | None = None  # seconds; what is sure to take longer is refused before the search
    on_forecast: Callable[[Forecast], None] = lambda forecast: None  # hears what it will cost, before the search


@dataclass(frozen=True)
class AuditOutcome:
    """``report`` is the report's JSON (also the artifact report.json); verdict, score and threshold are about what was
    given: the encoder, or for ``cleanse`` the images. The artifact ``encoder`` is there if the kind yields one."""

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
    with kept_memory(), memory_budget(request.memory, resolve_device(request.device)), failures_explained():
        return _run(request, output, run)  # in a frame of its own, so that all it holds can go back to the system


def _run(request: AuditRequest, output: Path, run: Run) -> AuditOutcome:
    began, started = time.monotonic(), datetime.now(UTC)
    clock = StageClock(run)
    prepared = _prepared(request, clock)
    kind, settings, subject = prepared.kind, prepared.settings, prepared.subject
    loaded, reading, device = prepared.loaded, prepared.reading, subject.encoder.device
    forecast = _forecast(request, prepared, clock)
    findings = kind.run(subject, settings, WeighedRun(clock, forecast.stage_seconds))
    check_findings(findings)
    inputs = Inputs(
        kind=kind.key,
        subject=subject,
        loaded=loaded,
        reading=reading,
        encoder_path=request.encoder,
        container=request.container,
        encoder_name=request.encoder_name,
        images_path=request.images,
        images_name=request.images_name or request.images.name,
        chosen=settings.chosen,
        values=settings.values,
        device=device,
        started=started,
        began=began,
        stages=clock.times,
    )
    report, artifacts = write_artifacts(findings, inputs, output, run)
    return AuditOutcome(findings.verdict, findings.score, findings.threshold, report.to_json(), artifacts)


def forecast_audit(request: AuditRequest, run: Run) -> Forecast:
    """What the audit would cost: its files are read and its encoder is measured for a few seconds, and that is all.

    Raises:
        AuditError: what :func:`run_audit` would refuse before the search, ``time_limit`` included.
    """
    with memory_budget(request.memory, resolve_device(request.device)), failures_explained():
        return _forecast(request, _prepared(request, run), run)


@dataclass(frozen=True)
class _Prepared:
    """All that an audit has before it begins."""

    kind: AuditKind
    settings: Settings
    subject: Subject
    loaded: LoadedEncoder | None
    reading: Reading


def _prepared(request: AuditRequest, run: Run) -> _Prepared:
    kind = find_kind(request.kind)
    settings = read_parameters(kind, request.parameters)
    device = resolve_device(request.device)
    seed = request.seed if settings.seed is None else settings.seed
    _check_encoder(request, kind)
    subject, loaded, reading = _read(request, kind, settings, device, seed, run)
    request.on_read(reading, notes_on(subject.images))
    if loaded is not None:
        check_features(subject.encoder, subject.images)
    return _Prepared(kind, settings, subject, loaded, reading)


def _forecast(request: AuditRequest, prepared: _Prepared, run: Run) -> Forecast:
    """Measure, tell, and hold it against the limit."""
    kind, subject = prepared.kind, prepared.subject
    for _ in run.steps("measuring the encoder", 1):
        forecast = forecast_of(kind.outline(subject, prepared.settings), subject)
    request.on_forecast(forecast)
    if request.time_limit is not None and forecast.seconds_low > request.time_limit:
        budgets = budgets_of(kind, request.parameters)
        priced = {name: forecast.of_other(kind.outline(subject, settings)) for name, settings in budgets.items()}
        check_limit(request.time_limit, forecast, priced)
    return forecast


def _read(
    request: AuditRequest, kind: AuditKind, settings: Settings, device: torch.device, seed: int, run: Run
) -> tuple[Subject, LoadedEncoder | None, Reading]:
    """The encoder, or a fresh one where none was given, the images at its size, and how the encoder was read."""
    loaded, fresh = None, None
    if request.encoder is not None:
        for _ in run.steps("reading the encoder", 1):
            loaded = load_encoder(request.encoder, card=request.card, copy=request.copy, name=request.encoder_name)
            if loaded.size_assumed:
                require_size_like_images(loaded, usual_size(request.images))
            encoder, reading = loaded.encoder, loaded.reading
    else:
        assert kind.untrained_card is not None  # ``_check_encoder`` has refused the others
        fresh = kind.untrained_card(settings, usual_size(request.images))
        encoder = fresh_encoder(fresh, seed=seed, name=THREAT_MODEL)
        reading = Reading(audited(fresh, TRAINED_HERE))
    images = load_images(
        request.images,
        encoder.image_size,
        minimum=kind.least_images,
        name=request.images_name,
        distinct="encoder" in kind.inputs,  # of a set that is judged itself, repeated images are a part
        run=run,
    )
    encoder = encoder.to(device).eval()
    if loaded is not None:
        reading = reading.assuming(why_other_pixels(encoder, images))
    return Subject(encoder, images, seed, fresh), loaded, reading


def _check_encoder(request: AuditRequest, kind: AuditKind) -> None:
    if request.encoder is None and "encoder" in kind.inputs:
        raise UsageError(
            "missing_encoder",
            field="encoder",
            found="no encoder",
            expected=f"an encoder file for an audit of kind {kind.key}",
            action="Name or upload one.",
        )
    if request.encoder is None and (request.card is not None or request.copy is not None):
        raise UsageError(
            "card_without_encoder",
            field="card" if request.card is not None else "copy",
            found="a card, or the name of a copy, and no encoder",
            expected="the encoder that it describes, or neither",
            action="Add the encoder. What is trained where there is none is set by the parameters threat_model.",
        )


@torch.no_grad()
def check_features(encoder: Encoder, images: ImageSet) -> None:
    """Refuse an encoder that no method can judge, before hours are spent on it.

    Raises:
        AuditFailed: features that are not finite.
    """
    if not bool(torch.isfinite(features_in_chunks(encoder, images.batch(slice(0, 64), encoder.device))).all()):
        raise AuditFailed(
            "features_not_finite",
            field="encoder",
            found="features of clean images that are NaN or infinite",
            expected="finite features",
            action="Check the card's mean and std, and that the weights are those of a finished training run.",
        )


def check_findings(findings: Findings | SetFindings) -> None:
    """A score that is not a number must not turn into a verdict.

    Raises:
        AuditFailed: a score or threshold is NaN or infinite.
    """
    if isinstance(findings, SetFindings):
        for candidate in findings.cleansing.candidates:
            if not math.isfinite(candidate.score):
                raise _not_finite(findings.cleansing.method)
        return
    planted = (canary.detection for canary in findings.canaries or ())
    for detection in filter(None, (findings.detection, findings.verification, *planted)):
        numbers = [detection.score, detection.threshold, *(row.score for row in detection.hypotheses)]
        if not all(number is None or math.isfinite(number) for number in numbers):
            raise _not_finite(detection.method)


def _not_finite(method: str) -> AuditFailed:
    return AuditFailed(
        "not_finite",
        field="score",
        found=f"{method} ended in a score that is NaN or infinite",
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
    budget = current_budget()
    if budget is None:  # outside of an audit
        action = "Use fewer images, a smaller encoder, a smaller batch, or a device with more memory."
    else:
        action = (
            f"Allow the encoder's passes less than the {in_words(budget.size)} of this run: --memory "
            f"{in_words(max(LEAST, budget.size // 2))} (WORKER_MEMORY of a service's workers). Where that does not "
            "help, use fewer images, a smaller encoder or a device with more memory."
        )
    return AuditFailed(
        "out_of_memory",
        field="memory",
        found=f"memory ran out ({str(error).splitlines()[0][:160] if str(error) else type(error).__name__})",
        expected="room for the encoder, its images and the memory budget of its passes",
        action=action,
    )
