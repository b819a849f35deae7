"""PostgreSQL, the broker and S3 together: embedded, or elsewhere where the environment says so."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from api.embedded.child import Child
from api.embedded.errors import LaunchError
from api.embedded.home import claimed_home, private_folder
from api.embedded.postgres import EmbeddedPostgres
from api.embedded.seaweed import BUCKET, EmbeddedSeaweed
from api.embedded.valkey import EmbeddedValkey

Engine = EmbeddedPostgres | EmbeddedValkey | EmbeddedSeaweed


@dataclass(frozen=True)
class Stack:
    """Where the three engines are. ``engines`` are the processes we started, to be watched."""

    home: Path
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    s3_endpoint_url: str
    s3_access_key: str = field(repr=False)
    s3_secret_key: str = field(repr=False)
    s3_bucket: str
    engines: tuple[Child, ...]

    def environment(self) -> dict[str, str]:
        """The variables from which the API and the worker learn all this."""
        return {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "S3_ENDPOINT_URL": self.s3_endpoint_url,
            "S3_ACCESS_KEY": self.s3_access_key,
            "S3_SECRET_KEY": self.s3_secret_key,
            "S3_BUCKET": self.s3_bucket,
        }


@contextmanager
def start_stack(home: Path, environment: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """Start whatever ``environment`` (default: the process's) does not name; everything is stopped on leaving.

    ``DATABASE_URL``, ``REDIS_URL`` and ``S3_ENDPOINT_URL`` replace one engine each; the last one comes with
    ``S3_ACCESS_KEY`` and ``S3_SECRET_KEY`` (or ``AWS_...``) and ``S3_BUCKET``
    (default ``encoder-audit``).
    Call it from the main thread: the engines die with the thread that started them.

    Raises:
        LaunchError: with what to do about it.
    """
    given = os.environ if environment is None else environment
    with ExitStack() as cleanup:
        home = cleanup.enter_context(claimed_home(home))
        logs = private_folder(home / "logs")
        external_s3 = _external_s3(given)
        seaweed = None if external_s3 else EmbeddedSeaweed(home, logs)
        valkey = None if given.get("REDIS_URL") else EmbeddedValkey(home, logs)
        postgres = None if given.get("DATABASE_URL") else EmbeddedPostgres(home, logs)
        started: list[Engine] = [engine for engine in (seaweed, valkey, postgres) if engine is not None]
        for engine in started:
            cleanup.callback(engine.stop)
            engine.start()
        for engine in started:
            engine.wait()
        if external_s3:
            endpoint, access_key, secret_key, bucket = external_s3
        else:
            assert seaweed is not None
            endpoint, access_key, secret_key = seaweed.endpoint_url, seaweed.access_key, seaweed.secret_key
            bucket = seaweed.bucket
        yield Stack(
            home=home,
            database_url=postgres.url if postgres else given["DATABASE_URL"],
            redis_url=valkey.url if valkey else given["REDIS_URL"],
            s3_endpoint_url=endpoint,
            s3_access_key=access_key,
            s3_secret_key=secret_key,
            s3_bucket=bucket,
            engines=tuple(engine.child for engine in started),
        )


def _external_s3(given: Mapping[str, str]) -> tuple[str, str, str, str] | None:
    endpoint = given.get("S3_ENDPOINT_URL")
    if not endpoint:
        return None
    access_key = given.get("S3_ACCESS_KEY") or given.get("S3_ACCESS_KEY_ID") or given.get("AWS_ACCESS_KEY_ID")
    secret_key = given.get("S3_SECRET_KEY") or given.get("S3_SECRET_ACCESS_KEY") or given.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key:
        raise LaunchError(
            "S3_ENDPOINT_URL is set, but not the keys for it. Set S3_ACCESS_KEY and S3_SECRET_KEY as well."
        )
    return endpoint, access_key, secret_key, given.get("S3_BUCKET") or BUCKET
