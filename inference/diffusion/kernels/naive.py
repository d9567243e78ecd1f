"""What the decoding kernels compute, in plain PyTorch: the truth that every kernel is tested against.

It also serves machines without a GPU. Nothing here is written for speed, and nothing here needs Triton.
"""

from __future__ import annotations

import enum
import itertools
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class HeadReduction:
    """What a step needs to know of the logits of its rows.

    Attributes:
        score: float32 `[num_rows]` or `[num_rows, num_classes]`, the largest logit (of the class); -inf for a class
            without tokens.
        token: int32, same shape, the token that has it, the lowest id among equals; -1 for a class without tokens.
        lse: float32, same shape, log of the sum of exponentials of the logits (of the class).
        row_lse: float32 `[num_rows]`, the same over the whole vocabulary.
    """

    score: Tensor
    token: Tensor
    lse: Tensor
    row_lse: Tensor


def head_reduce(hidden: Tensor, weight: Tensor) -> HeadReduction:
    """LM head and reduction over the vocabulary, with products summed in float32.

    Args:
        hidden: `[num_rows, d_model]`.
        weight: `[vocab, d_model]`.
    """
    logits = hidden.float() @ weight.float().T
    lse = logits.logsumexp(1)
    return HeadReduction(logits.amax(1), logits.argmax(1).int(), lse, lse)


def head_reduce_classes(
    hidden: Tensor, weight: Tensor, token_class: Tensor, row_table: Tensor, num_classes: int
) -> HeadReduction:
    """LM head and reduction over the tokens of each class.

    Args:
        hidden: `[num_rows, d_model]`.
        weight: `[vocab, d_model]`.
        token_class: integer `[num_tables, vocab]`, the class of every token, below `num_classes`.
        row_table: integer `[num_rows]`, the table that holds for a row.
        num_classes: of the largest table.
    """
    logits = hidden.float() @ weight.float().T
    classes = token_class[row_table.long()].long()
    shape = (len(hidden), num_classes)
    score = logits.new_full(shape, -torch.inf).scatter_reduce(1, classes, logits, "amax")
    is_best = logits == score.gather(1, classes)
    ids = torch.arange(len(weight), device=hidden.device).expand_as(classes)
    nobody = len(weight)
    token = ids.new_full(shape, nobody).scatter_reduce(
        1, classes, ids.where(is_best, ids.new_tensor(nobody)), "amin"
    )
    spread = (logits - score.gather(1, classes)).exp()
    lse = score + logits.new_zeros(shape).scatter_add(1, classes, spread).log()
    is_empty = token == nobody
    return HeadReduction(
        score,
        token.masked_fill(is_empty, -1).int(),
        lse.masked_fill(is_empty, -torch.inf),
        logits.logsumexp(1),
    )


class Rule(enum.IntEnum):
    """How many of a canvas's masked positions are committed, best first; never none.

    THRESHOLD: those at or above the parameter. FACTOR: the largest n for which each of the n best is at or above
    1 - parameter / (n + 1) for its own place (Fast-dLLM, arXiv 2505.22618). QUOTA: the parameter itself (LLaDA).
    JOINT: the largest n whose chance to be right together, bounded from below by the sum of the confidences minus
    n - 1, stays above the parameter. DOUBT: the largest n of which all but the last are doubted by at most the
    parameter together.
    """

    THRESHOLD = 0
    FACTOR = 1
    QUOTA = 2
    JOINT = 3
    DOUBT = 4


@dataclass(frozen=True, slots=True)
class OpenRows:
    """Where the open positions of a step belong: int32, on the device of the model.

    Attributes:
        call_offsets: `[num_calls + 1]`, first row of each call, and the end of the last one.
        prompt_start: `[num_calls]`, first cache row of the call's prompt.
        prompt_end: `[num_calls]`, the row after its last one.
        row_canvas: `[num_rows]`, the canvas of each row. The canvases of a call follow each other, and so do the rows
            of a canvas. Not read if there are no canvases.
        canvas_start: `[num_canvases]`, first cache row of each canvas; none where prompts see themselves.
        canvas_end: `[num_canvases]`, the row after its last one.
    """

    call_offsets: Tensor
    prompt_start: Tensor
    prompt_end: Tensor
    row_canvas: Tensor
    canvas_start: Tensor
    canvas_end: Tensor


