"""Slots with automata, position by position: what goes into the sweeps of `slot_sweeps`, and what comes of them.

One program per position. The plain twin is `slot_groups.AutomatonGroup.propose`.
"""

# ruff: noqa: N803 -- parameters in capitals are compile-time constants
# mypy: allow-untyped-defs

from __future__ import annotations

import triton
import triton.language as tl

from inference.diffusion.kernels.slot_records import (
    CLASS_SIZES,
    ENDS,
    FIRST,
    FIXED,
    FORCED,
    FREE,
    LEAST,
    LENGTH,
    MASK,
    MEMBERS,
    NEVER,
    NUM_BUNDLES,
    NUM_CLASSES,
    NUM_MEMBERS,
    NUM_STATES,
    OPEN,
    RECORD_SIZE,
    START,
    SUMS,
    TABLE,
    TRANSITIONS,
    VECTORS,
    WEIGHTS,
    class_scores,
    fold,
    parent_opens,
    unfold,
)


@triton.jit
def _find_position(p_positions, p_ranges, p_slots, GROUP: tl.constexpr):
    """The record of the program's slot, its position in the slot, and whether there is one."""
    first = tl.load(p_ranges + 2 * GROUP)
    is_position = tl.program_id(0) < tl.load(p_ranges + 2 * GROUP + 1)
    p_position = p_positions + 2 * (first + tl.program_id(0))
    i_slot = tl.load(p_position, mask=is_position, other=0)
    i_position = tl.load(p_position + 1, mask=is_position, other=0)
    return p_slots + i_slot * RECORD_SIZE, i_position, is_position


@triton.jit(do_not_specialize=["row_stride", "vocabulary"])
def bundle_kernel(
    p_slots,
    p_ranges,
    p_positions,
    p_tables,
    p_token_class,
    p_choice,
    p_tokens,
    p_row_of_place,
    p_best,
    p_lse,
    p_row_lse,
    p_confidence,
    p_flags,
    p_source,
    p_sums,
    p_bests,
    p_best_class,
    row_stride,
    vocabulary,
    mask_token,
    GROUP: tl.constexpr,
    PLACES: tl.constexpr,
    BUNDLES: tl.constexpr,
    MEMBERS_AT_ONCE: tl.constexpr,
):
    """Per bundle the log of its summed weight, its greatest weight and the class that has it.

    The confidence of each place is set to 0, its flags to OPEN where it can be committed. `PLACES` holds the places of
    any slot; nothing else is done in a slot that has no open place.
    """
    p_slot, i_position, is_position = _find_position(p_positions, p_ranges, p_slots, GROUP)
    if not is_position:
        return
    first = tl.load(p_slot + FIRST)
    o_place = tl.arange(0, PLACES)
    m_place = o_place < tl.load(p_slot + LENGTH)
    here = tl.load(p_tokens + first + o_place, mask=m_place, other=0)
    row = tl.load(p_row_of_place + first + o_place, mask=m_place & (here == mask_token), other=FREE)
    is_waiting = parent_opens(p_slot, p_choice, p_tables) == 0
    is_idle = is_waiting | (tl.max(row, 0) < 0)

    place = first + i_position
    token = tl.load(p_tokens + place).to(tl.int64)
    is_masked = token == mask_token
    row = tl.load(p_row_of_place + place, mask=is_masked, other=FREE).to(tl.int32)
    is_open = is_masked & (row >= 0) & (is_idle == 0)
    tl.store(p_confidence + place, 0.0)
    tl.store(p_flags + place, tl.where(is_open, OPEN, 0))
    if is_idle:
        return
    p_class = p_token_class + tl.load(p_slot + TABLE).to(tl.int64) * vocabulary
    own = tl.load(p_class + token, mask=is_masked == 0, other=0).to(tl.int32)
    source = tl.where(is_masked, tl.maximum(row, FREE), -own + FIXED)
    tl.store(p_source + place, source)

    num_bundles = tl.load(p_slot + NUM_BUNDLES)
    num_members = tl.load(p_slot + NUM_MEMBERS)
    p_members = p_tables + tl.load(p_slot + MEMBERS)
    o_sums = tl.load(p_slot + SUMS) + i_position * num_bundles
    i_member = tl.arange(0, MEMBERS_AT_ONCE)
    for o_bundle in range(0, num_bundles, BUNDLES):
        i_bundle = o_bundle + tl.arange(0, BUNDLES)
        m_bundle = i_bundle < num_bundles
        top = tl.full([BUNDLES], NEVER, tl.float32)
        total = tl.zeros([BUNDLES], tl.float32)
        best = tl.full([BUNDLES], NEVER, tl.float32)
        best_class = tl.zeros([BUNDLES], tl.int32)
        for o_member in range(0, num_members, MEMBERS_AT_ONCE):
            o_class = (o_member + i_member)[:, None] * num_bundles + i_bundle[None, :]
            m_class = m_bundle[None, :] & (o_member + i_member < num_members)[:, None]
            i_class = tl.load(p_members + o_class, mask=m_class, other=-1)
            is_class = i_class >= 0
            summed = class_scores(p_lse, p_row_lse, row_stride, source, i_class, is_class)
            top, total = fold(top, total, tl.where(is_class, summed, NEVER))
            score = class_scores(p_best, p_row_lse, row_stride, source, i_class, is_class)
            score = tl.where(is_class, score, NEVER)
            b_best = tl.max(score, 0)
            is_best = is_class & (score == b_best[None, :])
            b_class = tl.min(tl.where(is_best, i_class, MASK), 0)
            best_class = tl.where(b_best > best, b_class, best_class)
            best = tl.maximum(best, b_best)
        tl.store(p_sums + o_sums + i_bundle, unfold(top, total), mask=m_bundle)
        tl.store(p_bests + o_sums + i_bundle, best, mask=m_bundle)
        tl.store(p_best_class + o_sums + i_bundle, best_class, mask=m_bundle)


