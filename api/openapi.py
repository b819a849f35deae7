"""Writes ``openapi.json``, the published description of the HTTP interface.

    python -m api.openapi [--check] FOLDER

With ``--check`` nothing is written; the exit status is 1 if the file differs from what would be.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from api.app import create_app

FILE = "openapi.json"


def openapi_text() -> str:
    """The exact content of the file."""
    return json.dumps(create_app().openapi(), indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> int:
    """Write or check; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    path: Path = arguments.folder / FILE
    content = openapi_text()
    if path.exists() and path.read_text(encoding="utf-8") == content:
        return 0
    if arguments.check:
        sys.stderr.write(f"Out of date: {FILE}. Run 'make contract' and commit the result.\n")
        return 1
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