def ragged_attention(q: Tensor, keys: Tensor, values: Tensor, rows: OpenRows) -> Tensor:
    """Attention of open positions over the prompt of their call and the whole of their own canvas.

    Args:
        q: `[num_rows, n_heads, head_dim]`, rotated.
        keys: `[cache_rows, n_kv_heads, head_dim]`, rotated.
        values: `[cache_rows, n_kv_heads, head_dim]`.
        rows: which call and canvas each row of `q` belongs to. Rows that belong to no call come back as zeros.

    Returns:
        `[num_rows, n_heads, head_dim]`.
    """
    out = torch.zeros_like(q)
    group = q.shape[1] // keys.shape[1]
    bounds = rows.call_offsets.tolist()
    for call, (start, end) in enumerate(itertools.pairwise(bounds)):
        prompt = torch.arange(int(rows.prompt_start[call]), int(rows.prompt_end[call]))
        for row in range(start, end):
            seen = prompt.to(keys.device)
            if len(rows.canvas_start):
                canvas = int(rows.row_canvas[row])
                own = torch.arange(int(rows.canvas_start[canvas]), int(rows.canvas_end[canvas]))
                seen = torch.cat([prompt, own]).to(keys.device)
            k = keys[seen].float().repeat_interleave(group, 1)
            v = values[seen].float().repeat_interleave(group, 1)
            weight = torch.einsum("hd,nhd->hn", q[row].float(), k) * q.shape[2] ** -0.5
            out[row] = torch.einsum("hn,nhd->hd", weight.softmax(1), v).to(q.dtype)
    return out


def rotate_and_store(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    positions: Tensor,
    cache_rows: Tensor,
    cos: Tensor,
    sin: Tensor,
    keys: Tensor,
    values: Tensor,
) -> Tensor:
    """Rotate queries and keys, and write keys and values into a cache.

    Args:
        q: `[num_rows, n_heads, head_dim]`.
        k: `[num_rows, n_kv_heads, head_dim]`.
        v: `[num_rows, n_kv_heads, head_dim]`.
        positions: integer `[num_rows]`, rotary position of each row.
        cache_rows: integer `[num_rows]`, all different; -1 for a row that is not written.
        cos: float32 `[num_positions, head_dim // 2]`, cosines of every position's angles.
        sin: float32, likewise.
        keys: `[cache_size, n_kv_heads, head_dim]`, written.
        values: `[cache_size, n_kv_heads, head_dim]`, written.

    Returns:
        The rotated queries, `[num_rows, n_heads, head_dim]`.
    """
    row_cos, row_sin = cos[positions.long()][:, None], sin[positions.long()][:, None]
    is_kept = cache_rows >= 0
    kept = cache_rows[is_kept].long()
    keys[kept] = _rotate(k, row_cos, row_sin)[is_kept].to(keys.dtype)
    values[kept] = v[is_kept].to(values.dtype)
    return _rotate(q, row_cos, row_sin)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.float().chunk(2, dim=-1)
    rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return rotated.to(x.dtype)


@dataclass(frozen=True, slots=True)
class Canvases:
    """The token buffer of all canvases, by place; a place is a row of the key-value cache.

    Attributes:
        tokens: int32 `[num_places]`.
        positions: int32 `[num_places]`, rotary position.
        is_open: int32 `[num_places]`, 1 where the next step computes a position: masked, or just committed.
        commit_step: int32 `[num_places]`, steps in which the position was masked.
        row_of_place: int32 `[num_places]`, head row of every masked place; written by `list_open`.
        mask_token_id: which token says that a place is masked.
    """

    tokens: Tensor
    positions: Tensor
    is_open: Tensor
    commit_step: Tensor
    row_of_place: Tensor
    mask_token_id: int


