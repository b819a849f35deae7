"""A real worker (``python -m worker``) that counts instead of auditing.

Celery's children import this file again, under another name: only they need the counting, and all of core with it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

if __name__ == "__main__":
    from worker.__main__ import main

    sys.exit(main())
else:
    import core.audit
    from tests.integration.counting import count

    core.audit.run_audit = count
