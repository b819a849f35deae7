"""Bring the database to the newest schema, or check that the migrations make the tables the code expects.

    python -m api.storage.migrate upgrade     # DATABASE_URL and the other settings from the environment
    python -m api.storage.migrate check       # exit code 1 and the differences when a migration is missing

API and worker both upgrade when they start; a lock in the database lets one of them do it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from api.storage.session import create_database_engine
from api.storage.settings import SettingsError, load_storage_settings
from api.storage.tables import Base

# Any fixed number will do; all migrating processes must agree on it.
_LOCK = 7_216_304_551


def migration_config() -> Config:
    """Alembic's configuration. ``migrations`` lies beside ``api``, in a checkout as in an installation."""
    config = Config()
    config.set_main_option(
        "script_location", str(Path(__file__).resolve().parents[2] / "migrations").replace("%", "%%")
    )
    return config


def newest_revision() -> str | None:
    """The revision the code expects."""
    return ScriptDirectory.from_config(migration_config()).get_current_head()


def current_revision(connection: Connection) -> str | None:
    """The revision the database is at; None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(engine: Engine) -> None:
    """Migrate to the newest revision, waiting for whoever is doing so already."""
    with _alone(engine) as connection:
        config = migration_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def schema_differences(engine: Engine) -> list[str]:
    """What a new migration would have to change for the database to match ``tables``; empty when nothing."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        return [repr(difference) for difference in compare_metadata(context, Base.metadata)]


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """One transaction under the migration lock: two processes that start together migrate once."""
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        yield connection


def main() -> int:
    """The command: ``upgrade`` or ``check``."""
    parser = argparse.ArgumentParser(prog="python -m api.storage.migrate", description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["upgrade", "check"])
    action = parser.parse_args().action
    try:
        engine = create_database_engine(load_storage_settings())
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if action == "upgrade":
        upgrade(engine)
        return 0
    differences = schema_differences(engine)
    sys.stderr.writelines(f"{difference}\n" for difference in differences)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
