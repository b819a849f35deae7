"""Rates as counts, with their uncertainty: what accuracy and attack success mean here, and how sure we are of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution


@dataclass(frozen=True)
class Rate:
    """``hits`` of ``total`` images, as a percentage with Wilson's 95 % confidence interval, all in per cent."""

    hits: int
    total: int
    percent: float
    low: float
    high: float


def rate(hits: int, total: int) -> Rate:
    """The share ``hits / total``.

    Raises:
        ValueError: ``total`` is not positive, or ``hits`` is not between 0 and ``total``.
    """
    if total < 1 or not 0 <= hits <= total:
        raise ValueError(f"{hits} of {total} is not a share")
    low, high = wilson_interval(hits, total)
    return Rate(hits, total, 100 * hits / total, 100 * low, 100 * high)


def wilson_interval(hits: int, total: int, z: float = _Z95) -> tuple[float, float]:
    """Wilson's score interval of a share, fractions in [0, 1]; sensible for shares of 0 and 1 too."""
    share, spread = hits / total, z * z / total
    centre = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    low, high = (centre - half) / (1 + spread), (centre + half) / (1 + spread)
    # Rounding must not push the ends of 0 % and 100 % past the share itself.
    return max(0.0, min(low, share)), min(1.0, max(high, share))


def accuracy(predicted: Tensor, labels: Tensor) -> Rate:
    """Images whose predicted class ``[N]`` is their label ``[N]``."""
    return rate(int((predicted == labels).sum()), len(labels))


def called_target(predicted: Tensor, labels: Tensor, target: int) -> Rate:
    """Images of *other* classes that are called ``target``.

    On triggered images this is the ASR (``asr_excl``); on clean images it is the base rate, what the ASR is without any
    backdoor.

    Raises:
        ValueError: every image is of class ``target``.
    """
    others = labels != target
    return rate(int((predicted[others] == target).sum()), int(others.sum()))


def false_positives(confusion: Tensor, target: int) -> Rate:
    """``asr_excl`` from a confusion matrix ``[C, C]`` (rows: true, columns: predicted), as SSL-Backdoor counts it."""
    column = confusion[:, target].sum() - confusion[target, target]
    others = confusion.sum() - confusion[target].sum()
    return rate(int(column), int(others))


def confusion_matrix(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Counts ``[C, C]``, rows true and columns predicted."""
    return torch.bincount(labels * classes + predicted, minlength=classes * classes).view(classes, classes)
