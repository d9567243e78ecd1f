"""The supervisor and signals that come at any moment."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from workers import supervisor
from workers.settings import Settings

NUM_SIGNALS = 40


@pytest.fixture
def handlers() -> Iterator[None]:
    """Signals as a terminal gives them (a shell's background job ignores SIGINT); as they were, after the test."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("handlers")
def test_a_signal_at_any_moment_of_the_wait_stops_the_service(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A handler runs between any two steps of the loop, also where the loop holds a lock.

    The service is a double that only counts how often it was stopped; a real one takes seconds to start, and the
    moment in which a signal could do harm is microseconds long: hence no pause between looks, and many signals.
    """
    num_stopped = 0

    @contextmanager
    def service_double(_: Settings) -> Iterator[SimpleNamespace]:
        nonlocal num_stopped
        yield SimpleNamespace(dead_server=None)
        num_stopped += 1

    monkeypatch.setattr(supervisor, "running_service", service_double)
    monkeypatch.setattr(supervisor, "POLL_S", 0.0)
    settings = Settings(data_dir=tmp_path)
    for i in range(NUM_SIGNALS):
        number = (signal.SIGTERM, signal.SIGINT)[i % 2]
        sender = threading.Thread(target=_send_soon, args=(number,))
        sender.start()
        supervisor.run_until_interrupted(settings)
        sender.join()
    assert num_stopped == NUM_SIGNALS


def _send_soon(number: signal.Signals) -> None:
    time.sleep(0.01)
    os.kill(os.getpid(), number)
