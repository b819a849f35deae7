"""Object storage (S3): files go in with their SHA-256 and come out only if it still fits.

Names of objects: ``encoders/<id>``, ``datasets/<id>``, ``audits/<id>/<attempt>/<name>``, ``checkpoints/<id>/...``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from api.storage.settings import StorageSettings

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_CHUNK = 1024 * 1024
_TRANSFER = TransferConfig(multipart_threshold=64 * _CHUNK, multipart_chunksize=32 * _CHUNK, max_concurrency=4)


class ObjectStoreError(Exception):
    """Object storage did not do what was asked, after the client's own retries."""


class ObjectMissing(ObjectStoreError):
    """There is no object of that name."""


class ObjectDamaged(ObjectStoreError):
    """The bytes that came out are not those that went in."""


@dataclass(frozen=True)
class StoredObject:
    """Size in bytes and SHA-256 in hex of what was stored."""

    object_key: str
    size: int
    sha256: str


class ObjectStore:
    """One bucket. Safe to share between threads.

    All methods raise ObjectStoreError when the storage cannot be reached or refuses.
    """

    def __init__(self, settings: StorageSettings) -> None:
        secret = settings.s3_secret_key
        self._bucket = settings.s3_bucket
        self._region = settings.s3_region
        self._client: S3Client = boto3.session.Session().client(
            "s3",
            endpoint_url=settings.s3_endpoint_url,
            region_name=settings.s3_region,
            aws_access_key_id=settings.s3_access_key,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path" if settings.s3_endpoint_url else "auto"},
                retries={"mode": "standard", "total_max_attempts": 5},
                connect_timeout=5,
                read_timeout=60,
                max_pool_connections=20,
            ),
        )

    def ensure_bucket(self) -> None:
        """Create the bucket if it is not there."""
        with _translated(self._bucket):
            try:
                self._client.head_bucket(Bucket=self._bucket)
            except ClientError as error:
                if _status(error) != 404:
                    raise
                # Only outside us-east-1 does S3 want the region named; there it refuses it.
                place: Any = {"LocationConstraint": self._region}
                extra = {} if self._region == "us-east-1" else {"CreateBucketConfiguration": place}
                self._client.create_bucket(Bucket=self._bucket, **extra)

    def check(self) -> None:
        """Ask whether the bucket answers; for readiness probes."""
        with _translated(self._bucket):
            self._client.head_bucket(Bucket=self._bucket)

    def put_file(self, object_key: str, path: Path, media_type: str) -> StoredObject:
        """Store the file at ``path``; its SHA-256 is kept with the object."""
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        sha256 = digest.hexdigest()
        with _translated(object_key):
            self._client.upload_file(
                str(path),
                self._bucket,
                object_key,
                ExtraArgs={"ContentType": media_type, "Metadata": {"sha256": sha256}},
                Config=_TRANSFER,
            )
        return StoredObject(object_key, path.stat().st_size, sha256)

    def get_file(self, object_key: str, path: Path, *, sha256: str) -> None:
        """Write the object to ``path``, which exists afterwards only if the digest is right.

        Raises:
            ObjectMissing: no such object. ObjectDamaged: its SHA-256 is not ``sha256``.
        """
        digest = hashlib.sha256()
        partial = path.with_name(path.name + ".part")
        try:
            with partial.open("wb") as file:
                for chunk in self.read(object_key):
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != sha256:
                raise ObjectDamaged(f"{object_key} has SHA-256 {digest.hexdigest()}, recorded was {sha256}")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def read(self, object_key: str, first: int = 0, last: int | None = None) -> Iterator[bytes]:
        """Bytes ``first`` to ``last`` (both included; None: to the end) in chunks of up to 1 MiB.

        The request is made at once, so that a missing object is known before the first chunk is asked for.
        """
        with _translated(object_key):
            whole = first == 0 and last is None
            extra = {} if whole else {"Range": f"bytes={first}-{'' if last is None else last}"}
            body = self._client.get_object(Bucket=self._bucket, Key=object_key, **extra)["Body"]  # type: ignore[arg-type]
        return _chunks(object_key, body)

    def delete(self, object_key: str) -> None:
        """Delete the object; one that is not there is no error."""
        with _translated(object_key):
            self._client.delete_object(Bucket=self._bucket, Key=object_key)

    def list_keys(self, prefix: str) -> list[str]:
        """The names of all objects that begin with ``prefix``."""
        with _translated(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def delete_prefix(self, prefix: str) -> None:
        """Delete all objects whose name begins with ``prefix``."""
        for object_key in self.list_keys(prefix):
            self.delete(object_key)


def _chunks(object_key: str, body: Any) -> Iterator[bytes]:
    with _translated(object_key):
        try:
            yield from body.iter_chunks(_CHUNK)
        finally:
            body.close()


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """The client library's many exceptions as ours."""
    try:
        yield
    except ClientError as error:
        if _status(error) == 404:
            raise ObjectMissing(f"{what} is not in object storage") from error
        raise ObjectStoreError(f"object storage refused {what}: {error}") from error
    except (BotoCoreError, Boto3Error) as error:
        raise ObjectStoreError(f"object storage failed for {what}: {error}") from error


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
