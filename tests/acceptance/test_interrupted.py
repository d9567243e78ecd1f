"""Killed in the middle, the service finishes what it was given, each call once."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.conftest import MakeService
from tests.acceptance.recordings import spoken, write_wav
from tests.acceptance.service import Service, kill, wait_until

NUM_CALLS = 6


def count(service: Service, table: str) -> int:
    return int(service.query(f"SELECT count(*) FROM {table}")[0][0])


def wait_for_more(service: Service, table: str) -> None:
    """Until the workers have written something new."""
    before = count(service, table)
    wait_until(lambda: count(service, table) > before, f"more {table}", service.describe)


def test_whatever_is_killed_the_next_start_finishes_the_rest(
    make_service: MakeService, tmp_path: Path
) -> None:
    service = make_service()
    for number in range(NUM_CALLS):
        write_wav(tmp_path / f"{number}.wav", spoken(number))
    assert service.ingest(tmp_path)["summary"]["created"] == NUM_CALLS

    service.up()
    wait_for_more(service, "transcripts")
    service.kill_everything()

    service.up()
    wait_for_more(service, "transcripts")
    assert count(service, "transcripts") < NUM_CALLS
    assert service.supervisor is not None
    service.supervisor.kill()  # its servers and workers are left to themselves
    service.supervisor.wait()

    service.up()
    wait_for_more(service, "transcripts")
    kill(service.worker("transcribe"))  # the supervisor starts another one

    statuses = service.wait_until_ended(NUM_CALLS)
    assert set(statuses.values()) == {"scored"}, service.describe()
    assert count(service, "transcripts") == NUM_CALLS
    assert (
        service.query(
            "SELECT call_id, scorecard_id FROM analysis_runs GROUP BY 1, 2 HAVING count(*) > 1"
        )
        == []
    )
    assert count(service, "analysis_runs") == 3 * NUM_CALLS
    assert service.stop() == 0
    assert service.processes() == []
