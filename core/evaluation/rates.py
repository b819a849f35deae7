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


@dataclass(frozen=True)
class Difference:
    """One rate less another, in percentage points, with Newcombe's 95 % confidence interval for paired shares."""

    points: float
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


def paired_difference(first: Tensor, second: Tensor) -> Difference:
    """Share of True in ``first`` less that in ``second``, both ``[N]`` bool over the *same* N images in one order.

    The interval is Newcombe's for paired shares (Statistics in Medicine 17, 1998, p. 2635, method 10): Wilson's
    intervals of both, joined with the correlation of the pairs. Images that fool both encoders, or that are called the
    target with and without the trigger, say nothing about the difference, and the correlation takes them out.

    Raises:
        ValueError: no images, or not as many in both.
    """
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"{tuple(first.shape)} and {tuple(second.shape)} are no pairs")
    total = len(first)
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    p, q = (both + only_first) / total, (both + only_second) / total
    p_low, p_high = wilson_interval(both + only_first, total)
    q_low, q_high = wilson_interval(both + only_second, total)
    phi = _correlation(both, only_first, only_second, neither)

    def spread(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))

    low, high = p - q - spread(p - p_low, q_high - q), p - q + spread(p_high - p, q - q_low)
    return Difference(100 * (p - q), 100 * max(-1.0, low), 100 * min(1.0, high))


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Newcombe's corrected phi of a 2x2 table; 0 where a margin is empty."""
    total = both + only_first + only_second + neither
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if margins == 0:
        return 0.0
    excess = both * neither - only_first * only_second
    # A continuity correction of positive correlations, which would else make the interval too narrow.
    corrected = max(excess - total / 2, 0.0) if excess > 0 else float(excess)
    return corrected / math.sqrt(margins)


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


def all_called_target(predicted: Tensor, target: int) -> Rate:
    """Images of *any* class that are called ``target``: on triggered images the ASR of BadEncoder and CTRL
    (``asr_all``), which counts images that are of the target class and rightly called so."""
    return rate(int((predicted == target).sum()), len(predicted))


def false_positives(confusion: Tensor, target: int) -> Rate:
    """``asr_excl`` from a confusion matrix ``[C, C]`` (rows: true, columns: predicted), as SSL-Backdoor counts it."""
    column = confusion[:, target].sum() - confusion[target, target]
    others = confusion.sum() - confusion[target].sum()
    return rate(int(column), int(others))


def confusion_matrix(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Counts ``[C, C]``, rows true and columns predicted."""
    return torch.bincount(labels * classes + predicted, minlength=classes * classes).view(classes, classes)
