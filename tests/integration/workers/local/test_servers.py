"""Who owns the embedded servers, and how others find them: real processes, real locks."""

import contextlib
import json
import os
import stat
import subprocess
import sys
import textwrap
import threading

import psycopg
import pytest

from workers.local.servers import DataDirectoryBusyError, Urls, open_servers
from workers.settings import Settings

OWNER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from workers.local.servers import open_servers
    from workers.settings import Settings
    database_url = sys.argv[2] if len(sys.argv) > 2 else None
    settings = Settings(data_dir=Path(sys.argv[1]), database_url=database_url, broker_url=None)
    with open_servers(settings, start_broker=True):
        print("up", flush=True)
        sys.stdin.readline()
    """
)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.delenv("AFTERCALL_DATABASE_URL", raising=False)
    monkeypatch.delenv("AFTERCALL_BROKER_URL", raising=False)
    return Settings(data_dir=tmp_path / "data")


@contextlib.contextmanager
def owning(*arguments):
    """A process that owns the servers: `arguments` are the data directory and, if not embedded, the database's URL."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AFTERCALL_")}
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, *map(str, arguments)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def owner(settings):
    with owning(settings.data_dir) as process:
        yield process
    with open_servers(settings, start_broker=True):
        pass  # a killed owner leaves its servers to the next one, which stops them


@pytest.fixture
def far(settings):
    """The same data directory with a database elsewhere, which nothing here connects to."""
    return settings.model_copy(update={"database_url": "postgresql://far/away"})


@pytest.fixture
def far_owner(far):
    with owning(far.data_dir, far.database_url) as process:
        yield process
    with open_servers(far, start_broker=True):
        pass


def answers(url):
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        return connection.execute("SELECT 1").fetchone() == (1,)


def test_configured_servers_are_used_and_nothing_is_started(settings):
    configured = settings.model_copy(
        update={"database_url": "postgresql://far/away", "broker_url": "redis://far"}
    )
    with open_servers(configured, start_broker=True) as urls:
        assert (urls.database, urls.broker) == ("postgresql://far/away", "redis://far")
    assert not settings.data_dir.exists()


def test_a_lone_command_gets_a_database_and_no_broker(settings):
    with open_servers(settings, start_broker=False) as urls:
        assert answers(urls.database)
        assert urls.broker is None
    assert not (settings.data_dir / "runtime.json").exists()


def test_a_second_command_joins_the_owner(settings, owner):
    with open_servers(settings, start_broker=False) as urls:
        assert answers(urls.database)
        assert urls.broker is not None


def test_with_a_database_elsewhere_a_command_finds_the_owners_broker(far, far_owner):
    with open_servers(far, start_broker=False) as urls:
        assert urls.database == far.database_url
        assert urls.broker is not None
        assert urls.broker.startswith("redis+socket://")
        assert far_owner.stdin is not None
        far_owner.stdin.write("\n")
        far_owner.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            far_owner.wait(timeout=1)
    assert far_owner.wait(timeout=30) == 0
    with open_servers(far, start_broker=False) as urls:
        assert urls.broker is None


def test_the_broker_of_another_database_or_of_a_killed_owner_is_not_used(far, far_owner):
    other = far.model_copy(update={"database_url": "postgresql://far/other"})
    with open_servers(other, start_broker=False) as urls:
        assert urls == Urls("postgresql://far/other", None)
    far_owner.kill()
    far_owner.wait()
    assert (far.data_dir / "runtime.json").exists()
    with open_servers(far, start_broker=False) as urls:
        assert urls == Urls("postgresql://far/away", None)


def test_with_a_database_elsewhere_and_no_owner_nothing_is_made(far):
    with open_servers(far, start_broker=False) as urls:
        assert urls.broker is None
    assert not far.data_dir.exists()


def test_nobody_else_may_read_what_the_owner_writes(settings):
    settings.data_dir.parent.chmod(0o755)
    with open_servers(settings, start_broker=False) as urls:
        assert answers(urls.database)
        runtime = settings.data_dir / "runtime.json"
        assert json.loads(runtime.read_text())["database"] == urls.database
        assert stat.S_IMODE(runtime.stat().st_mode) == 0o600
        assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(settings.data_dir.parent.stat().st_mode) == 0o755


def test_what_a_killed_owner_left_behind_lends_no_mode(settings):
    settings.data_dir.mkdir(mode=0o755)
    (settings.data_dir / "runtime.partial").touch(mode=0o644)
    with open_servers(settings, start_broker=False):
        mode = (settings.data_dir / "runtime.json").stat().st_mode
        assert stat.S_IMODE(mode) == 0o600
    assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o755


def test_two_owners_are_refused(settings, owner):
    with (
        pytest.raises(DataDirectoryBusyError, match=str(settings.data_dir)),
        open_servers(settings, start_broker=True),
    ):
        pass


def test_the_owner_waits_for_a_command_before_it_stops_the_servers(settings, owner):
    with open_servers(settings, start_broker=False) as urls:
        assert owner.stdin is not None
        owner.stdin.write("\n")
        owner.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            owner.wait(timeout=1)
        assert answers(urls.database)
    assert owner.wait(timeout=30) == 0


def test_after_a_killed_owner_the_next_one_takes_over(settings, owner):
    owner.kill()
    owner.wait()
    with open_servers(settings, start_broker=True) as urls:
        assert answers(urls.database)


def test_commands_at_the_same_moment_share_one_server(settings):
    seen, barrier = [], threading.Barrier(3)

    def command():
        barrier.wait()
        with open_servers(settings, start_broker=False) as urls:
            seen.append(answers(urls.database))

    threads = [threading.Thread(target=command) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 3
