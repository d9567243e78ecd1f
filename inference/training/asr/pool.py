"""The speech pool: processes write shards of utterances, a thread moves them to the training device as they appear."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

SAMPLE_RATE = 8_000


class Spoken(Protocol):
    """What a producer yields: int16 samples [n] at 8 kHz, written text, the words said, the voice's label."""

    @property
    def samples(self) -> np.ndarray: ...  # noqa: D102
    @property
    def text(self) -> str: ...  # noqa: D102
    @property
    def spoken(self) -> str: ...  # noqa: D102
    @property
    def voice(self) -> str: ...  # noqa: D102


Producer = Callable[[int], Iterator[Spoken]]
"""Given a seed, an endless stream of utterances. It must be picklable: a module-level function."""


class PoolError(RuntimeError):
    """The pool did not fill: producers died or were too slow."""


def write_shard(path: Path, utterances: list[Spoken]) -> None:
    """Write utterances as one .npz, atomically: a reader never sees half a shard."""
    temporary = path.with_suffix(".tmp.npz")
    np.savez(
        temporary,
        samples=np.concatenate([utterance.samples for utterance in utterances]),
        lengths=np.array([len(utterance.samples) for utterance in utterances], dtype=np.int64),
        texts=np.array("\n".join(utterance.text for utterance in utterances)),
        spoken=np.array("\n".join(utterance.spoken for utterance in utterances)),
        voices=np.array("\n".join(utterance.voice for utterance in utterances)),
    )
    os.replace(temporary, path)


def _produce(
    producer: Producer, seed: int, worker: int, directory: Path, shard_seconds: float, until: float
) -> None:
    """One worker process: shards named by worker and number, resumed after the last one written."""
    done = len(list(directory.glob(f"shard-{worker:03d}-*[0-9].npz")))
    # A restarted worker takes a fresh stream rather than replaying what is on disk.
    stream = producer(hash((seed, worker, done)) & 0x7FFFFFFF)
    while time.time() < until:
        utterances: list[Spoken] = []
        total = 0
        while total < shard_seconds * SAMPLE_RATE and time.time() < until:
            utterances.append(next(stream))
            total += len(utterances[-1].samples)
        if utterances:
            write_shard(directory / f"shard-{worker:03d}-{done:05d}.npz", utterances)
            done += 1


