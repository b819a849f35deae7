"""The API as a process: ``python -m api.server [--host HOST] [--port PORT]``."""

from __future__ import annotations

import argparse
import sys

import uvicorn

from api.app import create_app
from api.logs import configure_logs
from api.settings import ApiSettings
from api.storage.settings import SettingsError, load_storage_settings


def main() -> int:
    """Serve until a stop signal; open requests get ten seconds to end."""
    parser = argparse.ArgumentParser(prog="python -m api.server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    settings = ApiSettings()
    configure_logs(settings.log_format)
    try:
        storage = load_storage_settings()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
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


if __name__ == "__main__":
    sys.exit(main())
