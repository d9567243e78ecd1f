"""The LM head in chunks of the vocabulary: a library product each, reduced while its logits are in the L2 cache."""

# ruff: noqa: N803 -- parameters in capitals are compile-time constants
# mypy: allow-untyped-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference.diffusion.kernels.head_merge import Partials, merge, reduce_tile
from inference.diffusion.kernels.naive import HeadReduction
from inference.diffusion.kernels.vocabulary_layout import VocabularyLayout, plain_layout

# Exactly four 128 x 256 tiles of bfloat16 for each of 132 multiprocessors, and well inside 50 MB of L2.
DEFAULT_CHUNK_BYTES = 33 << 20
TILE_ROWS, TILE_COLUMNS = 16, 256


@triton.jit(do_not_specialize=["o_tile", "num_rows"])
def reduce_chunk_kernel(
    p_logits,
    o_tile,
    num_rows,
    num_columns,
    p_score,
    p_column,
    p_total,
    p_tile_cells,
    p_cell_start,
    p_cell_slot,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SINGLES: tl.constexpr,
):
    """Logits `[num_rows, num_columns]`, whose first tile is number `o_tile`, to partial results."""
    i_row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    i_column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    i_tile = o_tile + tl.program_id(0)
    m_in = (i_row < num_rows)[:, None] & (i_column < num_columns)[None, :]
    o_in = i_row[:, None].to(tl.int64) * num_columns + i_column[None, :]
    logits = tl.load(p_logits + o_in, mask=m_in, other=0.0).to(tl.float32)
    reduce_tile(
        logits,
        i_tile,
        i_tile * COLUMNS,
        i_row,
        num_rows,
        p_score,
        p_column,
        p_total,
        p_tile_cells,
        p_cell_start,
        p_cell_slot,
        SINGLES,
    )


class ChunkedHead:
    """The LM head of one checkpoint as library products and a reduction after each.

    Args:
        weight: `[vocab, d_model]`.
        layout: of the classes to reduce by; the vocabulary as a whole if not given.
        chunk_bytes: logits of one chunk, at most (but at least one tile of every row).
        logits_dtype: of the chunk; that of `hidden` if not given, which rounds the logits. CUDA only.
        overlapped: reduce a chunk on a second stream, beside the product of the next one.
    """

    def __init__(
        self,
        weight: Tensor,
        layout: VocabularyLayout | None = None,
        *,
        chunk_bytes: int = DEFAULT_CHUNK_BYTES,
        logits_dtype: torch.dtype | None = None,
        overlapped: bool = False,
    ) -> None:
        self.layout = layout or plain_layout(len(weight), weight.device)
        self.weight = self.layout.order(weight)
        self.cells = self.layout.cells(TILE_COLUMNS)
        self.chunk_bytes = chunk_bytes
        self.logits_dtype = logits_dtype or weight.dtype
        self.reduce_stream = torch.cuda.Stream(weight.device, priority=-1) if overlapped else None

    def __call__(self, hidden: Tensor, row_table: Tensor | None = None) -> HeadReduction:
        """Reduce the logits of `hidden [num_rows, d_model]`, by the classes of `row_table [num_rows]` if given."""
        partials = Partials.empty(self.cells, len(hidden))
        if self.reduce_stream is None:
            self._run(hidden, partials)
        else:
            self._run_overlapped(hidden, partials, self.reduce_stream)
        return merge(partials, self.cells, self.layout, row_table)

    def _run(self, hidden: Tensor, partials: Partials) -> None:
        width = self._chunk_width(len(hidden))
        buffer = self._new_buffer(hidden, width)
        for start in range(0, len(self.weight), width):
            self._reduce(self._multiply(hidden, start, width, buffer), start, partials)

    def _run_overlapped(
        self, hidden: Tensor, partials: Partials, reduce_stream: torch.cuda.Stream
    ) -> None:
        width = self._chunk_width(len(hidden))
        buffers = [self._new_buffer(hidden, width) for _ in range(2)]
        main_stream = torch.cuda.current_stream(hidden.device)
        is_free: list[torch.cuda.Event | None] = [None, None]
        for chunk, start in enumerate(range(0, len(self.weight), width)):
            if (event := is_free[chunk % 2]) is not None:
                main_stream.wait_event(event)
            logits = self._multiply(hidden, start, width, buffers[chunk % 2])
            reduce_stream.wait_stream(main_stream)
            with torch.cuda.stream(reduce_stream):
                self._reduce(logits, start, partials)
                is_free[chunk % 2] = reduce_stream.record_event()
        main_stream.wait_stream(reduce_stream)

    def _chunk_width(self, num_rows: int) -> int:
        """Columns of a chunk: whole tiles."""
        buffers = 1 if self.reduce_stream is None else 2
        row_bytes = num_rows * self.logits_dtype.itemsize * buffers
        return max(1, self.chunk_bytes // row_bytes // TILE_COLUMNS) * TILE_COLUMNS

    def _new_buffer(self, hidden: Tensor, width: int) -> Tensor:
        size = len(hidden) * min(width, len(self.weight))
        return torch.empty(size, dtype=self.logits_dtype, device=hidden.device)

    def _multiply(self, hidden: Tensor, start: int, width: int, buffer: Tensor) -> Tensor:
        weight = self.weight[start : start + width]
        logits = buffer[: len(hidden) * len(weight)].view(len(hidden), len(weight))
        if self.logits_dtype == hidden.dtype:
            return torch.mm(hidden, weight.T, out=logits)
        return torch.mm(hidden, weight.T, out_dtype=self.logits_dtype, out=logits)

    def _reduce(self, logits: Tensor, start: int, partials: Partials) -> None:
        num_rows, num_columns = logits.shape
        grid = (triton.cdiv(num_columns, TILE_COLUMNS), triton.cdiv(num_rows, TILE_ROWS))
        reduce_chunk_kernel[grid](
            logits,
            start // TILE_COLUMNS,
            num_rows,
            num_columns,
            partials.score,
            partials.column,
            partials.total,
            self.cells.tile_cells,
            self.cells.cell_start,
            self.cells.cell_slot,
            ROWS=TILE_ROWS,
            COLUMNS=TILE_COLUMNS,
            SINGLES=self.layout.num_groups > 1,
        )
