"""Engine and sessions: synchronous SQLAlchemy over psycopg, in the API's thread pool as in the worker."""

from __future__ import annotations

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

from api.storage.settings import StorageSettings

Sessions = sessionmaker[Session]
"""Use as ``with sessions.begin() as session:`` for one transaction, committed at the end of the block."""


def create_database_engine(settings: StorageSettings) -> Engine:
    """A pool of connections that are tested before use, so that a restarted server costs no failed request."""
    return create_engine(
        settings.database_url,
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_pool_size,
        pool_pre_ping=True,
        pool_recycle=1800,
        connect_args={"connect_timeout": 5, "application_name": "encoder-audit"},
    )


def create_sessions(engine: Engine) -> Sessions:
    """Sessions whose objects stay readable after the commit."""
    return sessionmaker(engine, expire_on_commit=False)