@dataclass(frozen=True, slots=True)
class StepRows:
    """The rows of a step: int32, canvas after canvas, filled up to a fixed number.

    Attributes:
        place: `[num_rows]` of every open position; -1 where the list is filled up.
        token: `[num_rows]`; 0 where filled up, as in what follows.
        position: `[num_rows]`.
        canvas: `[num_rows]`.
        head_row: `[num_heads]`, the row of every masked position.
        head_place: `[num_heads]`, its place.
        canvas_last: `[num_canvases]`, the row after the last one of each canvas.
    """

    place: Tensor
    token: Tensor
    position: Tensor
    canvas: Tensor
    head_row: Tensor
    head_place: Tensor
    canvas_last: Tensor


def count_open(canvases: Canvases, start: Tensor, end: Tensor) -> Tensor:
    """Open and masked positions of every canvas: int32 `[2, num_canvases]`.

    A canvas without masked positions has no open ones either: nobody looks at what was committed last.

    Args:
        canvases: the token buffer.
        start: int32 `[num_canvases]`, first place of each canvas.
        end: int32 `[num_canvases]`, the place after its last one.
    """
    counts = []
    for first, last in zip(start.tolist(), end.tolist(), strict=True):
        masked = int((canvases.tokens[first:last] == canvases.mask_token_id).sum())
        counts.append((int(canvases.is_open[first:last].sum()) if masked else 0, masked))
    return torch.tensor(counts, dtype=torch.int32, device=start.device).T.contiguous()


def list_open(
    canvases: Canvases,
    start: Tensor,
    end: Tensor,
    count: Tensor,
    *,
    num_rows: int,
    num_heads: int,
) -> StepRows:
    """List the open positions, and begin the step: only masked positions stay open, and they have been so once more.

    Args:
        canvases: the token buffer; `is_open`, `commit_step` and `row_of_place` are written.
        start: int32 `[num_canvases]`, first place of each canvas.
        end: int32 `[num_canvases]`, the place after its last one.
        count: as `count_open` gives it.
        num_rows: length of the lists of open positions, at least their number.
        num_heads: length of the lists of masked positions, at least their number.
    """
    rows: list[list[int]] = []
    heads: list[list[int]] = []
    for canvas, (first, last) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):
        for place in range(first, last if count[1, canvas] else first):
            if not canvases.is_open[place]:
                continue
            token = int(canvases.tokens[place])
            if token == canvases.mask_token_id:
                canvases.row_of_place[place] = len(heads)
                canvases.commit_step[place] += 1
                heads.append([len(rows), place])
            else:
                canvases.is_open[place] = 0
            rows.append([place, token, int(canvases.positions[place]), canvas])
    rows += [[-1, 0, 0, 0]] * (num_rows - len(rows))
    heads += [[0, 0]] * (num_heads - len(heads))
    as_rows = torch.tensor(rows, dtype=torch.int32, device=start.device).view(-1, 4)
    as_heads = torch.tensor(heads, dtype=torch.int32, device=start.device).view(-1, 2)
    place, token_ids, position, of_canvas = as_rows.T.contiguous()
    head_row, head_place = as_heads.T.contiguous()
    canvas_last = count[0].cumsum(0, dtype=torch.int32)
    return StepRows(place, token_ids, position, of_canvas, head_row, head_place, canvas_last)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Rows `[num_rows, width]` divided by the root of their mean square, times `weight [width]`, rounded once."""
    wide = x.float()
    normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (normed * weight.float()).to(x.dtype)


def gate(hidden: Tensor) -> Tensor:
    """SiLU of the first half of the columns times the second half: `[num_rows, 2 * width]` to `[num_rows, width]`."""
    first, second = hidden.float().chunk(2, dim=-1)
    return (first * torch.sigmoid(first) * second).to(hidden.dtype)


def gated_linear(x: Tensor, weight: Tensor) -> Tensor:
    """`x [num_rows, in_features]` projected by `weight [2 * width, in_features]` and gated, summed in float32."""
    return gate(x.float() @ weight.float().T).to(x.dtype)


def linear(x: Tensor, weight: Tensor, bias_rows: Tensor | None = None) -> Tensor:
    """`x @ weight.T`, plus `bias_rows` if given, summed in float32.

    Args:
        x: `[num_rows, in_features]`.
        weight: `[out_features, in_features]`.
        bias_rows: `[num_rows, out_features]`.
    """
    out = x.float() @ weight.float().T
    return (out if bias_rows is None else out + bias_rows.float()).to(x.dtype)
