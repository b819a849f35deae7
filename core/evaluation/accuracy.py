"""How good an encoder is, and how well a known backdoor works in it: ACC, ASR and what belongs beside them.

Probes (``core.evaluation.probes``) are fitted on labelled training images and read on labelled test images. With a
known backdoor, these are told apart:

* ASR (``asr_excl``): triggered images of other classes that are called the target class;
* ``asr_all``: the same with the target's own images counted, as BadEncoder and CTRL report it;
* base: *clean* images of other classes that are called the target class. A weak encoder errs, and the ASR contains it;
* net = ASR - base, in percentage points: what the trigger does;
* ``asr_net`` = ASR - the ASR of a clean reference encoder with the same trigger and probe: what the *backdoor* does. A
  white square moves any encoder's answers, and net contains that;
* triggered accuracy: accuracy on all triggered images.

This is the only place besides ``core.attacks`` where ground truth may be seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core.errors import AuditFailed, UsageError
from core.evaluation.draws import mean_result
from core.evaluation.frozen import frozen
from core.evaluation.probes import EvaluateConfig, ProbeName, draws_of, fit_probe
from core.evaluation.rates import accuracy, all_called_target, called_target, paired_difference
from core.evaluation.results import Evaluation, ProbeResult, summarise
from core.images.labelled import LabelledImages
from core.run import Run, StageRun, StateDict
from core.training.linear_probe import unit_features
from core.types import Encoder, Features, Trigger

__all__ = ["EvaluateConfig", "Evaluation", "KnownBackdoor", "ProbeResult", "evaluate", "labels_in"]


@dataclass(frozen=True)
class KnownBackdoor:
    """The truth about a backdoor: what sets it off, and the class (an index) it leads to."""

    trigger: Trigger
    target: int


def evaluate(
    encoder: Encoder,
    train: LabelledImages,
    test: LabelledImages,
    known: KnownBackdoor | None,
    config: EvaluateConfig,
    run: Run,
    *,
    reference: Encoder | None = None,
    seed: int = 0,
) -> Evaluation:
    """Measure ``encoder``: fit on ``train``, read on ``test``; with ``known``, on triggered test images too.

    ``reference`` is an encoder known to be clean, of the same input size; it gets probes of its own by the same recipe.
    ``seed`` draws the labels of the 1 % probe (several times: the result is the mean) and trains the MLP. Features are
    computed once for all probes, in eval mode; both encoders are left in the mode they were in.

    Raises:
        UsageError: ``test`` has a class that ``train`` has not, the target is no class or the only one that was tested,
            or the reference takes images of another size.
        AuditFailed: features that are not finite, or a probe's loss that is not.
    """
    labels = labels_in(test, train.classes)
    if known is not None:
        _require_class(known.target, train.classes)
        _require_other_classes(labels, known.target, train.classes)
    if reference is not None:
        _require_same_size(encoder, reference)
    subject = _predictions(encoder, train, test, known, config, run, seed, field="encoder")
    others = None
    if reference is not None:
        aside = StageRun(run, "reference")
        others = _predictions(reference, train, test, known, config, aside, seed, field="reference")
    target = None if known is None else known.target
    rows = tuple(
        mean_result(
            [
                _measure(name, found, None if others is None else others[name][draw], labels, target)
                for draw, found in enumerate(draws)
            ]
        )
        for name, draws in subject.items()
    )
    return summarise(rows, len(labels), train.classes, target)


@dataclass(frozen=True)
class _Predictions:
    """One probe's answers on the CPU, ``[N]`` int64: to clean test images and to triggered ones."""

    labels_used: int
    clean: Tensor
    triggered: Tensor | None


def _predictions(
    encoder: Encoder,
    train: LabelledImages,
    test: LabelledImages,
    known: KnownBackdoor | None,
    config: EvaluateConfig,
    run: Run,
    seed: int,
    *,
    field: str,
) -> dict[ProbeName, list[_Predictions]]:
    features = _CollectedFeatures()
    with frozen(encoder):
        for step in run.steps("evaluate", 3 if known else 2, state=features):
            images, trigger = ((train, None), (test, None), (test, known.trigger if known else None))[step]
            features.parts.append(_finite(unit_features(encoder, images.images, trigger), field))
    truth = train.labels.to(encoder.device)
    found: dict[ProbeName, list[_Predictions]] = {}
    for name in config.probes:
        for draw in range(draws_of(name, config)):
            probe = fit_probe(name, features.parts[0], truth, len(train.classes), config, run, seed=seed, draw=draw)
            triggered = probe.predict(features.parts[2]).cpu() if known else None
            clean = probe.predict(features.parts[1]).cpu()
            found.setdefault(name, []).append(_Predictions(probe.labels_used, clean, triggered))
    return found


def _measure(
    name: str, found: _Predictions, reference: _Predictions | None, labels: Tensor, target: int | None
) -> ProbeResult:
    acc = accuracy(found.clean, labels)
    reference_acc = None if reference is None else accuracy(reference.clean, labels)
    if found.triggered is None or target is None:
        return ProbeResult(name, found.labels_used, acc, reference_acc=reference_acc)
    others = labels != target
    fooled = found.triggered[others] == target
    asr_net = reference_asr = None
    if reference is not None and reference.triggered is not None:
        reference_asr = called_target(reference.triggered, labels, target)
        asr_net = paired_difference(fooled, reference.triggered[others] == target)
    return ProbeResult(
        name,
        found.labels_used,
        acc,
        asr=called_target(found.triggered, labels, target),
        asr_all=all_called_target(found.triggered, target),
        base=called_target(found.clean, labels, target),
        net=paired_difference(fooled, found.clean[others] == target),
        asr_net=asr_net,
        triggered_acc=accuracy(found.triggered, labels),
        reference_acc=reference_acc,
        reference_asr=reference_asr,
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


def _require_other_classes(labels: Tensor, target: int, classes: tuple[str, ...]) -> None:
    if bool((labels == target).all()):
        raise UsageError(
            "no_other_classes",
            field="test",
            found=f"test images of the target class '{classes[target]}' only",
            expected="images of other classes, which the trigger is to turn into the target",
            action="Add test images of other classes.",
        )


def _require_same_size(encoder: Encoder, reference: Encoder) -> None:
    if encoder.image_size != reference.image_size:
        wanted, found = ("x".join(map(str, e.image_size)) for e in (encoder, reference))
        raise UsageError(
            "reference_differs",
            field="reference",
            found=f"an encoder of {found} pixels",
            expected=f"{wanted} pixels, as the encoder takes",
            action="Use a clean encoder of the same input size: the trigger and the images are for that size.",
        )


def _finite(features: Features, field: str) -> Features:
    if not bool(torch.isfinite(features).all()):
        raise AuditFailed(
            "features_not_finite",
            field=field,
            found="features of test or training images that are NaN or infinite",
            expected="finite features",
            action="Check the card's mean and std, and that the weights are those of a finished training run.",
        )
    return features
