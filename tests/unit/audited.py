"""Findings written by hand, as an audit of a tiny backdoored encoder would end: for tests of what comes after it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import torch
from torch import nn

from core.kinds.findings import Findings
from core.methods import Choice
from core.random import generator
from core.recovery.detection import Detection, HypothesisResult, RecoveredTrigger
from core.registry import DETECTION, PURIFICATION
from core.report.build import Circumstances
from core.report.model import ArtifactRow, EncoderPart, ImagesPart, RejectedRow, StageRow
from core.triggers import AdditiveTrigger, MaskedTrigger
from core.types import Encoder, ImageSet, Verdict
from core.unlearning.result import Unlearning

SIZE = 32
HOSTILE = "</script><img src=x onerror=alert(1)>.safetensors"


def images(count: int = 60) -> ImageSet:
    """Smooth random images."""
    coarse = torch.rand(count, 3, 4, 4, generator=generator(0, "audited images"))
    pixels = nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic").clamp(0, 1).mul(255).round().byte()
    return ImageSet(pixels, tuple(f"{i:03}.png" for i in range(count)), "ab" * 32)


def encoder() -> Encoder:
    """An untrained encoder of the right shape."""
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 8))
    return Encoder(
        backbone, name="tiny", image_size=(SIZE, SIZE), feature_dim=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
    )


def patch() -> MaskedTrigger:
    """A random 6 x 6 patch in the lower right corner."""
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, -8:-2, -8:-2] = 1
    return MaskedTrigger(mask, torch.rand(3, SIZE, SIZE, generator=generator(0, "audited patch")))


def backdoored() -> Detection:
    """A masked patch found beyond doubt, an additive candidate below its threshold."""
    additive = AdditiveTrigger(torch.full((3, SIZE, SIZE), 8 / 255))
    return Detection(
        method="ssldefender",
        verdict=Verdict.BACKDOORED,
        score=0.97,
        threshold=0.72,
        reasons=("A patch of 3.5% of the image makes unrelated images alike (cosine 0.97 against 0.41 when clean).",),
        hypotheses=(
            HypothesisResult("masked patch", 0.97, 0.72, (0.97, 0.95, 0.61), key="masked@0.03"),
            HypothesisResult("additive", 0.5, 0.72, (0.5, 0.48), key="additive@0.047"),
        ),
        triggers=(
            RecoveredTrigger("masked patch", patch(), 0.97, 0.035, "fraction of pixels"),
            RecoveredTrigger("additive", additive, 0.5, 8 / 255, "largest change"),
        ),
        clean_similarity=0.41,
        untested=("Triggers that differ from image to image.",),
    )


def blown_up() -> Detection:
    """A masked patch over its threshold that proves nothing."""
    found = backdoored()
    masked = replace(found.hypotheses[0], blown_up=(0.97,))
    return replace(
        found,
        verdict=Verdict.INCONCLUSIVE,
        reasons=("It drives the encoder out of its range.",),
        hypotheses=(masked, *found.hypotheses[1:]),
        blown_up=True,
    )


def clean() -> Detection:
    """Nothing found, and no candidate."""
    return Detection(
        method="ssldefender",
        verdict=Verdict.CLEAN,
        score=0.44,
        threshold=0.72,
        reasons=("No trigger reaches its threshold.",),
        hypotheses=(HypothesisResult("masked patch", 0.44, 0.72, (0.44, 0.4), key="masked@0.03"),),
        clean_similarity=0.41,
    )


def unlearnt() -> Unlearning:
    """A purification of 300 steps whose loss halves again and again."""
    return Unlearning(
        student=encoder(),
        drift=0.012,
        neighbour_agreement=0.942,
        initial_similarity=0.97,
        residual_similarity=0.43,
        steps=300,
        history=tuple(2.0 * 0.985**step + 0.02 for step in range(300)),
        notes=("The utility guard stopped training after 300 of 400 steps.",),
    )


def purified() -> Findings:
    """Backdoored before, clean after."""
    result = unlearnt()
    return Findings(backdoored(), result, clean(), delivered=result.student)


def circumstances(kind: str = "purify", *, name: str = "resnet18-simclr.safetensors") -> Circumstances:
    """An audit on a CPU, half a minute long."""
    chosen = {
        "detection": Choice(DETECTION[0], "default", DETECTION[0].config()),
        "purification": Choice(PURIFICATION[0], "default", PURIFICATION[0].config()),
    }
    return Circumstances(
        kind=kind,
        encoder=EncoderPart(
            name=name,
            sha256="0f" * 32,
            bytes=22_367_896,
            architecture="torchvision/resnet18",
            parameters=11_168_832,
            feature_dim=512,
            image_size=(SIZE, SIZE),
            dropped_keys=["projector.0.weight", "projector.0.bias"],
            audited="torchvision/resnet18 at 32x32, mean 0.5 0.5 0.5, std 0.2 0.2 0.2; read by the file's own card.",
            assumptions=["The student was audited & not the teacher."],
            notes=["The file lacks 20 batch counters, which do not change any feature."],
        ),
        images=ImagesPart(
            name="shadow.zip",
            count=498,
            distinct=490,
            rejected=[RejectedRow(name="notes.txt", reason="not an image")],
            digest="ab" * 32,
            notes=["490 of the 498 images are distinct & the others repeat them."],
        ),
        chosen=chosen if kind == "purify" else {"detection": chosen["detection"]},
        seed=7,
        device=torch.device("cpu"),
        started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).isoformat(),
        elapsed_seconds=131.4,
        stages=[
            StageRow(name="recover masked patch", steps=300, seconds=61.0),
            StageRow(name="recover additive", steps=300, seconds=40.2),
            StageRow(name="unlearn", steps=300, seconds=22.1),
        ],
        artifacts=[
            ArtifactRow(name="trigger.png", media_type="image/png", bytes=740, sha256="cd" * 32),
            ArtifactRow(name="encoder", media_type="application/octet-stream", bytes=22_367_896, sha256="ef" * 32),
        ],
        delivered_sha256="ef" * 32 if kind == "purify" else None,
    )
