"""The training stream: examples, masked and packed into fixed-size batches in worker processes.

A batch is `rows` x `row_length` tokens. Each call lies in one row: its prompt once, then `mask_draws` canvases for
every branch, each masked with a rate of its own. `call_ids` and `canvas_ids` tell attention who sees whom; what is
masked, and with what weight, is decided here, so that the step on the device has no branch and no host sync.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from inference.diffusion.structured.scaffold import Scaffold
from inference.diffusion.tokenizer import DiffusionTokenizer
from inference.training.dllm.canvas import EncodedCall, encode_call
from inference.training.dllm.config import TrainConfig, TrainingError

Examples = Callable[[int, int], Iterator[Mapping[str, Any]]]
"""`(shard, num_shards) -> examples of that shard`: deterministic, and different for every shard."""

PADDING_CALL = -1
DATA_HASH_EXAMPLES = 64


class Batch(NamedTuple):
    """One step's data. `[rows, row_length]` where not stated; `loss_*` hold one entry per masked position."""

    token_ids: Tensor  # int32, masked
    positions: Tensor  # int16, rotary positions: a canvas goes on where its prompt ends
    call_ids: Tensor  # int16, PADDING_CALL where no call lies
    canvas_ids: Tensor  # int16, 0 in the prompt, from 1 in canvases
    loss_rows: Tensor  # int32 [num_masked], indices into the flattened batch
    loss_targets: Tensor  # int32 [num_masked]
    loss_weights: Tensor  # float32 [num_masked]; they sum to 1, so that the loss is a mean over slot positions
    loss_branches: Tensor  # int16 [num_masked]
    num_calls: int
    num_skipped: int  # examples left out: a value longer than its slot
    num_tokens: int
    shard: int
    examples_drawn: int  # of that shard's stream, when this batch was full


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """Where the stream of batches stands: batches taken, and examples drawn from every shard."""

    batches: int
    examples_drawn: tuple[int, ...]

    @classmethod
    def start(cls, num_shards: int) -> StreamPosition:
        """The beginning of the stream."""
        return cls(0, (0,) * num_shards)

    def after(self, batch: Batch) -> StreamPosition:
        """The position after one more batch."""
        drawn = list(self.examples_drawn)
        drawn[batch.shard] = batch.examples_drawn
        return StreamPosition(self.batches + 1, tuple(drawn))


class PackedBatches(IterableDataset[Batch]):
    """Batches from an example stream, resumable at any `StreamPosition`.

    The batch at a position depends on the seed, the shard and the position only, not on how often training was resumed.
    """

    def __init__(
        self,
        config: TrainConfig,
        examples: Examples,
        tokenizer: DiffusionTokenizer,
        scaffolds: Sequence[Scaffold],
        start: StreamPosition,
    ) -> None:
        super().__init__()
        self.config = config
        self.examples = examples
        self.tokenizer = tokenizer
        self.scaffolds = tuple(scaffolds)
        self.start = start
        self._slot_positions = [
            np.asarray(scaffold.slot_positions()) for scaffold in self.scaffolds
        ]

    def __iter__(self) -> Iterator[Batch]:
        """Batches of this worker's shard. Workers are read in turn, so the first one goes on with the next shard."""
        worker = get_worker_info()
        num_shards, worker_id = (worker.num_workers, worker.id) if worker else (1, 0)
        shard = (worker_id + self.start.batches) % num_shards
        drawn = self.start.examples_drawn[shard]
        stream = islice(self.examples(shard, num_shards), drawn, None)
        yield from self._pack(stream, shard, drawn)

    def _pack(
        self, examples: Iterator[Mapping[str, Any]], shard: int, drawn: int
    ) -> Iterator[Batch]:
        builder = self._builder(shard, drawn)
        for example in examples:
            call = encode_call(
                example,
                self.tokenizer,
                self.scaffolds,
                max_prompt_tokens=self.config.max_prompt_tokens,
            )
            if call is None:
                builder.num_skipped += 1
            elif not builder.add(call):
                if builder.num_calls:
                    yield builder.finish(shard, drawn)
                    builder = self._builder(shard, drawn)
                if not builder.add(call):
                    raise TrainingError(
                        f"a call of {builder.size(call)} tokens does not fit in row_length={self.config.row_length}"
                    )
            drawn += 1
        if builder.num_calls:
            yield builder.finish(shard, drawn)

    def _builder(self, shard: int, drawn: int) -> _BatchBuilder:
        rng = np.random.default_rng((self.config.seed, shard, drawn))
        mask_token_id, pad_token_id = self.tokenizer.mask_token_id, self.tokenizer.pad_token_id
        return _BatchBuilder(self.config, self._slot_positions, mask_token_id, pad_token_id, rng)


