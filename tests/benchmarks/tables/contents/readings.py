"""Numbers out of the documents of cells, over seeds, as the text of one table cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.benchmarks.tables.summary import text

Document = Mapping[str, Any] | None


def reading(document: Document, dataset: str, name: str) -> float | None:
    """``acc``, ``asr``, ``base`` or ``triggered_acc`` on ``dataset``, per cent; None if it was not measured.

    Of several backdoors the one that acts most strongly counts.
    """
    if document is None or document["problem"] is not None or dataset not in document["measured"]:
        return None
    evaluations: Sequence[Mapping[str, Any]] = document["measured"][dataset]["evaluations"]
    strongest = max(evaluations, key=lambda row: -1.0 if row["asr"] is None else row["asr"])
    value: float | None = strongest[name]
    return value


def readings(documents: Iterable[Document], dataset: str, name: str) -> str:
    """Mean and deviation over ``documents``, ``not run``, or why there are none."""
    rows = list(documents)
    problems = {row["problem"]["code"] for row in rows if row is not None and row["problem"] is not None}
    numbers = [reading(row, dataset, name) for row in rows]
    if problems and all(number is None for number in numbers):
        return f"refused: {', '.join(sorted(problems))}"
    return text(numbers)


def acc_and_asr(documents: Iterable[Document], dataset: str) -> str:
    """``81.2 ± 0.3 / 4.5 ± 0.2``."""
    rows = list(documents)
    acc, asr = (readings(rows, dataset, name) for name in ("acc", "asr"))
    unmeasured = acc == asr
    untouched = sum(row is not None and row.get("purified") is False for row in rows)
    mark = f" ({untouched} left as given)" if untouched else ""
    return acc if unmeasured else f"{acc} / {asr}{mark}"


def numbers_of(documents: Iterable[Document], name: str) -> list[float | None]:
    """A top-level number (``seconds``...) of each document; None where there is none."""
    return [None if row is None or row["problem"] is not None else row.get(name) for row in documents]
