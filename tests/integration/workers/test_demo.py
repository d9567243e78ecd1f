"""`aftercall demo` around a service whose workers are played by a thread: progress, tables, page, second run."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from db import queue
from db.session import Database
from tests.integration.workers.samples import Aftercall, rows, score_call
from workers import supervisor
from workers.cli import demo
from workers.local.servers import DataDirectoryBusyError, Urls
from workers.settings import Settings

pytestmark = pytest.mark.usefixtures("no_calls")
SILENT_BROKER = "redis://127.0.0.1:1/0"


@pytest.fixture
def recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three recordings with a manifest, in place of those that ship."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name in ("one", "two", "broken"):
        (folder / f"{name}.wav").write_bytes(name.encode())
    (folder / "manifest.csv").write_text(
        "path,agent_id\none.wav,salon\ntwo.wav,clinic\nbroken.wav,clinic\n"
    )
    monkeypatch.setattr(demo, "RECORDINGS", folder)
    return folder


class Workers:
    """Scores what is recorded; a call named `broken` fails as often as it may."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.stop = threading.Event()

    @contextlib.contextmanager
    def running_service(self, settings: Settings) -> Iterator[Urls]:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        thread = threading.Thread(target=self.work)
        thread.start()
        try:
            yield Urls(self.database.url.render_as_string(hide_password=False), SILENT_BROKER)
        finally:
            self.stop.set()
            thread.join()

    def work(self) -> None:
        while not self.stop.wait(0.02):
            with self.database.unit_of_work() as session:
                lease = queue.claim(session, "transcribe", worker="tests", limit=1)
            if lease is None:
                continue
            (job,) = lease.jobs
            is_broken = rows(
                self.database, f"SELECT external_id = 'broken' FROM calls WHERE id = {job.call_id}"
            )[0][0]
            with self.database.unit_of_work() as session:
                if is_broken:
                    error = RuntimeError("model fell over")
                    queue.fail(session, lease.token, job.id, error=error, permanent=True)
                else:
                    queue.finish(session, lease.token, job.id)
            if not is_broken:
                score_call(self.database, job.call_id)


@pytest.fixture
def workers(database: Database, monkeypatch: pytest.MonkeyPatch) -> Workers:
    made = Workers(database)
    monkeypatch.setattr(supervisor, "running_service", made.running_service)
    monkeypatch.setattr(demo, "_POLL_S", 0.02)
    return made


@pytest.mark.usefixtures("workers")
def test_a_demo_shows_what_came_out_and_what_failed(
    aftercall: Aftercall, recordings: Path, tmp_path: Path
) -> None:
    result = aftercall("demo")
    assert result.exit_code == 1  # a call that ships with the project has failed
    assert "1 call failed; the logs are in" in result.stderr
    for part in ("3 recordings ingested.", "Hot leads", "model fell over", "Try next"):
        assert part in result.stdout
    listed = [line.split() for line in result.stdout.partition("Outcomes")[0].splitlines()]
    ended = {line[1]: line[-1] for line in listed if len(line) > 1 and line[0].isdigit()}
    assert {name: ended[name] for name in ("one", "two", "broken")} == {
        "one": "booked",
        "two": "booked",
        "broken": "failed",
    }
    assert "<svg" in (tmp_path / "data" / "demo-report.html").read_text()


@pytest.mark.usefixtures("workers")
def test_a_second_demo_adds_nothing(
    aftercall: Aftercall, recordings: Path, database: Database
) -> None:
    (recordings / "broken.wav").unlink()
    (recordings / "manifest.csv").write_text("path\none.wav\ntwo.wav\n")
    assert aftercall("demo").exit_code == 0
    again = aftercall("demo")
    assert again.exit_code == 0
    assert "0 recordings ingested, 2 calls already known." in again.stdout
    assert rows(database, "SELECT source, external_id FROM calls ORDER BY id") == [
        ("demo", "one"),
        ("demo", "two"),
    ]
    assert rows(database, "SELECT count(*) FROM jobs") == [(4,)]


@pytest.mark.usefixtures("recordings")
def test_a_demo_does_not_wait_for_ever(
    aftercall: Aftercall, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers.stop.set()
    monkeypatch.setattr(demo, "_PATIENCE_S", 0)
    result = aftercall("demo")
    assert result.exit_code == 1
    assert "nothing has moved for 0 s; the workers' logs are in" in result.stderr


def test_a_demo_without_recordings_is_one_line(
    aftercall: Aftercall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "RECORDINGS", tmp_path)
    result = aftercall("demo")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "the demo's recordings are missing" in result.stderr


@pytest.mark.usefixtures("recordings")
def test_a_demo_uses_the_service_that_runs(
    aftercall: Aftercall, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`aftercall up` owns the data directory; the demo joins it."""

    def busy(settings: Settings) -> None:
        raise DataDirectoryBusyError("another aftercall process owns it")

    monkeypatch.setattr(supervisor, "running_service", busy)
    thread = threading.Thread(target=workers.work)
    thread.start()
    try:
        result = aftercall("demo")
    finally:
        workers.stop.set()
        thread.join()
    assert "3 recordings ingested." in result.stdout
