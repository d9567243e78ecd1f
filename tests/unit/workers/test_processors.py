from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers.processors import threads_per_worker


@pytest.fixture
def twelve_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)))


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [
        ("max 100000", 6),
        ("400000 100000", 2),
        ("250000 100000", 1),
        ("50000 100000", 1),
        ("9900000 100000", 6),
    ],
)
def test_the_two_stages_share_what_the_container_grants(
    tmp_path: Path, twelve_processors: None, cpu_max: str, expected: int
) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(cpu_max + "\n")
    assert threads_per_worker(path) == expected


def test_outside_a_container_affinity_decides(tmp_path: Path, twelve_processors: None) -> None:
    assert threads_per_worker(tmp_path / "absent") == 6
