"""A worker that stops at a chosen point of its work, so that a test can kill it there. A double for tests only.

It is `python -m workers.process` with pauses: AFTERCALL_TEST_HOLD names the point and a file. The first process that
comes to the point creates the file and waits until another beside it appears; whoever comes later passes. The worker's
own patience is cut short as well: waiting for real would take minutes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery.signals import worker_process_init

from workers import stopping
from workers.celery_app import app
from workers.process import main

if TYPE_CHECKING:
    from inference.diffusion import BranchResult, DiffusionEngine

POINT, _, FLAG = os.environ["AFTERCALL_TEST_HOLD"].partition(":")
HELD = Path(FLAG)
RELEASED = HELD.with_suffix(".released")

stopping.GRACE_S = 0.3
app.conf.worker_soft_shutdown_timeout = 0.3


def hold() -> None:
    """Wait here, if this is the first time that anybody comes here."""
    try:
        HELD.touch(exist_ok=False)
    except FileExistsError:
        return
    while not RELEASED.exists():
        time.sleep(0.02)


def before(method: Callable[..., Any]) -> Callable[..., Any]:
    """`method` after a hold."""

    def held(*arguments: Any, **named: Any) -> Any:
        hold()
        return method(*arguments, **named)

    return held


def hold_between_records(engine: type[DiffusionEngine]) -> None:
    """Let the engine give its records out one by one, with a hold when the first of them is stored."""
    step, has_work, clear = engine.step, engine.has_work.fget, engine.clear  # type: ignore[attr-defined]
    kept: list[BranchResult] = []
    num_given = 0

    def step_by_record(self: DiffusionEngine) -> list[BranchResult]:
        nonlocal num_given
        if num_given == 1:
            hold()
        if not kept:
            kept.extend(step(self))
        given, kept[:1] = kept[:1], []
        num_given += len(given)
        return given

    def clear_all(self: DiffusionEngine) -> None:
        kept.clear()
        clear(self)

    engine.step = step_by_record  # type: ignore[method-assign]
    engine.has_work = property(lambda self: bool(kept) or has_work(self))  # type: ignore[assignment]
    engine.clear = clear_all  # type: ignore[method-assign]


@worker_process_init.connect
def install(**_: object) -> None:
    """Put the hold in place, in the pool's processes only."""
    if POINT == "mid-transcribe":
        from inference.speech import SpeechRecognizer

        SpeechRecognizer.transcribe = before(SpeechRecognizer.transcribe)  # type: ignore[method-assign]
        return
    from inference.diffusion import DiffusionEngine

    if POINT == "mid-batch":
        DiffusionEngine.step = before(DiffusionEngine.step)  # type: ignore[method-assign]
    else:
        hold_between_records(DiffusionEngine)


if __name__ == "__main__":
    main()
