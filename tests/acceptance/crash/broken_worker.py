"""A worker whose first pool process has lost its GPU for good. A double for tests only.

It is `python -m workers.process`; the process that creates the file AFTERCALL_TEST_BROKEN raises in every step what
CUDA raises after an illegal access. Later processes work.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery.signals import worker_process_init

from workers.process import main


@worker_process_init.connect
def install(**_: object) -> None:
    """Break this process, if it is the first."""
    try:
        Path(os.environ["AFTERCALL_TEST_BROKEN"]).touch(exist_ok=False)
    except FileExistsError:
        return
    from inference.diffusion import DiffusionEngine

    def step(_: DiffusionEngine) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    DiffusionEngine.step = step  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