class PoolWriters:
    """Producer processes that fill a directory until a wall-clock time."""

    def __init__(
        self,
        producer: Producer,
        directory: Path,
        *,
        seed: int,
        num_processes: int,
        seconds: float,
        shard_seconds: float = 300.0,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        # Spawned: the parent has threads and may have touched CUDA.
        context = multiprocessing.get_context("spawn")
        until = time.time() + seconds
        self._processes = [
            context.Process(
                target=_produce,
                args=(producer, seed, worker, directory, shard_seconds, until),
                daemon=True,
            )
            for worker in range(num_processes)
        ]
        for process in self._processes:
            process.start()

    def check(self) -> None:
        """Raise PoolError when a worker died with an error."""
        failed = [process.exitcode for process in self._processes if process.exitcode]
        if failed:
            raise PoolError(f"{len(failed)} speech workers died (exit codes {sorted(set(failed))})")

    def stop(self) -> None:
        """End the workers at once; shards already written stay."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()


@dataclass(frozen=True, slots=True)
class PoolView:
    """A snapshot of what the pool holds: parallel sequences over utterances, in order of arrival."""

    starts: np.ndarray  # int64 [n], offset of the first sample in the pool's flat buffer
    lengths: np.ndarray  # int64 [n], samples
    tokens: list[list[int]]
    spoken: list[str]
    by_voice: list[list[int]]  # for each voice the indices of its utterances


class SpeechPool:
    """All speech as one flat int16 buffer on the device, growing while training reads it."""

    def __init__(
        self,
        directory: Path,
        encode: Callable[[list[str]], list[list[int] | None]],
        *,
        capacity_hours: float,
        device: torch.device,
    ) -> None:
        self._directory = directory
        self._encode = encode
        self._device = device
        self.buffer = torch.zeros(
            int(capacity_hours * 3_600 * SAMPLE_RATE), dtype=torch.int16, device=device
        )
        self._used = 0
        self.unwritable = 0  # utterances left out because no recogniser may write their text
        self._loaded: set[str] = set()
        self._starts: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []
        self._tokens: list[list[int]] = []
        self._spoken: list[str] = []
        self._by_voice: dict[str, list[int]] = {}
        self._hash = hashlib.sha256()
        self._stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._view: PoolView | None = None
        self._error: Exception | None = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def hours(self) -> float:
        """Speech loaded so far."""
        return self._used / SAMPLE_RATE / 3_600

    @property
    def data_hash(self) -> str:
        """sha256 over the texts and sample bytes of the shards, in loading order."""
        return self._hash.hexdigest()

    def load_new(self) -> int:
        """Load shards that appeared since the last call; returns how many. Stops quietly when the buffer is full."""
        fresh = sorted(
            path
            for path in self._directory.glob("shard-*[0-9].npz")
            if path.name not in self._loaded and ".tmp" not in path.name
        )
        loaded = 0
        for path in fresh:
            with np.load(path) as shard:
                samples, lengths = shard["samples"], shard["lengths"]
                texts, spoken, voices = (
                    str(shard[name]).split("\n") for name in ("texts", "spoken", "voices")
                )
            if self._used + len(samples) > len(self.buffer):
                break
            self._copy(samples)
            starts = self._used + np.concatenate(([0], np.cumsum(lengths)[:-1]))
            self._used += len(samples)
            tokens = self._encode(texts)
            kept = [index for index, one in enumerate(tokens) if one is not None]
            self.unwritable += len(tokens) - len(kept)
            self._starts.append(starts[kept])
            self._lengths.append(lengths[kept])
            for number, index in enumerate(kept, len(self._tokens)):
                self._by_voice.setdefault(voices[index], []).append(number)
            self._tokens += [one for one in tokens if one is not None]
            self._spoken += [spoken[index] for index in kept]
            self._loaded.add(path.name)
            self._hash.update(hashlib.sha256(samples.tobytes()).digest())
            self._hash.update("\n".join(texts).encode())
            loaded += 1
        if loaded:
            self._publish()
        return loaded

    def _copy(self, samples: np.ndarray) -> None:
        target = self.buffer[self._used : self._used + len(samples)]
        if self._stream is None:
            target.copy_(torch.from_numpy(samples))
            return
        # Its own stream: a copy on the training stream would wait for the queued steps.
        with torch.cuda.stream(self._stream):
            target.copy_(torch.from_numpy(samples).pin_memory(), non_blocking=True)
        self._stream.synchronize()

    def _publish(self) -> None:
        self._view = PoolView(
            starts=np.concatenate(self._starts),
            lengths=np.concatenate(self._lengths),
            tokens=self._tokens,
            spoken=self._spoken,
            # Copies: the originals grow while a view is in use.
            by_voice=[list(numbers) for _, numbers in sorted(self._by_voice.items())],
        )

    def view(self) -> PoolView:
        """The newest snapshot. Raises PoolError while the pool is empty, and the loader's error if it failed."""
        if self._error is not None:
            raise PoolError("the pool's loader failed") from self._error
        if self._view is None:
            raise PoolError("the speech pool is empty")
        return self._view

    def start_loading(self, every_seconds: float = 2.0) -> None:
        """Keep loading in a thread until `close`."""

        def loop() -> None:
            while not self._closed.wait(every_seconds):
                try:
                    self.load_new()
                except Exception as error:  # noqa: BLE001 - handed to the training thread by view()
                    self._error = error
                    return

        self._thread = threading.Thread(target=loop, name="pool loader", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the loading thread."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
