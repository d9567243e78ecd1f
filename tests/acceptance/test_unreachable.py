"""Servers that are away: commands say so in one line, and what could be recorded runs when they are back."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.acceptance.conftest import MakeService
from tests.acceptance.recordings import spoken, write_wav
from tests.acceptance.service import kill, wait_until
from workers.local.broker import LocalBroker

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"  # port 1 is refused at once on every machine


@pytest.mark.parametrize("command", [("ingest", "."), ("up",), ("status",)])
def test_a_database_that_is_down_is_one_clear_line(
    make_service: MakeService, command: tuple[str, ...]
) -> None:
    service = make_service(
        AFTERCALL_DATABASE_URL=NOWHERE, AFTERCALL_BROKER_URL="redis://127.0.0.1:1/0"
    )
    result = service.run(*command)
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("aftercall: ")]
    assert len(lines) == 1
    assert "the database does not answer" in lines[0]
    assert "Traceback" not in result.stderr
    assert service.processes() == []


def test_calls_ingested_while_the_broker_is_down_run_when_it_is_back(
    make_service: MakeService, tmp_path: Path
) -> None:
    broker = LocalBroker(tmp_path)
    address = broker.start()
    broker.stop()
    service = make_service(AFTERCALL_BROKER_URL=address)
    recording = write_wav(tmp_path / "patient.wav", spoken(0))

    ingested = service.run("ingest", recording)
    assert ingested.returncode == 0, ingested.stderr
    assert "the broker does not answer; the calls are recorded and run when it returns" in " ".join(
        ingested.stderr.split()
    )
    service.up()
    assert service.statuses() == {"patient": "received"}
    try:
        assert broker.start() == address
        assert service.wait_until_ended(1) == {"patient": "scored"}
        assert service.stop(signal.SIGINT) == 0
    finally:
        broker.stop()


def test_an_embedded_server_that_dies_takes_nothing_with_it(make_service: MakeService) -> None:
    service = make_service(embedded=True)
    service.up()
    log = service.data_dir / "up.log"
    for number, server in enumerate(("valkey-server", "postgres"), start=2):
        kill(service.server(server))
        wait_until(
            lambda number=number: log.read_text().count('"event": "running"') == number,  # type: ignore[misc]
            f"the service runs again without its {server}",
            log.read_text,
        )
        assert service.statuses() == {}
    assert service.stop() == 0
    assert service.processes() == []
