"""What a table is: the cells it needs, and their results as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.tables.bench import Bench
from tests.benchmarks.tables.cells import Cell, key
from tests.benchmarks.tables.results import ResultStore


@dataclass(frozen=True)
class Results:
    """The documents of cells, each read once. None: the cell was not run."""

    store: ResultStore
    _read: dict[str, Mapping[str, Any] | None] = field(default_factory=dict)

    def of(self, cell: Cell) -> Mapping[str, Any] | None:
        name = key(cell)
        if name not in self._read:
            self._read[name] = self.store.read(cell)
        return self._read[name]


@dataclass(frozen=True)
class Table:
    """``name`` is that of its markers in the document; ``cells`` come in the order in which they are best run."""

    name: str
    cells: Callable[[Bench], list[Cell]]
    render: Callable[[Bench, Results], str]
