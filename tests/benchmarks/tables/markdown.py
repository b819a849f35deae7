"""Tables as Markdown, and the place between their markers in a document."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


class MarkerMissing(Exception):
    """The document has no place for a table; the message says which."""


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> str:
    """Rows under ``headings``; the first ``words`` columns hold words, the others numbers."""
    lines = [_line(headings), _line(["---"] * words + ["---:"] * (len(headings) - words))]
    return "\n".join([*lines, *(_line(row) for row in rows)])


def replace_between_markers(document: str, name: str, body: str) -> str:
    """``document`` with ``body`` between ``<!-- results: NAME -->`` and ``<!-- /results: NAME -->``.

    Raises:
        MarkerMissing: there are no such markers.
    """
    opening, closing = f"<!-- results: {name} -->", f"<!-- /results: {name} -->"
    pattern = re.compile(re.escape(opening) + ".*?" + re.escape(closing), re.DOTALL)
    if not pattern.search(document):
        raise MarkerMissing(f"no '{opening}' ... '{closing}'")
    return pattern.sub(lambda _: f"{opening}\n{body.strip()}\n{closing}", document, count=1)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
