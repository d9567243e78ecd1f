"""What is decided per canvas: which places are committed in a step, and which slots that leaves closed.

The plain twins are the rules of `rules.py` and `conditions.Conditions`. One program per canvas.
"""

# ruff: noqa: N803 -- parameters in capitals are compile-time constants
# mypy: allow-untyped-defs

from __future__ import annotations

import enum

import triton
import triton.language as tl

from inference.diffusion.kernels.naive import Rule
from inference.diffusion.kernels.slot_records import (
    CLOSED,
    DEPTH,
    ENDS,
    FIRST,
    FORCED,
    IS_FINITE,
    LENGTH,
    PARENT,
    PARENT_GROUPS,
    RECORD_SIZE,
    UNDECIDED,
    WANTED,
)


class CanvasField(enum.IntEnum):
    """The numbers of a canvas's record; offsets count in the lists of places, and of slots that depend on others."""

    SEAT = 0
    PLACES = 1
    NUM_PLACES = 2
    DEPENDENTS = 3
    NUM_DEPENDENTS = 4
    DEEPEST = 5


CANVAS_SIZE = tl.constexpr(len(CanvasField))
SEAT = tl.constexpr(int(CanvasField.SEAT))
PLACES_OF = tl.constexpr(int(CanvasField.PLACES))
NUM_PLACES = tl.constexpr(int(CanvasField.NUM_PLACES))
DEPENDENTS = tl.constexpr(int(CanvasField.DEPENDENTS))
NUM_DEPENDENTS = tl.constexpr(int(CanvasField.NUM_DEPENDENTS))
DEEPEST = tl.constexpr(int(CanvasField.DEEPEST))

THRESHOLD = tl.constexpr(int(Rule.THRESHOLD))
FACTOR = tl.constexpr(int(Rule.FACTOR))
QUOTA = tl.constexpr(int(Rule.QUOTA))
JOINT = tl.constexpr(int(Rule.JOINT))
DOUBT = tl.constexpr(int(Rule.DOUBT))


@triton.jit
def _least_so_far(least, is_first, confidence, is_later_first):
    """Of two stretches of places: the least confidence since the last slot began, and whether one began."""
    return tl.where(
        is_later_first > 0, confidence, tl.minimum(least, confidence)
    ), is_first | is_later_first


@triton.jit
def choose_kernel(
    p_canvases,
    p_ranges,
    p_places,
    p_first_of_place,
    p_tokens,
    p_confidence,
    p_flags,
    p_chosen,
    p_step,
    p_parameter,
    mask_token,
    GROUP: tl.constexpr,
    RULE: tl.constexpr,
    ROWS: tl.constexpr,
    RIVALS: tl.constexpr,
):
    """Mark the places that the rule chooses, at least one of a canvas that has any; count its steps.

    Before that a PAD is made no surer than the least sure place before it in its slot: the text can end there only once
    all before is said. The parameters are the rule's own, and the number of steps over which a quota is spread; 0 for a
    fixed one. `ROWS` holds the places of any canvas.
    """
    i_canvas = tl.program_id(0)
    if i_canvas >= tl.load(p_ranges + 2 * GROUP + 1):
        return
    p_canvas = p_canvases + i_canvas * CANVAS_SIZE
    p_own = p_places + tl.load(p_canvas + PLACES_OF)
    num_places = tl.load(p_canvas + NUM_PLACES)
    i_place = tl.arange(0, ROWS)
    m_place = i_place < num_places
    place = tl.load(p_own + i_place, mask=m_place, other=0)
    is_masked = m_place & (tl.load(p_tokens + place, mask=m_place, other=0) == mask_token)
    confidence = tl.load(p_confidence + place, mask=is_masked, other=0.0)
    may = confidence > 0
    flags = tl.load(p_flags + place, mask=may, other=0)
    is_first = m_place & (tl.load(p_first_of_place + place, mask=m_place, other=-1) == place)
    sure = tl.where(may, confidence, 1.0)
    least, _ = tl.associative_scan((sure, is_first.to(tl.int32)), 0, _least_so_far)
    ends = ((flags & ENDS) > 0) & ((flags & FORCED) == 0)
    confidence = tl.where(ends, least, confidence)
    tl.store(p_confidence + place, confidence, mask=m_place)
    parameter = tl.load(p_parameter)
    p_own_step = p_step + tl.load(p_canvas + SEAT)
    step = tl.load(p_own_step)
    if RULE == THRESHOLD:
        best = tl.max(confidence, 0)
        first = tl.min(tl.where(confidence == best, i_place, ROWS), 0)
        is_chosen = may & ((confidence >= parameter) | (i_place == first))
    else:
        tl.debug_barrier()
        rank = tl.zeros([ROWS], tl.int32)
        doubt_ahead = tl.zeros([ROWS], tl.float32)
        for o_rival in range(0, num_places, RIVALS):
            i_rival = o_rival + tl.arange(0, RIVALS)
            m_rival = i_rival < num_places
            rival_place = tl.load(p_own + i_rival, mask=m_rival, other=0)
            rival = tl.load(p_confidence + rival_place, mask=m_rival, other=0.0)
            is_ahead = rival[None, :] > confidence[:, None]
            is_equal = rival[None, :] == confidence[:, None]
            is_ahead |= is_equal & (i_rival[None, :] < i_place[:, None])
            rank += tl.sum(is_ahead.to(tl.int32), 1)
            doubt_ahead += tl.sum(tl.where(is_ahead, 1 - rival[None, :], 0.0), 1)
        if RULE == QUOTA:
            num_steps = tl.load(p_parameter + 1).to(tl.int32)
            num_left = tl.maximum(num_steps - step, 1)
            spread = tl.cdiv(tl.sum(is_masked.to(tl.int32), 0), num_left)
            count = tl.where(num_steps > 0, spread, parameter.to(tl.int32))
        else:
            if RULE == FACTOR:
                holds = confidence >= 1 - tl.div_rn(parameter, (rank + 2).to(tl.float32))
            elif RULE == JOINT:
                holds = doubt_ahead + (1 - confidence) < 1 - parameter
            else:
                holds = doubt_ahead <= parameter
            count = tl.min(tl.where(may & (holds == 0), rank, ROWS), 0)
        is_chosen = may & (rank < tl.maximum(count, 1))
    tl.store(p_chosen + place, is_chosen.to(tl.int32), mask=i_place < num_places)
    tl.store(p_own_step, step + tl.max(may.to(tl.int32), 0))


