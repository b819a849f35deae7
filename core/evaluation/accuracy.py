"""How good an encoder is, and how well a known backdoor works in it: ACC, ASR and what belongs beside them.

A linear probe (and a kNN monitor) is fitted on labelled training images and read on labelled test images. With a known
backdoor, four numbers are told apart:

* ASR (``asr_excl``): triggered images of other classes that are called the target class;
* base: *clean* images of other classes that are called the target class. A weak encoder errs, and the ASR contains it;
* net = ASR - base, in percentage points: what the backdoor itself does;
* triggered accuracy: accuracy on all triggered images.

This is the only place besides ``core.attacks`` where ground truth may be seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from core.config import MethodConfig
from core.errors import UsageError
from core.evaluation.neighbours import predict_by_neighbours
from core.evaluation.rates import Rate, accuracy, called_target
from core.images.labelled import LabelledImages
from core.run import Run, StateDict
from core.training.linear_probe import fit_linear_probe, unit_features
from core.types import Encoder, Trigger


class EvaluateConfig(MethodConfig):
    """Parameters of an evaluation."""

    weight_decay: float = Field(1e-3, ge=0, description="L2 penalty on the probe's weights (not on its bias).")
    neighbours: int = Field(200, ge=1, description="k of the kNN monitor. BadEncoder, DECREE, CTRL: 200.")
    temperature: float = Field(
        0.5, gt=0, description="tau of the kNN's weights exp(cos/tau). BadEncoder: 0.5; CTRL: 0.1."
    )


@dataclass(frozen=True)
class KnownBackdoor:
    """The truth about a backdoor: what sets it off, and the class (an index) it leads to."""

    trigger: Trigger
    target: int


@dataclass(frozen=True)
class Evaluation:
    """Rates in per cent. The last four are None when no backdoor was given; ``net`` is in percentage points."""

    acc: Rate
    knn_acc: Rate
    test_images: int
    classes: tuple[str, ...]
    target_class: str | None = None
    asr: Rate | None = None
    base: Rate | None = None
    net: float | None = None
    triggered_acc: Rate | None = None


def evaluate(
    encoder: Encoder,
    train: LabelledImages,
    test: LabelledImages,
    known: KnownBackdoor | None,
    config: EvaluateConfig,
    run: Run,
) -> Evaluation:
    """Measure ``encoder``: fit on ``train``, read on ``test``; with ``known``, on triggered test images too.

    Raises:
        UsageError: ``test`` has a class that ``train`` has not, or the target is no class.
    """
    labels = labels_in(test, train.classes)
    if known is not None:
        _require_class(known.target, train.classes)
    features = _CollectedFeatures()
    for step in run.steps("evaluate", 3 if known else 2, state=features):
        images, trigger = ((train, None), (test, None), (test, known.trigger if known else None))[step]
        features.parts.append(unit_features(encoder, images.images, trigger))

    truth = train.labels.to(encoder.device)
    probe = fit_linear_probe(features.parts[0], truth, len(train.classes), weight_decay=config.weight_decay)
    clean = probe.predict(features.parts[1]).cpu()
    by_neighbours = predict_by_neighbours(
        features.parts[1],
        features.parts[0],
        truth,
        len(train.classes),
        neighbours=config.neighbours,
        temperature=config.temperature,
    )
    acc, knn_acc = accuracy(clean, labels), accuracy(by_neighbours.cpu(), labels)
    if known is None:
        return Evaluation(acc, knn_acc, len(labels), train.classes)
    triggered = probe.predict(features.parts[2]).cpu()
    asr, base = called_target(triggered, labels, known.target), called_target(clean, labels, known.target)
    return Evaluation(
        acc,
        knn_acc,
        len(labels),
        train.classes,
        target_class=train.classes[known.target],
        asr=asr,
        base=base,
        net=asr.percent - base.percent,
        triggered_acc=accuracy(triggered, labels),
    )


class _CollectedFeatures:
    """Features of the sets measured so far: training, test, triggered test. A ``Stateful``."""

    def __init__(self) -> None:
        self.parts: list[Tensor] = []

    def state_dict(self) -> StateDict:
        return {"parts": list(self.parts)}

    def load_state_dict(self, state: StateDict) -> None:
        self.parts = list(state["parts"])


def labels_in(test: LabelledImages, classes: tuple[str, ...]) -> Tensor:
    """The labels of ``test`` as indices into the training set's ``classes``, by name.

    Raises:
        UsageError: ``test`` has a class that is not among them.
    """
    unknown = [name for name in test.classes if name not in classes]
    if unknown:
        raise UsageError(
            "classes_differ",
            field="test",
            found=f"classes that the training images lack: {', '.join(unknown[:10])}",
            expected="test images of the training images' classes",
            action="Use the same class folders in both sets.",
        )
    return torch.tensor([classes.index(name) for name in test.classes], dtype=torch.int64)[test.labels]


def _require_class(target: int, classes: tuple[str, ...]) -> None:
    if not 0 <= target < len(classes):
        raise UsageError(
            "unknown_class",
            field="target",
            found=f"class {target}",
            expected=f"an index from 0 to {len(classes) - 1}",
            action="Use the index of a class folder, counted in sorted order.",
        )
