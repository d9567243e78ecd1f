"""How the live canvases of a step lie: who belongs to which call, and how large the launches must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.diffusion.batch import Branch, LiveCall

# Numbers of rows for which a step is captured: close enough that filling up costs little, few enough to capture.
ROW_BUCKETS = (16, 32, 64, 96, 128, 160, 192, 256, 384, 512)


@dataclass(slots=True, eq=False)
class Seat:
    """A live canvas and what the host knows of it.

    Attributes:
        branch: whose canvas it is.
        number: its seat in the constraint.
        num_open: positions that the next step computes, or a few more.
        num_masked: positions that are masked before the next step, or more.
        num_committed: positions that the last step known of committed.
        num_steps: that were launched.
    """

    branch: Branch
    number: int
    num_open: int
    num_masked: int
    num_committed: int = 0
    num_steps: int = 0

    def advance(self, num_masked: int, *, is_newest: bool) -> None:
        """A step has left so many positions masked; `is_newest`: no later one has been launched."""
        self.num_committed = self.num_masked - num_masked
        self.num_masked = num_masked
        if not is_newest:  # what it committed has been computed once more
            self.num_open = num_masked


def likely_fills(seats: Sequence[Seat]) -> bool:
    """Whether the step on its way fills all canvases, if it commits as many positions of each as the one before did."""
    return bool(seats) and all(seat.num_masked <= seat.num_committed for seat in seats)


@dataclass(frozen=True, slots=True)
class StepSize:
    """Bounds of a step; two steps of one size launch the same grids.

    Attributes:
        num_rows: open positions.
        num_heads: masked positions.
        num_calls: with a live canvas.
        num_canvases: live.
        longest: open positions of a call.
        longest_prompt: tokens of a call's prompt.
        is_captured: the numbers are rounded up, so that the step can be replayed.
    """

    num_rows: int
    num_heads: int
    num_calls: int
    num_canvases: int
    longest: int
    longest_prompt: int
    is_captured: bool

    @classmethod
    def of(cls, seats: Sequence[Seat], *, may_capture: bool) -> StepSize:
        """The size of a step over these canvases."""
        rows_of_call: dict[LiveCall, int] = {}
        for seat in seats:
            call = seat.branch.call
            rows_of_call[call] = rows_of_call.get(call, 0) + seat.num_open
        num_rows = sum(rows_of_call.values())
        num_heads = max(1, sum(seat.num_masked for seat in seats))
        longest = max(rows_of_call.values())
        longest_prompt = max(call.run.length for call in rows_of_call)
        if not may_capture or num_rows > ROW_BUCKETS[-1]:
            return cls(
                num_rows=num_rows,
                num_heads=num_heads,
                num_calls=len(rows_of_call),
                num_canvases=len(seats),
                longest=longest,
                longest_prompt=longest_prompt,
                is_captured=False,
            )
        bucket = next(bucket for bucket in ROW_BUCKETS if bucket >= num_rows)
        return cls(
            num_rows=bucket,
            num_heads=bucket,
            num_calls=power_of_two(len(rows_of_call)),
            num_canvases=power_of_two(len(seats)),
            longest=min(bucket, power_of_two(max(longest, 64))),
            longest_prompt=power_of_two(max(longest_prompt, 512)),
            is_captured=True,
        )


class DeviceLayout:
    """Where the canvases of a step and their prompts lie, in buffers on the device that stay where they are."""

    def __init__(self, max_canvases: int, device: torch.device) -> None:
        self._width = power_of_two(max_canvases) + 1
        self._buffer = torch.zeros(5, self._width, dtype=torch.int32, device=device)

    def upload(self, seats: Sequence[Seat]) -> None:
        """Describe these canvases, those of a call behind each other. The host does not wait."""
        rows = torch.zeros(5, self._width, dtype=torch.int32)
        canvases = [(seat.branch.run.start, seat.branch.run.end) for seat in seats]
        rows[0, : len(seats)] = torch.tensor([start for start, _ in canvases])
        rows[1, : len(seats)] = torch.tensor([end for _, end in canvases])
        firsts: list[int] = []
        calls: list[LiveCall] = []
        for i, seat in enumerate(seats):
            if not calls or calls[-1] is not seat.branch.call:
                firsts.append(i)
                calls.append(seat.branch.call)
        rows[2, : len(calls)] = torch.tensor([call.run.start for call in calls])
        rows[3, : len(calls)] = torch.tensor([call.run.end for call in calls])
        rows[4] = len(seats)
        rows[4, : len(firsts)] = torch.tensor(firsts)
        if self._buffer.is_cuda:
            rows = rows.pin_memory()
        self._buffer.copy_(rows, non_blocking=True)

    def canvas_start(self, size: StepSize) -> Tensor:
        """int32 `[num_canvases]`; canvases beyond the live ones are empty."""
        return self._buffer[0, : size.num_canvases]

    def canvas_end(self, size: StepSize) -> Tensor:
        """int32 `[num_canvases]`."""
        return self._buffer[1, : size.num_canvases]

    def prompt_start(self, size: StepSize) -> Tensor:
        """int32 `[num_calls]`."""
        return self._buffer[2, : size.num_calls]

    def prompt_end(self, size: StepSize) -> Tensor:
        """int32 `[num_calls]`."""
        return self._buffer[3, : size.num_calls]

    def call_first(self, size: StepSize) -> Tensor:
        """int32 `[num_calls + 1]`, the first canvas of each call, and the number of canvases."""
        return self._buffer[4, : size.num_calls + 1]


def power_of_two(number: int) -> int:
    """The smallest power of two that is not below `number`."""
    return 1 << (number - 1).bit_length()
