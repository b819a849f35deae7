"""The papers' preset, from the request's parameters to a purified and re-examined encoder."""

from __future__ import annotations

from core.catalog import KINDS, read_parameters
from core.kinds.findings import Subject
from core.recovery.ssldefender_search import SSLDefenderConfig
from core.run import QuietRun
from core.types import Verdict
from core.unlearning.ssldefender import UnlearningConfig
from tests.planted import planted_images, planted_patch

FEW_STEPS = {
    "detection": {
        "steps": 2,
        "additive_steps": 2,
        "spectral_steps": 2,
        "target_steps": 3,
        "batch_size": 16,
        "square_stride": 0.25,
    },
    "purification": {"steps": 4, "teacher_steps": 2, "batch_size": 16},
}


def test_detection_and_unlearning_take_the_papers_values_and_run_to_the_end() -> None:
    kind = KINDS["purify"]
    settings = read_parameters(kind, {"preset": "paper", **FEW_STEPS})
    chosen = settings.chosen
    detection, purification = chosen["detection"].config, chosen["purification"].config
    assert isinstance(detection, SSLDefenderConfig) and isinstance(purification, UnlearningConfig)
    assert (detection.mi_weight, detection.thresholds) == (0.1, (0.25, 0.5, 0.75, 1.0))
    assert (purification.distance, purification.detach_clean) == ("sliced_wasserstein", False)
    assert (purification.learning_rate, purification.train_batch_norm) == (1e-3, False)

    planted = planted_patch()
    findings = kind.run(Subject(planted.encoder, planted_images(96), 0), settings, QuietRun())
    assert findings.detection.verdict is Verdict.BACKDOORED
    assert findings.unlearning is not None and findings.unlearning.steps == 4
    assert findings.verification is not None
    assert findings.delivered is findings.unlearning.student
