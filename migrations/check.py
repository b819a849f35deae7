"""Do the migrations make the tables that ``api.storage.tables`` describes? Exit code 1 and the differences if not.

    python -m migrations.check

It migrates an empty database: a throwaway PostgreSQL of its own.
"""

import sys
import tempfile
from pathlib import Path

from sqlalchemy import create_engine

from api.embedded.home import private_folder
from api.embedded.postgres import EmbeddedPostgres
from api.storage.migrate import schema_differences, upgrade


def main() -> int:
    """Migrate, compare, say what differs."""
    with tempfile.TemporaryDirectory(prefix="encoder-audit-") as folder:
        home = Path(folder)
        home.chmod(0o711)
        postgres = EmbeddedPostgres(home, private_folder(home / "logs"))
        postgres.start()
        try:
            postgres.wait()
            engine = create_engine(postgres.url)
            upgrade(engine)
            differences = schema_differences(engine)
            engine.dispose()
        finally:
            postgres.stop()
    for difference in differences:
        sys.stderr.write(f"no migration for: {difference}\n")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
