"""Finite slots: one program per slot scores its values as wholes, and writes the one that is chosen.

The plain twins are `naive_slots.choice_scores` inside `slot_groups.ChoiceGroup`.
"""

# ruff: noqa: N803 -- parameters in capitals are compile-time constants
# mypy: allow-untyped-defs

from __future__ import annotations

import triton
import triton.language as tl

from inference.diffusion.kernels.slot_records import (
    CHOICE_CLASSES,
    CHOICE_TOKENS,
    FIRST,
    FORCED,
    LEAST,
    LENGTH,
    NEVER,
    NUM_ALLOWED,
    OPEN,
    find_record,
    log_probability,
    parent_opens,
    unfold,
)


@triton.jit(do_not_specialize=["row_stride"])
def propose_choices_kernel(
    p_slots,
    p_ranges,
    p_tables,
    p_choice,
    p_tokens,
    p_row_of_place,
    p_best,
    p_row_lse,
    p_confidence,
    p_flags,
    p_source,
    row_stride,
    mask_token,
    GROUP: tl.constexpr,
    PLACES: tl.constexpr,
    CHOICES: tl.constexpr,
):
    """Confidence and flags of every place of a slot; at its first place of `p_source`, the number of the best value.

    `PLACES` holds all places; choices go in blocks of `CHOICES`.
    """
    p_slot, is_slot = find_record(p_slots, p_ranges, GROUP)
    if not is_slot:
        return
    first = tl.load(p_slot + FIRST)
    length = tl.load(p_slot + LENGTH)
    o_place = tl.arange(0, PLACES)
    m_place = o_place < length
    here = tl.load(p_tokens + first + o_place, mask=m_place, other=0).to(tl.int32)
    is_masked = m_place & (here == mask_token)
    row = tl.load(p_row_of_place + first + o_place, mask=is_masked, other=0)
    is_unknown = is_masked & (row < 0)
    is_open = is_masked & parent_opens(p_slot, p_choice, p_tables)
    is_open = is_open & (tl.sum(is_unknown.to(tl.int32), 0) == 0)
    if tl.sum(is_open.to(tl.int32), 0) == 0:
        tl.store(p_confidence + first + o_place, tl.zeros([PLACES], tl.float32), mask=m_place)
        tl.store(p_flags + first + o_place, tl.zeros([PLACES], tl.int32), mask=m_place)
        return

    num_choices = tl.load(p_slot + NUM_ALLOWED)
    p_classes = p_tables + tl.load(p_slot + CHOICE_CLASSES)
    top = tl.full([CHOICES], NEVER, tl.float32)
    total = tl.zeros([CHOICES], tl.float32)
    best = tl.zeros([CHOICES], tl.int32)
    for o_choice in range(0, num_choices, CHOICES):
        i_choice = o_choice + tl.arange(0, CHOICES)
        m_choice = i_choice < num_choices
        score = tl.zeros([CHOICES], tl.float32)
        for i_place in range(length):
            token = tl.load(p_tokens + first + i_place).to(tl.int32)
            if token == mask_token:
                i_row = tl.load(p_row_of_place + first + i_place).to(tl.int64)
                i_class = tl.load(p_classes + i_choice * length + i_place, mask=m_choice, other=0)
                logit = tl.load(p_best + i_row * row_stride + i_class, mask=m_choice, other=0.0)
                score += log_probability(logit, tl.load(p_row_lse + i_row))
        score = tl.where(m_choice, score, NEVER)
        best = tl.where(score > top, i_choice, best)
        higher = tl.maximum(top, score)
        base = tl.where(higher == NEVER, 0.0, higher)
        total = total * tl.exp(top - base) + tl.exp(score - base)
        top = higher
    highest = tl.max(top, 0)
    value = tl.min(tl.where(top == highest, best, num_choices), 0)
    log_total = unfold(highest, tl.sum(total * tl.exp(top - highest), 0))
    confidence = tl.minimum(tl.maximum(tl.exp(highest - log_total), LEAST), 1.0)
    flags = tl.where(num_choices == 1, FORCED, 0) + OPEN
    tl.store(p_confidence + first + o_place, tl.where(is_open, confidence, 0.0), mask=m_place)
    tl.store(p_flags + first + o_place, tl.where(is_open, flags, 0), mask=m_place)
    tl.store(p_source + first, value)


@triton.jit
def commit_choices_kernel(
    p_slots,
    p_ranges,
    p_tables,
    p_choice,
    p_tokens,
    p_token_confidence,
    p_confidence,
    p_chosen,
    p_flags,
    p_source,
    GROUP: tl.constexpr,
    PLACES: tl.constexpr,
):
    """Write the best value of a slot of which any place is chosen, whole."""
    p_slot, is_slot = find_record(p_slots, p_ranges, GROUP)
    if not is_slot:
        return
    first = tl.load(p_slot + FIRST)
    length = tl.load(p_slot + LENGTH)
    o_place = tl.arange(0, PLACES)
    m_place = o_place < length
    flags = tl.load(p_flags + first + o_place, mask=m_place, other=0)
    chosen = tl.load(p_chosen + first + o_place, mask=m_place, other=0)
    is_open = (flags & OPEN) > 0
    is_chosen = is_open & ((chosen > 0) | ((flags & FORCED) > 0))
    if tl.sum(is_chosen.to(tl.int32), 0) == 0:
        return
    value = tl.load(p_source + first)
    p_choice_token = p_tables + tl.load(p_slot + CHOICE_TOKENS) + value * length
    token = tl.load(p_choice_token + o_place, mask=is_open, other=0)
    confidence = tl.load(p_confidence + first + o_place, mask=is_open, other=0.0)
    tl.store(p_tokens + first + o_place, token, mask=is_open)
    tl.store(p_token_confidence + first + o_place, confidence, mask=is_open)
    tl.store(p_choice + first, value)
