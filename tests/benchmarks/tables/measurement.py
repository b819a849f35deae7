"""ACC and ASR of an encoder whose truth is known: the only place here that reads a truth.

Headline numbers are the linear probe's on all labels of the part set aside for probes; those of the probe on 1 % of
them are kept beside. Of several backdoors each is measured.

On images of other classes than those the attack was made for (Table IV), a trigger leads to one point of the feature
space, and the class around it is the target: the one that the probe on the encoder *as given* gives most of the
triggered images. It is fixed before anything is purified.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from core.evaluation.accuracy import EvaluateConfig, KnownBackdoor, evaluate
from core.evaluation.frozen import frozen
from core.evaluation.probes import fit_probe
from core.images.labelled import LabelledImages
from core.run import Run, StageRun
from core.training.linear_probe import unit_features
from core.triggers import load_trigger
from core.types import Encoder, Trigger
from core.zoo.record import evaluation_json
from tests.benchmarks.tables.encoders import ZooEncoder
from tests.benchmarks.tables.images import ImageLibrary

PROBES = EvaluateConfig(probes=("linear", "linear-1pct"))
_SEED = 0
"""Of the draws of few labels: the same before and after, whatever the seed of the run."""


def measure(
    encoder: Encoder, truth: ZooEncoder, dataset: str, library: ImageLibrary, run: Run, targets: Sequence[str] = ()
) -> dict[str, Any]:
    """What ``encoder`` is worth on ``dataset``: one evaluation for each backdoor, or one without.

    ``targets`` are the classes that the triggers lead to, where they are known from an earlier measurement.
    """
    size = encoder.image_size
    train, test = library.to_fit(dataset, size), library.to_test(dataset, size)
    triggers = [load_trigger(backdoor.trigger) for backdoor in truth.backdoors]
    names = [*targets] or [
        backdoor.target if dataset == truth.dataset else where_it_leads(encoder, trigger, train, test, run)
        for backdoor, trigger in zip(truth.backdoors, triggers, strict=True)
    ]
    known = [KnownBackdoor(trigger, train.classes.index(name)) for trigger, name in zip(triggers, names, strict=True)]
    evaluations = [
        evaluation_json(evaluate(encoder, train, test, each, PROBES, StageRun(run, f"{dataset} {number}"), seed=_SEED))
        for number, each in enumerate(known or [None])
    ]
    return {
        "targets": names,
        "fitted_on": len(train.labels),
        "tested_on": len(test.labels),
        "evaluations": [_numbers(evaluation) for evaluation in evaluations],
    }


def where_it_leads(encoder: Encoder, trigger: Trigger, train: LabelledImages, test: LabelledImages, run: Run) -> str:
    """The class that most triggered test images are given."""
    with frozen(encoder):
        features = unit_features(encoder, train.images)
        triggered = unit_features(encoder, test.images, trigger)
    labels = train.labels.to(features.device)
    probe = fit_probe("linear", features, labels, len(train.classes), PROBES, run, seed=_SEED)
    counts = torch.bincount(probe.predict(triggered).cpu(), minlength=len(train.classes))
    return train.classes[int(counts.argmax())]


def _numbers(evaluation: dict[str, Any]) -> dict[str, Any]:
    """An evaluation without what it repeats: per cent, with the counts of the probes in full."""
    kept = ("acc", "asr", "base", "triggered_acc")
    numbers = {name: None if evaluation[name] is None else evaluation[name]["percent"] for name in kept}
    return {**numbers, "probes": evaluation["probes"]}