@triton.jit
def _weigh(
    p_best,
    p_row_lse,
    row_stride,
    source,
    p_transitions,
    p_after,
    forward,
    log_total,
    p_sizes,
    p_weight,
    i_class,
    num_states,
    num_classes,
    STATES: tl.constexpr,
):
    """Log of the constrained probability of a block of classes: the best, its class, and how many tokens are legal."""
    i_state = tl.arange(0, STATES)
    m_class = i_class < num_classes
    m_edge = (i_state < num_states)[:, None] & m_class[None, :]
    o_edge = i_state[:, None] * num_classes + i_class[None, :]
    target = tl.load(p_transitions + o_edge, mask=m_edge, other=0)
    onward = tl.load(p_after + target, mask=target > 0, other=NEVER)
    none = tl.full(i_class.shape, NEVER, tl.float32)
    top, total = fold(none, tl.zeros(i_class.shape, tl.float32), forward[:, None] + onward)
    transfer = unfold(top, total)
    score = class_scores(p_best, p_row_lse, row_stride, source, i_class, m_class)
    weight = score + transfer - log_total
    tl.store(p_weight + i_class, weight, mask=m_class)
    best = tl.max(weight, 0)
    best_class = tl.min(tl.where(weight == best, i_class, num_classes), 0)
    size = tl.load(p_sizes + i_class, mask=m_class, other=0)
    return best, best_class, tl.sum(tl.where(transfer > NEVER, size, 0), 0)


@triton.jit(do_not_specialize=["row_stride"])
def weigh_kernel(
    p_slots,
    p_ranges,
    p_positions,
    p_tables,
    p_best,
    p_row_lse,
    p_confidence,
    p_flags,
    p_source,
    p_vectors,
    p_weights,
    row_stride,
    GROUP: tl.constexpr,
    STATES: tl.constexpr,
    CLASSES: tl.constexpr,
):
    """Confidence and flags of every open place, and for the commit the weights of its classes.

    `STATES` holds all states; classes go in blocks of `CLASSES`.
    """
    p_slot, i_position, is_position = _find_position(p_positions, p_ranges, p_slots, GROUP)
    if not is_position:
        return
    place = tl.load(p_slot + FIRST) + i_position
    flags = tl.load(p_flags + place)
    if flags == 0:
        return
    source = tl.load(p_source + place)
    num_states = tl.load(p_slot + NUM_STATES)
    num_classes = tl.load(p_slot + NUM_CLASSES)
    length = tl.load(p_slot + LENGTH)
    p_transitions = p_tables + tl.load(p_slot + TRANSITIONS)
    p_sizes = p_tables + tl.load(p_slot + CLASS_SIZES)
    p_vector = p_vectors + tl.load(p_slot + VECTORS)
    p_weight = p_weights + tl.load(p_slot + WEIGHTS) + i_position * num_classes
    log_total = tl.load(p_vector + START)
    forward = tl.load(p_vector + (length + 1 + i_position) * STATES + tl.arange(0, STATES))
    best, best_class, num_legal = _weigh(
        p_best, p_row_lse, row_stride, source, p_transitions,
        p_vector + (i_position + 1) * STATES, forward, log_total, p_sizes, p_weight,
        tl.arange(0, CLASSES), num_states, num_classes, STATES,
    )  # fmt: skip
    for o_class in range(CLASSES, num_classes, CLASSES):
        b_best, b_class, b_legal = _weigh(
            p_best, p_row_lse, row_stride, source, p_transitions,
            p_vector + (i_position + 1) * STATES, forward, log_total, p_sizes, p_weight,
            o_class + tl.arange(0, CLASSES), num_states, num_classes, STATES,
        )  # fmt: skip
        best_class = tl.where(b_best > best, b_class, best_class)
        best = tl.maximum(best, b_best)
        num_legal += b_legal
    confidence = tl.minimum(tl.maximum(tl.exp(best), LEAST), 1.0)
    confidence = tl.where(num_legal == 1, 1.0, confidence)
    flags += tl.where(num_legal == 1, FORCED, 0)
    flags += tl.where(best_class == num_classes - 1, ENDS, 0)
    tl.store(p_confidence + place, confidence)
    tl.store(p_flags + place, flags)
