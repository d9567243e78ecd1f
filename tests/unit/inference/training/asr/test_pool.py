import time
from functools import partial
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
import torch

from analytics.simulator.speech.corpus import SpokenUtterance
from inference.training.asr.pool import PoolError, PoolWriters, SpeechPool, write_shard

_CPU = torch.device("cpu")


def _utterance(value: int, length: int = 100, text: str = "hello") -> SpokenUtterance:
    return SpokenUtterance(np.full(length, value, np.int16), text, text, f"voice {value % 2}")


def _encode(texts: list[str]) -> list[list[int] | None]:
    return [None if text == "(unwritable)" else [len(text)] for text in texts]


def _pool(directory: Path, capacity_hours: float = 0.01) -> SpeechPool:
    return SpeechPool(directory, _encode, capacity_hours=capacity_hours, device=_CPU)


def test_shards_become_one_buffer(tmp_path: Path) -> None:
    write_shard(tmp_path / "shard-000-00000.npz", [_utterance(1), _utterance(2, 50)])
    pool = _pool(tmp_path)
    assert pool.load_new() == 1
    write_shard(tmp_path / "shard-001-00000.npz", [_utterance(3, 70, "bye")])
    assert pool.load_new() == 1
    assert pool.load_new() == 0
    view = pool.view()
    assert view.tokens == [[5], [5], [3]]
    for start, length, value in zip(view.starts, view.lengths, (1, 2, 3), strict=True):
        assert (pool.buffer[start : start + length] == value).all()
    assert view.by_voice == [[1], [0, 2]]
    assert pool.hours == pytest.approx(220 / 8_000 / 3_600)


def test_unwritable_text_is_left_out_and_counted(tmp_path: Path) -> None:
    write_shard(
        tmp_path / "shard-000-00000.npz",
        [_utterance(1), _utterance(2, text="(unwritable)"), _utterance(3)],
    )
    pool = _pool(tmp_path)
    pool.load_new()
    view = pool.view()
    assert pool.unwritable == 1
    assert [int(pool.buffer[start]) for start in view.starts] == [1, 3]
    assert view.by_voice == [[0, 1]]


def test_a_full_buffer_takes_no_more(tmp_path: Path) -> None:
    for number in range(3):
        write_shard(tmp_path / f"shard-000-0000{number}.npz", [_utterance(number, 4_000)])
    pool = _pool(tmp_path, capacity_hours=8_000 / 8_000 / 3_600)
    assert pool.load_new() == 2
    assert len(pool.view().starts) == 2


def test_an_empty_pool_says_so(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="empty"):
        _pool(tmp_path).view()


def test_the_data_hash_tells_pools_apart(tmp_path: Path) -> None:
    hashes = set()
    for value in (1, 1, 2):
        directory = tmp_path / str(len(list(tmp_path.iterdir())))
        directory.mkdir()
        write_shard(directory / "shard-000-00000.npz", [_utterance(value)])
        pool = _pool(directory)
        pool.load_new()
        hashes.add(pool.data_hash)
    assert len(hashes) == 2


def test_a_failing_loader_reaches_the_training_thread(tmp_path: Path) -> None:
    (tmp_path / "shard-000-00000.npz").write_bytes(b"not a shard")
    pool = _pool(tmp_path)
    pool.start_loading(every_seconds=0.01)
    for _ in range(500):
        if pool._error is not None:
            break
        time.sleep(0.01)
    pool.close()
    with pytest.raises(PoolError, match="loader failed"):
        pool.view()


def test_processes_write_shards(tmp_path: Path) -> None:
    producer = partial(repeat, _utterance(7, 800))
    writers = PoolWriters(
        producer, tmp_path, seed=1, num_processes=1, seconds=60, shard_seconds=0.5
    )
    pool = _pool(tmp_path)
    for _ in range(600):
        writers.check()
        if pool.load_new():
            break
        time.sleep(0.05)
    writers.stop()
    assert (pool.buffer[: int(pool.view().lengths.sum())] == 7).all()


def test_a_dead_producer_is_reported(tmp_path: Path) -> None:
    # repeat(utterance, times) without a utterance: a TypeError in the worker.
    writers = PoolWriters(partial(repeat), tmp_path, seed=1, num_processes=1, seconds=60)
    for process in writers._processes:
        process.join(timeout=60)
    with pytest.raises(PoolError, match="workers died"):
        writers.check()
