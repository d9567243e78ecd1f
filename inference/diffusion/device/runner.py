"""The runner for a GPU: a step is decided and written on the device, and the host stays one step behind.

The host must know how many rows to launch, but not which. A position that was masked before a step is open in the
next one, as it is then either still masked or just committed; so the number of open positions of a step is what was
masked one step earlier, and the host can launch a step while the one before it runs. It waits for a step only where
that is likely to be the last one, as another would compute nothing. A step that calls have entered for encodes their
prompts too. Small steps, which would be over before their launches, are captured as CUDA graphs and replayed.

Under Triton's interpreter everything here runs on a CPU too, without graphs; that is how it is tested there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.profiler import record_function

from inference.diffusion.batch import LiveCall
from inference.diffusion.device.constraint import DeviceConstraint
from inference.diffusion.device.graphs import StepGraphs
from inference.diffusion.device.lists import send
from inference.diffusion.device.prompt_rows import MOST_LONE_ROWS, PromptRows
from inference.diffusion.device.step_layout import DeviceLayout, Seat, StepSize, likely_fills
from inference.diffusion.device.trunk import Bounds, PackedRows, PackedTrunk
from inference.diffusion.kernels.head import FusedHead
from inference.diffusion.kernels.naive import Canvases, OpenRows
from inference.diffusion.kernels.open_rows import count_open, list_open
from inference.diffusion.kernels.vocabulary_layout import class_layout
from inference.diffusion.model import LladaModel
from inference.diffusion.rules import CommitRule
from inference.diffusion.runner import FilledCanvas
from inference.diffusion.structured.table_store import TableStore


@dataclass(frozen=True, slots=True)
class _Launched:
    """A step on its way: its canvases, and what is still masked by seat number once `is_done` has been reached."""

    seats: list[Seat]
    num_masked: Tensor
    is_done: torch.cuda.Event | None


class DeviceRunner:
    """See `Runner`. Buffers are indexed by cache row: a token lies where its keys and values do."""

    def __init__(
        self,
        model: LladaModel,
        rule: CommitRule,
        *,
        num_rows: int,
        max_canvases: int,
        pad_token_id: int,
        mask_token_id: int,
        refresh_every: int | None,
        deterministic: bool,
    ) -> None:
        self._refresh_every = refresh_every
        device = model.head_weight.device
        self._device, self._head_weight = device, model.head_weight
        self._trunk = PackedTrunk(model, num_rows, deterministic=deterministic)
        self._store = TableStore(model.config.embedding_size, device)
        self._constraint = DeviceConstraint(
            num_places=num_rows,
            max_canvases=max_canvases,
            store=self._store,
            pad_token_id=pad_token_id,
            mask_token_id=mask_token_id,
            rule=rule,
        )
        integers = torch.zeros(5, num_rows, dtype=torch.int32, device=device)
        self._canvases = Canvases(
            tokens=integers[0],
            positions=integers[1],
            is_open=integers[2],
            commit_step=integers[3],
            row_of_place=integers[4],
            mask_token_id=mask_token_id,
        )
        self._confidence = torch.ones(num_rows, device=device)
        self._layout = DeviceLayout(max_canvases, device)
        self._graphs = StepGraphs()
        self._head: FusedHead | None = None
        self._num_tables = 0
        self._free_seats = list(reversed(range(max_canvases)))
        self._seats: list[Seat] = []
        self._is_laid_out = True
        self._prompts = PromptRows(device)
        self._unread: list[LiveCall] = []
        """Calls whose prompts the next step encodes."""
        self._launched: deque[_Launched] = deque()
        self._read_stream = (
            torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None
        )

    def enter(self, calls: Sequence[LiveCall]) -> None:
        """See Runner."""
        if self._refresh_every is None:
            self._unread += calls
        for call in calls:
            for branch in call.branches:
                number = self._free_seats.pop()
                self._constraint.seat(number, branch.scaffold, branch.canvas.start)
                num_masked = sum(span.num_tokens for span in branch.scaffold.spans)
                self._seats.append(Seat(branch, number, branch.run.length, num_masked))
        self._write_canvases(calls)
        self._is_laid_out = False

    def denoise(self) -> None:
        """See Runner. Launches a step and returns."""
        if not self._seats:
            return
        if not self._is_laid_out:
            self._lay_out()
        self._refresh()
        prompts, stay = self._pack_prompts()
        size = StepSize.of(self._seats, may_capture=stay and self._device.type == "cuda")
        key = (size, len(prompts) if prompts else 0, self._constraint.graph_key)
        with record_function("step"):
            self._graphs.run(key, lambda: self._step(size, prompts), is_captured=size.is_captured)
        self._launched.append(self._read_counts())
        for seat in self._seats:
            seat.num_open = seat.num_masked

    def collect(self) -> tuple[list[FilledCanvas], list[LiveCall]]:
        """See Runner. The step launched last may still run: it is waited for if it is likely to fill all canvases."""
        filled: dict[Seat, None] = {}
        while len(self._launched) > 1 or (self._launched and likely_fills(self._seats)):
            launched = self._launched.popleft()
            if launched.is_done is not None:
                launched.is_done.synchronize()
            num_masked = launched.num_masked.tolist()
            for seat in launched.seats:
                seat.advance(num_masked[seat.number], is_newest=not self._launched)
                if not seat.num_masked:
                    filled[seat] = None
        return self._release([seat for seat in filled if seat in self._seats])

    def clear(self) -> None:
        """See Runner."""
        for seat in self._seats:
            self._leave(seat)
        self._seats.clear()
        self._unread.clear()
        self._launched.clear()

    # enter

    def _write_canvases(self, calls: Sequence[LiveCall]) -> None:
        branches = [branch for call in calls for branch in call.branches]
        place, token, position = send(
            self._device,
            np.concatenate([np.arange(b.run.start, b.run.end) for b in branches]),
            [token for branch in branches for token in branch.tokens],
            np.concatenate([np.arange(b.run.length) + b.call.run.length for b in branches]),
        )
        index = place.long()
        self._canvases.tokens[index] = token
        self._canvases.positions[index] = position
        self._canvases.commit_step.index_fill_(0, index, 0)
        self._canvases.is_open.index_fill_(0, index, 1)
        self._confidence.index_fill_(0, index, 1.0)

    def _lay_out(self) -> None:
        """Tell the device who is live; what was captured stays valid unless the tables have changed."""
        self._constraint.lay_out()
        self._layout.upload(self._seats)
        if self._num_tables != len(self._store.token_class) or self._head is None:
            token_class = self._store.token_class
            if not len(token_class):  # scaffolds without slots
                token_class = token_class.new_zeros(1, token_class.shape[1])
            layout = class_layout(token_class, self._store.num_classes)
            self._head = FusedHead(self._head_weight, layout)
            self._num_tables = len(self._store.token_class)
            self._graphs.clear()
        self._graphs.keep(self._constraint.version)
        self._is_laid_out = True

    # denoise

    def _refresh(self) -> None:
        """Open every position of the branches whose prompts are due to be encoded anew."""
        if self._refresh_every is None:
            return
        due = [seat for seat in self._seats if seat.num_steps % self._refresh_every == 0]
        for seat in due:
            seat.num_open = seat.branch.run.length
        for seat in self._seats:
            seat.num_steps += 1
        if due:
            runs = [seat.branch.run for seat in due]
            (places,) = send(
                self._device, np.concatenate([np.arange(run.start, run.end) for run in runs])
            )
            self._canvases.is_open.index_fill_(0, places.long(), 1)

    def _pack_prompts(self) -> tuple[PackedRows | None, bool]:
        """The prompts that are not encoded yet, and whether a step with them can be captured."""
        calls = list(self._unread)
        self._unread.clear()
        if not calls:
            return None, True
        is_lone = all(seat.branch.call is calls[0] for seat in self._seats)
        if is_lone and calls[0].run.length <= MOST_LONE_ROWS:
            return self._prompts.pack_lone(calls[0]), True
        return self._prompts.pack(calls), False

    def _step(self, size: StepSize, prompts: PackedRows | None) -> None:
        """Forward, constrained confidences, commits: nothing here waits for the device."""
        layout, canvases = self._layout, self._canvases
        start, end = layout.canvas_start(size), layout.canvas_end(size)
        count = count_open(canvases, start, end)
        rows = list_open(
            canvases, start, end, count, num_rows=size.num_rows, num_heads=size.num_heads
        )
        call_offsets = torch.cat([count.new_zeros(1), rows.canvas_last])[layout.call_first(size)]
        seen = OpenRows(
            call_offsets,
            layout.prompt_start(size),
            layout.prompt_end(size),
            rows.canvas,
            start,
            end,
        )
        bounds = Bounds(size.longest, size.longest_prompt)
        open_rows = PackedRows(rows.token, rows.position, rows.place, seen, bounds)
        with record_function(f"trunk {len(open_rows)}+{len(prompts) if prompts else 0}"):
            hidden = self._trunk(open_rows, rows.head_row, prompts)
        with record_function("head"):
            assert self._head is not None
            table = self._constraint.table_of_place[rows.head_place]
            reduction = self._head(self._trunk.normalise(hidden), table)
        self._constraint.step(reduction, canvases.row_of_place, canvases.tokens, self._confidence)

    def _read_counts(self) -> _Launched:
        """Bring the numbers of masked positions to the host, once the step is over."""
        counts, seats = self._constraint.num_masked, list(self._seats)
        if self._read_stream is None:
            return _Launched(seats, counts.clone(), None)
        on_host = self._to_host(counts)
        is_done = torch.cuda.Event()
        is_done.record()
        return _Launched(seats, on_host, is_done)

    # collect

    def _release(self, filled: Sequence[Seat]) -> tuple[list[FilledCanvas], list[LiveCall]]:
        canvases = self._read(filled)
        for seat in filled:
            self._seats.remove(seat)
            self._leave(seat)
        live = {seat.branch.call for seat in self._seats}
        left = dict.fromkeys(seat.branch.call for seat in filled)
        return canvases, [call for call in left if call not in live]

    def _leave(self, seat: Seat) -> None:
        self._constraint.vacate(seat.number)
        self._free_seats.append(seat.number)
        self._is_laid_out = False

    def _read(self, seats: Sequence[Seat]) -> list[FilledCanvas]:
        """What the canvases hold. They do not change any more, so nothing waits for the step that runs."""
        if not seats:
            return []
        canvases = self._canvases
        parts = (canvases.tokens, self._confidence, canvases.commit_step)
        spans = [slice(seat.branch.canvas.start, seat.branch.canvas.end) for seat in seats]
        if self._read_stream is None:
            found = [[part[span].tolist() for part in parts] for span in spans]
        else:
            with torch.cuda.stream(self._read_stream):
                copies = [[self._to_host(part[span]) for part in parts] for span in spans]
            self._read_stream.synchronize()
            found = [[copy.tolist() for copy in of_seat] for of_seat in copies]
        return [
            FilledCanvas(seat.branch, *of_seat) for seat, of_seat in zip(seats, found, strict=True)
        ]

    def _to_host(self, part: Tensor) -> Tensor:
        on_host = torch.empty(part.shape, dtype=part.dtype, pin_memory=True)
        return on_host.copy_(part, non_blocking=True)
