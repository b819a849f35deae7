"""The API as a process: ``python -m api.server [--host HOST] [--port PORT]``."""

from __future__ import annotations

import argparse
import sys

import uvicorn
from sqlalchemy.exc import OperationalError

from api.app import create_app
from api.logs import configure_logs
from api.settings import ApiSettings
from api.storage.migrate import upgrade
from api.storage.objects import ObjectStore, ObjectStoreError
from api.storage.session import create_database_engine
from api.storage.settings import SettingsError, StorageSettings, load_storage_settings


def main() -> int:
    """Migrate, then serve until a stop signal; open requests get ten seconds to end."""
    parser = argparse.ArgumentParser(prog="python -m api.server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    settings = ApiSettings()
    configure_logs(settings.log_format)
    try:
        storage = load_storage_settings()
        _prepare(storage)
    except (SettingsError, OperationalError, ObjectStoreError) as error:
        # The driver's own words name host and user, never the password.
        sys.stderr.write(f"encoder-audit api: {getattr(error, 'orig', None) or error}\n")
        return 2
    uvicorn.run(
        create_app(settings, storage),
        host=arguments.host,
        port=arguments.port,
        log_config=None,
        log_level="warning",
        access_log=False,  # the middleware writes one line per request
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    return 0


def _prepare(storage: StorageSettings) -> None:
    """Bring the database to the schema of this version and make the bucket; other processes may do so as well."""
    engine = create_database_engine(storage)
    upgrade(engine)
    engine.dispose()
    ObjectStore(storage).ensure_bucket()


if __name__ == "__main__":
    sys.exit(main())
