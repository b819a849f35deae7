"""How an encoder comes along while it trains: nearest neighbours on a fixed few images, with nothing to fit."""

from __future__ import annotations

import torch

from core.evaluation.accuracy import labels_in
from core.evaluation.few_labels import stratified
from core.evaluation.frozen import frozen
from core.evaluation.neighbours import predict_by_neighbours
from core.evaluation.rates import accuracy
from core.images.labelled import LabelledImages
from core.training.linear_probe import unit_features
from core.types import Encoder

_MOST_NEIGHBOURS = 200
_TEMPERATURE = 0.1


class NeighbourMonitor:
    """Call it with an encoder for its kNN accuracy in per cent; the encoder is left in the mode it was in.

    The same images every time, so that two calls can be compared: at most about ``limit`` of each set, stratified by
    class. CTRL's temperature, 0.1. Its k, 200, is for 50,000 images: k is at most the images of one class, or on a
    small bank everybody would vote. The value is for watching a training run; it is not ``Evaluation.knn_acc``.

    Raises:
        UsageError: ``test`` has a class that ``train`` has not.
        ValueError: a limit below 1.
    """

    def __init__(self, train: LabelledImages, test: LabelledImages, *, limit: int = 2000) -> None:
        if limit < 1:
            raise ValueError(f"{limit} images are none")
        of_bank = stratified(train.labels, min(1.0, limit / len(train.labels)), 0, "neighbour monitor", "bank")
        of_test = stratified(test.labels, min(1.0, limit / len(test.labels)), 0, "neighbour monitor", "test")
        self._classes = len(train.classes)
        self._bank, self._bank_labels = train.images.subset(of_bank), train.labels[of_bank]
        self._test, self._test_labels = test.images.subset(of_test), labels_in(test, train.classes)[of_test]
        self._neighbours = min(_MOST_NEIGHBOURS, max(1, len(of_bank) // self._classes))

    def __call__(self, encoder: Encoder) -> float:
        # Autocast off: a monitor called from inside a mixed-precision step must read the same as outside it.
        with frozen(encoder), torch.autocast(encoder.device.type, enabled=False):
            predicted = predict_by_neighbours(
                unit_features(encoder, self._test),
                unit_features(encoder, self._bank),
                self._bank_labels.to(encoder.device),
                self._classes,
                neighbours=self._neighbours,
                temperature=_TEMPERATURE,
            )
        return accuracy(predicted.cpu(), self._test_labels).percent