@triton.jit
def _is_closed(p_slot, m_slot, p_choice, p_tables):
    """Whether the parents of these slots have chosen something else."""
    decided = tl.load(
        p_choice + tl.load(p_slot + PARENT, mask=m_slot, other=0), mask=m_slot, other=UNDECIDED
    )
    p_groups = p_tables + tl.load(p_slot + PARENT_GROUPS, mask=m_slot, other=0)
    group = tl.load(p_groups + tl.maximum(decided, 0), mask=m_slot, other=0)
    is_other = group != tl.load(p_slot + WANTED, mask=m_slot, other=0)
    return (decided == CLOSED) | ((decided >= 0) & is_other)


@triton.jit
def close_kernel(
    p_canvases,
    p_ranges,
    p_dependents,
    p_places,
    p_slots,
    p_tables,
    p_choice,
    p_tokens,
    p_token_confidence,
    p_num_masked,
    mask_token,
    pad_token,
    GROUP: tl.constexpr,
    SLOTS: tl.constexpr,
    PLACES: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Write PAD in every slot that has become closed, parents before their children; count what is still masked.

    Dependent slots go in blocks of `SLOTS`, their places in blocks of `PLACES`; `ROWS` holds the places of any canvas.
    """
    i_canvas = tl.program_id(0)
    if i_canvas >= tl.load(p_ranges + 2 * GROUP + 1):
        return
    p_canvas = p_canvases + i_canvas * CANVAS_SIZE
    p_own = p_dependents + tl.load(p_canvas + DEPENDENTS)
    num_slots = tl.load(p_canvas + NUM_DEPENDENTS)
    deepest = tl.load(p_canvas + DEEPEST)
    for depth in range(1, deepest + 1):
        for o_slot in range(0, num_slots, SLOTS):
            i_slot = o_slot + tl.arange(0, SLOTS)
            m_slot = i_slot < num_slots
            p_slot = p_slots + tl.load(p_own + i_slot, mask=m_slot, other=0) * RECORD_SIZE
            m_slot = m_slot & (tl.load(p_slot + DEPTH) == depth)
            is_closed = _is_closed(p_slot, m_slot, p_choice, p_tables)
            first = tl.load(p_slot + FIRST)
            is_finite = tl.load(p_slot + IS_FINITE) > 0
            tl.store(
                p_choice + first, tl.zeros([SLOTS], tl.int32) + CLOSED, mask=is_closed & is_finite
            )
            length = tl.load(p_slot + LENGTH)
            for o_place in range(0, tl.max(tl.where(is_closed, length, 0), 0), PLACES):
                i_place = o_place + tl.arange(0, PLACES)[None, :]
                place = first[:, None] + i_place
                inside = is_closed[:, None] & (i_place < length[:, None])
                token = tl.load(p_tokens + place, mask=inside, other=pad_token)
                is_written = inside & (token == mask_token)
                tl.store(p_tokens + place, pad_token, mask=is_written)
                tl.store(p_token_confidence + place, 1.0, mask=is_written)
        tl.debug_barrier()
    i_row = tl.arange(0, ROWS)
    m_row = i_row < tl.load(p_canvas + NUM_PLACES)
    place = tl.load(p_places + tl.load(p_canvas + PLACES_OF) + i_row, mask=m_row, other=0)
    is_masked = m_row & (tl.load(p_tokens + place, mask=m_row, other=0) == mask_token)
    tl.store(p_num_masked + tl.load(p_canvas + SEAT), tl.sum(is_masked.to(tl.int32), 0))
