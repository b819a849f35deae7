"""All tables, in the order of docs/results.md. A new one is one file and one row here."""

from __future__ import annotations

from tests.benchmarks.tables.contents import (
    cleansing,
    cleansing_ablation,
    detection,
    figure_3,
    figure_4,
    figure_5,
    sizes,
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

TABLES: tuple[Table, ...] = (
    detection.TABLE,
    table_2.TABLE,
    table_3.TABLE,
    table_4.TABLE,
    table_5.TABLE,
    table_6.TABLE,
    table_7.TABLE,
    table_8.TABLE,
    table_9.TABLE,
    table_10.TABLE,
    table_11.TABLE,
    figure_3.TABLE,
    figure_4.TABLE,
    figure_5.TABLE,
    sizes.TABLE,
    cleansing.TABLE,
    cleansing.RETRAINING,
    cleansing_ablation.TABLE,
)
