"""Numbers over seeds and encoders: means with deviations, AUROC, counts of verdicts."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from core.types import Verdict

NOT_RUN = "not run"


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of ``count`` runs out of ``planned``; of one run there is no deviation."""

    mean: float
    deviation: float | None
    count: int
    planned: int

    def text(self, decimals: int = 1) -> str:
        """``81.2 ± 0.4``; runs that are missing are said: ``81.2 (1 of 3)``."""
        spread = "" if self.deviation is None else f" ± {self.deviation:.{decimals}f}"
        short = "" if self.count == self.planned else f" ({self.count} of {self.planned})"
        return f"{self.mean:.{decimals}f}{spread}{short}"


def spread(values: Iterable[float | None]) -> Spread | None:
    """Of the ``values`` that there are; None stands for a run that is missing. None if all are."""
    planned = list(values)
    there = [value for value in planned if value is not None]
    if not there:
        return None
    deviation = statistics.stdev(there) if len(there) > 1 else None
    return Spread(statistics.fmean(there), deviation, len(there), len(planned))


def text(values: Iterable[float | None], decimals: int = 1) -> str:
    """``spread`` in words."""
    found = spread(values)
    return NOT_RUN if found is None else found.text(decimals)


def auroc(scores: Sequence[tuple[float | None, bool]]) -> float | None:
    """Area under the ROC curve of (score, backdoored) pairs; encoders without a score are left out, and None is
    returned where they are all of one sort."""
    there = [(score, backdoored) for score, backdoored in scores if score is not None]
    if len({backdoored for _, backdoored in there}) < 2:
        return None
    return float(roc_auc_score([backdoored for _, backdoored in there], [score for score, _ in there]))


def exact_interval(hits: int, total: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a share, fractions in [0, 1]: never narrower than it says, however few."""
    interval = binomtest(hits, total).proportion_ci(confidence_level=0.95, method="exact")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class Verdicts:
    """How often each verdict was given in ``runs`` runs that ended in one, out of ``planned``."""

    backdoored: int
    inconclusive: int
    runs: int
    planned: int

    @property
    def text(self) -> str:
        """``5 of 6``, and how many were inconclusive if any: they are neither detections nor acquittals. Runs without a
        verdict are said; nothing is where there was nothing to run."""
        if not self.planned:
            return ""
        if not self.runs:
            return NOT_RUN
        remarks = [f"{self.inconclusive} inconclusive"] if self.inconclusive else []
        remarks += [f"{self.planned - self.runs} without a verdict"] if self.runs < self.planned else []
        return f"{self.backdoored} of {self.runs}" + (f" ({', '.join(remarks)})" if remarks else "")


def verdicts(results: Iterable[Mapping[str, Any] | None]) -> Verdicts:
    """Counted over the detections that ended in a verdict; None stands for a run that is missing."""
    rows = list(results)
    counts = Counter(row["verdict"] for row in rows if row is not None and row["problem"] is None)
    return Verdicts(counts[Verdict.BACKDOORED], counts[Verdict.INCONCLUSIVE], counts.total(), len(rows))
