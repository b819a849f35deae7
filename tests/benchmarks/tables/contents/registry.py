"""All tables, in the order of docs/results.md. A new one is one file and one row here."""

from __future__ import annotations

from tests.benchmarks.tables.contents import (
    detection,
    figure_3,
    figure_4,
    figure_5,
    table_2,
    table_3,
    table_4,
    table_5,
    table_6,
    table_7,
    table_8,
    table_9,
    table_10,
    table_11,
)
from tests.benchmarks.tables.contents.table import Table

TABLES: tuple[Table, ...] = tuple(
    module.TABLE
    for module in (
        detection,
        table_2,
        table_3,
        table_4,
        table_5,
        table_6,
        table_7,
        table_8,
        table_9,
        table_10,
        table_11,
        figure_3,
        figure_4,
        figure_5,
    )
)