class _BatchBuilder:
    """Packs calls first-fit into one batch and masks their canvases."""

    def __init__(
        self,
        config: TrainConfig,
        slot_positions: Sequence[NDArray[np.intp]],
        mask_token_id: int,
        pad_token_id: int,
        rng: np.random.Generator,
    ) -> None:
        shape = (config.rows, config.row_length)
        self._draws = config.mask_draws
        self._slot_positions = slot_positions
        self._mask_token_id = mask_token_id
        self._rng = rng
        self._token_ids = np.full(shape, pad_token_id, np.int32)
        self._positions = np.zeros(shape, np.int16)
        self._call_ids = np.full(shape, PADDING_CALL, np.int16)
        self._canvas_ids = np.zeros(shape, np.int16)
        self._used = [0] * config.rows
        self._loss: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any], int]] = []
        self._num_slot_tokens = 0
        self.num_calls = 0
        self.num_skipped = 0

    def size(self, call: EncodedCall) -> int:
        """Tokens that a call takes in a row."""
        return len(call.prompt) + self._draws * sum(map(len, call.canvases))

    def add(self, call: EncodedCall) -> bool:
        """Place and mask a call; False when no row has room for it."""
        size = self.size(call)
        row_length = self._token_ids.shape[1]
        row = next((row for row, used in enumerate(self._used) if used + size <= row_length), None)
        if row is None:
            return False
        self._call_ids[row, self._used[row] : self._used[row] + size] = self.num_calls
        self._place(row, call.prompt, first_position=0, canvas_id=0)
        canvas_id = 0
        for branch, canvas in enumerate(call.canvases):
            # Spread over the unit interval: the draws of one canvas never ask the same question twice.
            for rate in (self._rng.random() + np.arange(self._draws) / self._draws) % 1.0:
                canvas_id += 1
                masked = self._mask(row, branch, canvas, rate)
                self._place(row, masked, first_position=len(call.prompt), canvas_id=canvas_id)
        self.num_calls += 1
        return True

    def finish(self, shard: int, examples_drawn: int) -> Batch:
        """The batch as tensors."""
        rows, targets, weights, branches = zip(*self._loss, strict=True)
        loss_branches = np.repeat(branches, [len(part) for part in rows])
        return Batch(
            torch.from_numpy(self._token_ids),
            torch.from_numpy(self._positions),
            torch.from_numpy(self._call_ids),
            torch.from_numpy(self._canvas_ids),
            torch.from_numpy(np.concatenate(rows).astype(np.int32)),
            torch.from_numpy(np.concatenate(targets)),
            torch.from_numpy((np.concatenate(weights) / self._num_slot_tokens).astype(np.float32)),
            torch.from_numpy(loss_branches.astype(np.int16)),
            num_calls=self.num_calls,
            num_skipped=self.num_skipped,
            num_tokens=sum(self._used),
            shard=shard,
            examples_drawn=examples_drawn,
        )

    def _place(
        self, row: int, token_ids: NDArray[np.int32], *, first_position: int, canvas_id: int
    ) -> None:
        span = slice(self._used[row], self._used[row] + len(token_ids))
        self._token_ids[row, span] = token_ids
        self._positions[row, span] = np.arange(first_position, first_position + len(token_ids))
        self._canvas_ids[row, span] = canvas_id
        self._used[row] = span.stop

    def _mask(
        self, row: int, branch: int, canvas: NDArray[np.int32], rate: float
    ) -> NDArray[np.int32]:
        """A copy of the canvas, about to be placed, with slot positions masked.

        LLaDA masks each position with probability t ~ U(0, 1) and weighs its loss by 1/t. The number of masked
        positions is then uniform; drawing that number, and weighing by slots over masked, has the same expectation
        (LLaDA, eq. 6) with far less variance: no canvas of one masked position gets a weight of a thousand.
        """
        slots = self._slot_positions[branch]
        count = 1 + int(rate * len(slots))
        masked = np.sort(self._rng.choice(slots, count, replace=False, shuffle=False))
        flat = row * self._token_ids.shape[1] + self._used[row] + masked
        weights = np.full(count, len(slots) / count)
        self._loss.append((flat, canvas[masked], weights, branch))
        self._num_slot_tokens += len(slots)
        out = canvas.copy()
        out[masked] = self._mask_token_id
        return out


def batch_loader(
    dataset: PackedBatches, *, num_workers: int, pin_memory: bool
) -> DataLoader[Batch]:
    """Batches made by `num_workers` processes (0: in this one), in an order that does not depend on their speed."""
    # Workers tokenise one text at a time; the tokenizers library's own threads would only get in each other's way.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return DataLoader(
        dataset,
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        prefetch_factor=2
        if num_workers
        else None,  # 24 batches of 0.8 MB fit in a container's 64 MB of /dev/shm
        persistent_workers=num_workers > 0,
        # Example factories are closures over simulators and files; a forked worker has them without pickling.
        multiprocessing_context="fork" if num_workers else None,
    )


def jsonl_examples(path: Path) -> Examples:
    """The lines of a JSONL file as an endless stream: shards take every n-th line, epoch after epoch, reshuffled."""

    def stream(shard: int, num_shards: int) -> Iterator[Mapping[str, Any]]:
        with path.open(encoding="utf-8") as lines:
            examples = [
                json.loads(line) for line in islice(lines, shard, None, num_shards) if line.strip()
            ]
        if not examples:
            raise TrainingError(f"{path} has no example for worker {shard} of {num_shards}")
        epoch = 0
        while True:
            for i in np.random.default_rng((epoch, shard)).permutation(len(examples)):
                yield examples[i]
            epoch += 1

    return stream


def data_hash(examples: Examples) -> str:
    """sha256 over the first examples of the first shard: tells one data source, seed or version from another."""
    digest = hashlib.sha256()
    for example in islice(examples(0, 1), DATA_HASH_EXAMPLES):
        digest.update(json.dumps(example, sort_keys=True, ensure_ascii=False).encode())
    return digest.hexdigest()
