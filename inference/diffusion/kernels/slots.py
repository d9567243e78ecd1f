"""Slots with automata: one program per slot runs forward-backward to propose, and Viterbi to commit.

The plain twins are `naive_slots.slot_marginals` and `best_path` inside `slot_groups.AutomatonGroup`. Positions follow
one another; states and classes are worked on side by side, the states all at once, the classes in blocks. The first
block of a table stays in registers: small automata, which is what text has, have no other.
"""

# ruff: noqa: N803 -- parameters in capitals are compile-time constants
# mypy: allow-untyped-defs

from __future__ import annotations

import triton
import triton.language as tl

from inference.diffusion.kernels.slot_records import (
    ARRIVALS,
    CLASS_BITS,
    CLASS_MASK,
    ENDS,
    FIRST,
    FORCED,
    LEAST,
    LENGTH,
    NEVER,
    NO_END,
    NUM_ARRIVALS,
    NUM_CLASSES,
    NUM_STATES,
    OPEN,
    STATE_ROWS,
    TABLE,
    TRANSITIONS,
    VECTORS,
    WEIGHTS,
    any_before,
    find_record,
    log_probability,
    parent_opens,
)

START = tl.constexpr(1)
FREE = tl.constexpr(-1)  # source of a position that is open to anything; rows of logits are from 0
FIXED = tl.constexpr(-2)  # source of a position that holds class c: FIXED - c
_CLASS_BITS = tl.constexpr(CLASS_BITS)
_CLASS_MASK = tl.constexpr(CLASS_MASK)


@triton.jit
def _scores(p_score, p_row_lse, row_stride, source, i_class, m_class):
    """Log-weights of classes at a position: those of its row, 0 where it is free, its own class alone where fixed."""
    has_row = source >= 0
    row = tl.maximum(source, 0).to(tl.int64)
    score = tl.load(p_score + row * row_stride + i_class, mask=m_class & has_row, other=0.0)
    normaliser = tl.load(p_row_lse + row, mask=has_row, other=0.0)
    own = (source == FREE) | (i_class + source == FIXED)
    return tl.where(has_row, log_probability(score, normaliser), tl.where(own, 0.0, NEVER))


@triton.jit
def _targets(
    p_transitions, num_states, num_classes, o_class, STATES: tl.constexpr, CLASSES: tl.constexpr
):
    """States after a block of classes, `[STATES * CLASSES]`; 0 where there is none."""
    i_edge = tl.arange(0, STATES * CLASSES)
    i_state = i_edge // CLASSES
    i_class = o_class + i_edge % CLASSES
    m_edge = (i_state < num_states) & (i_class < num_classes)
    return tl.load(p_transitions + i_state * num_classes + i_class, mask=m_edge, other=0)


@triton.jit
def _onward(weights, targets, STATES: tl.constexpr, CLASSES: tl.constexpr):
    """Weight of the state after each state and class: `[STATES, CLASSES]`."""
    onward = tl.where(targets > 0, tl.gather(weights, targets, 0), NEVER)
    return tl.reshape(onward, [STATES, CLASSES])


@triton.jit
def _fold(top, total, values, AXIS: tl.constexpr):
    """Take more values into a sum of exponentials, kept as `total` times the exponential of `top`."""
    higher = tl.maximum(top, tl.max(values, AXIS))
    base = tl.where(higher == NEVER, 0.0, higher)
    total = total * tl.exp(top - base) + tl.sum(tl.exp(values - tl.expand_dims(base, AXIS)), AXIS)
    return higher, total


@triton.jit
def _log(top, total):
    return tl.where(top == NEVER, NEVER, top + tl.log(total))


@triton.jit
def _before(p_score, p_row_lse, row_stride, source, onward, i_class, num_classes, top, total):
    score = _scores(p_score, p_row_lse, row_stride, source, i_class, i_class < num_classes)
    return _fold(top, total, onward + score[None, :], 1)


@triton.jit
def _arrive(
    p_arrivals,
    p_score,
    p_row_lse,
    row_stride,
    source,
    forward,
    num_states,
    num_arrivals,
    o_arrival,
    top,
    total,
    STATES: tl.constexpr,
    EDGES: tl.constexpr,
):
    """Take a block of the edges that lead to each state into its weight."""
    i_edge = tl.arange(0, STATES * EDGES)
    i_state = i_edge // EDGES
    i_arrival = o_arrival + i_edge % EDGES
    m_edge = (i_state < num_states) & (i_arrival < num_arrivals)
    packed = tl.load(p_arrivals + i_state * num_arrivals + i_arrival, mask=m_edge, other=-1)
    is_edge = packed >= 0
    score = _scores(p_score, p_row_lse, row_stride, source, packed & _CLASS_MASK, is_edge)
    came = tl.gather(forward, tl.where(is_edge, packed >> _CLASS_BITS, 0), 0)
    weight = tl.where(is_edge, came + score, NEVER)
    return _fold(top, total, tl.reshape(weight, [STATES, EDGES]), 1)


@triton.jit
def _weigh(
    p_score,
    p_row_lse,
    row_stride,
    source,
    forward,
    onward,
    log_total,
    p_sizes,
    p_weight,
    i_class,
    num_classes,
    best,
    best_class,
    num_legal,
):
    """Log of the constrained probability of a block of classes; the best so far, and how many tokens are legal."""
    m_class = i_class < num_classes
    transfer, total = _fold(
        tl.full(i_class.shape, NEVER, tl.float32),
        tl.zeros(i_class.shape, tl.float32),
        forward[:, None] + onward,
        0,
    )
    transfer = _log(transfer, total)
    score = _scores(p_score, p_row_lse, row_stride, source, i_class, m_class)
    weight = score + transfer - log_total
    tl.store(p_weight + i_class, weight, mask=m_class)
    size = tl.load(p_sizes + i_class, mask=m_class, other=0)
    num_legal += tl.sum(tl.where(transfer > NEVER, size, 0), 0)
    b_best = tl.max(weight, 0)
    b_class = tl.min(tl.where(weight == b_best, i_class, num_classes), 0)
    best_class = tl.where(b_best > best, b_class, best_class)
    return tl.maximum(best, b_best), best_class, num_legal


@triton.jit(do_not_specialize=["row_stride", "vocabulary"])
def propose_slots_kernel(
    p_slots,
    p_ranges,
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
    p_vectors,
    p_weights,
    row_stride,
    vocabulary,
    mask_token,
    GROUP: tl.constexpr,
    STATES: tl.constexpr,
    CLASSES: tl.constexpr,
    EDGES: tl.constexpr,
    PLACES: tl.constexpr,
):
    """Confidence and flags of every place of a slot, and for the commit their sources and weights of classes.

    `STATES` holds all states, `PLACES` all places; classes go in blocks of `CLASSES`, edges in blocks of `EDGES`.
    """
    p_slot, is_slot = find_record(p_slots, p_ranges, GROUP)
    if not is_slot:
        return
    first = tl.load(p_slot + FIRST)
    length = tl.load(p_slot + LENGTH)
    o_place = tl.arange(0, PLACES)
    m_place = o_place < length
    here = tl.load(p_tokens + first + o_place, mask=m_place, other=0).to(tl.int64)
    is_masked = m_place & (here == mask_token)
    row = tl.load(p_row_of_place + first + o_place, mask=is_masked, other=FREE).to(tl.int32)
    p_class = p_token_class + tl.load(p_slot + TABLE).to(tl.int64) * vocabulary
    own = tl.load(p_class + here, mask=m_place & (is_masked == 0), other=0).to(tl.int32)
    is_open = is_masked & (row >= 0) & parent_opens(p_slot, p_choice, p_tables)
    tl.store(p_source + first + o_place, tl.where(is_masked, row, -own + FIXED), mask=m_place)
    tl.store(p_confidence + first + o_place, tl.zeros([PLACES], tl.float32), mask=m_place)
    tl.store(p_flags + first + o_place, tl.where(is_open, OPEN, 0), mask=m_place)
    if tl.sum(is_open.to(tl.int32), 0) == 0:
        return
    tl.debug_barrier()

    num_states = tl.load(p_slot + NUM_STATES)
    num_classes = tl.load(p_slot + NUM_CLASSES)
    num_arrivals = tl.load(p_slot + NUM_ARRIVALS)
    p_transitions = p_tables + tl.load(p_slot + TRANSITIONS)
    p_arrivals = p_tables + tl.load(p_slot + ARRIVALS)
    p_accepting = p_tables + tl.load(p_slot + STATE_ROWS)
    p_sizes = p_accepting + num_states
    p_vector = p_vectors + tl.load(p_slot + VECTORS)
    p_weight = p_weights + tl.load(p_slot + WEIGHTS)
    i_state = tl.arange(0, STATES)
    i_class = tl.arange(0, CLASSES)
    no_states = tl.full([STATES], NEVER, tl.float32)
    targets = _targets(p_transitions, num_states, num_classes, 0, STATES, CLASSES)

    accepting = tl.load(p_accepting + i_state, mask=i_state < num_states, other=0)
    backward = tl.where(accepting > 0, 0.0, NEVER)
    for i_back in range(length):
        i_place = length - 1 - i_back
        tl.store(p_vector + i_place * STATES + i_state, backward)
        source = tl.load(p_source + first + i_place)
        onward = _onward(backward, targets, STATES, CLASSES)
        top, total = _before(
            p_lse, p_row_lse, row_stride, source, onward, i_class, num_classes, no_states,
            tl.zeros([STATES], tl.float32),
        )  # fmt: skip
        for o_class in range(CLASSES, num_classes, CLASSES):
            more = _targets(p_transitions, num_states, num_classes, o_class, STATES, CLASSES)
            onward = _onward(backward, more, STATES, CLASSES)
            top, total = _before(
                p_lse, p_row_lse, row_stride, source, onward, o_class + i_class, num_classes, top,
                total,
            )  # fmt: skip
        backward = _log(top, total)
    log_total = tl.max(tl.where(i_state == START, backward, NEVER), 0)
    tl.debug_barrier()

    forward = tl.where(i_state == START, 0.0, NEVER)
    least = log_total * 0 + 1
    for i_place in range(length):
        source = tl.load(p_source + first + i_place)
        if source >= 0:
            vector = tl.load(p_vector + i_place * STATES + i_state)
            onward = _onward(vector, targets, STATES, CLASSES)
            best, best_class, num_legal = _weigh(
                p_best, p_row_lse, row_stride, source, forward, onward, log_total, p_sizes,
                p_weight + i_place * num_classes, i_class, num_classes, NEVER, 0, 0,
            )  # fmt: skip
            for o_class in range(CLASSES, num_classes, CLASSES):
                more = _targets(p_transitions, num_states, num_classes, o_class, STATES, CLASSES)
                onward = _onward(vector, more, STATES, CLASSES)
                best, best_class, num_legal = _weigh(
                    p_best, p_row_lse, row_stride, source, forward, onward, log_total, p_sizes,
                    p_weight + i_place * num_classes, o_class + i_class, num_classes, best,
                    best_class, num_legal,
                )  # fmt: skip
            flags = tl.load(p_flags + first + i_place)
            is_open_here = (flags & OPEN) > 0
            is_forced = is_open_here & (num_legal == 1)
            ends = best_class == num_classes - 1
            confidence = tl.minimum(tl.maximum(tl.exp(best), LEAST), 1.0)
            confidence = tl.where(is_forced, 1.0, confidence)
            least = tl.minimum(least, confidence)
            # The text can end here only once all before is said: a PAD is no surer than the least sure before it.
            confidence = tl.where(ends & (is_forced == 0), least, confidence)
            tl.store(p_confidence + first + i_place, tl.where(is_open_here, confidence, 0.0))
            flags += tl.where(is_forced, FORCED, 0) + tl.where(ends, ENDS, 0)
            tl.store(p_flags + first + i_place, flags)
        top = no_states
        total = tl.zeros([STATES], tl.float32)
        for o_arrival in range(0, num_arrivals, EDGES):
            top, total = _arrive(
                p_arrivals, p_lse, p_row_lse, row_stride, source, forward, num_states,
                num_arrivals, o_arrival, top, total, STATES, EDGES,
            )  # fmt: skip
        forward = _log(top, total)


@triton.jit
def _best_of(
    p_best, p_row_lse, row_stride, source, no_end, onward, i_class, num_classes, best, best_class
):
    """Take a block of classes into the best continuation of every state; the lowest class among equals."""
    score = _scores(p_best, p_row_lse, row_stride, source, i_class, i_class < num_classes)
    score = tl.where(no_end & (i_class == num_classes - 1), NEVER, score)
    weight = onward + score[None, :]
    b_best = tl.max(weight, 1)
    b_class = tl.min(tl.where(weight == b_best[:, None], i_class[None, :], num_classes), 1)
    best_class = tl.where(b_best > best, b_class, best_class)
    return tl.maximum(best, b_best), best_class


@triton.jit(do_not_specialize=["row_stride"])
def commit_slots_kernel(
    p_slots,
    p_ranges,
    p_tables,
    p_tokens,
    p_token_confidence,
    p_best,
    p_best_token,
    p_row_lse,
    p_chosen,
    p_flags,
    p_source,
    p_vectors,
    p_weights,
    row_stride,
    pad_token,
    GROUP: tl.constexpr,
    STATES: tl.constexpr,
    CLASSES: tl.constexpr,
    PLACES: tl.constexpr,
):
    """Write the chosen places of a slot, on one accepting path; after a PAD the rest of the slot is PAD too.

    A PAD is committed only when no place before it stays masked. Where that would leave nothing of what was chosen in a
    slot, its first masked place is committed instead. Sources and vectors are written over.
    """
    p_slot, is_slot = find_record(p_slots, p_ranges, GROUP)
    if not is_slot:
        return
    first = tl.load(p_slot + FIRST)
    length = tl.load(p_slot + LENGTH)
    o_place = tl.arange(0, PLACES)
    m_place = o_place < length
    source = tl.load(p_source + first + o_place, mask=m_place, other=FIXED)
    flags = tl.load(p_flags + first + o_place, mask=m_place, other=0)
    chosen = tl.load(p_chosen + first + o_place, mask=m_place, other=0)
    is_forced = (flags & FORCED) > 0
    is_open = (flags & OPEN) > 0
    is_chosen = ((chosen > 0) & is_open) | is_forced
    if tl.sum(is_chosen.to(tl.int32), 0) == 0:
        return
    is_masked = source >= FREE
    is_early = any_before(is_masked & (is_chosen == 0))
    ends = ((flags & ENDS) > 0) & is_early & is_chosen & (is_forced == 0)
    is_emptied = (tl.sum(ends.to(tl.int32), 0) > 0) & (
        tl.sum((is_chosen & (ends == 0)).to(tl.int32), 0) == 0
    )
    no_end = is_chosen & is_early & (is_forced == 0)
    is_first = is_open & (any_before(is_masked) == 0)
    is_chosen = (is_chosen & (ends == 0)) | (is_first & is_emptied)
    later = tl.where(is_masked & (is_chosen == 0), FREE, source)
    tl.store(p_source + first + o_place, later, mask=m_place)
    tl.store(p_flags + first + o_place, tl.where(no_end, NO_END, 0), mask=m_place)
    tl.debug_barrier()

    num_states = tl.load(p_slot + NUM_STATES)
    num_classes = tl.load(p_slot + NUM_CLASSES)
    p_transitions = p_tables + tl.load(p_slot + TRANSITIONS)
    p_accepting = p_tables + tl.load(p_slot + STATE_ROWS)
    p_vector = p_vectors + tl.load(p_slot + VECTORS)
    p_weight = p_weights + tl.load(p_slot + WEIGHTS)
    i_state = tl.arange(0, STATES)
    i_class = tl.arange(0, CLASSES)
    no_states = tl.full([STATES], NEVER, tl.float32)
    targets = _targets(p_transitions, num_states, num_classes, 0, STATES, CLASSES)

    accepting = tl.load(p_accepting + i_state, mask=i_state < num_states, other=0)
    onward_weight = tl.where(accepting > 0, 0.0, NEVER)
    for i_back in range(length):
        i_place = length - 1 - i_back
        place_source = tl.load(p_source + first + i_place)
        place_no_end = tl.load(p_flags + first + i_place) > 0
        onward = _onward(onward_weight, targets, STATES, CLASSES)
        best, best_class = _best_of(
            p_best, p_row_lse, row_stride, place_source, place_no_end, onward, i_class,
            num_classes, no_states, tl.zeros([STATES], tl.int32),
        )  # fmt: skip
        for o_class in range(CLASSES, num_classes, CLASSES):
            more = _targets(p_transitions, num_states, num_classes, o_class, STATES, CLASSES)
            onward = _onward(onward_weight, more, STATES, CLASSES)
            best, best_class = _best_of(
                p_best, p_row_lse, row_stride, place_source, place_no_end, onward,
                o_class + i_class, num_classes, best, best_class,
            )  # fmt: skip
        m_state = i_state < num_states
        following = tl.load(
            p_transitions + i_state * num_classes + best_class, mask=m_state, other=0
        )
        tl.store(p_vector + i_place * STATES + i_state, best_class | (following << _CLASS_BITS))
        onward_weight = best
    tl.debug_barrier()

    state = num_states * 0 + START
    for i_place in range(length):
        step = tl.load(p_vector + i_place * STATES + state)
        tl.store(p_source + first + i_place, step & _CLASS_MASK)
        state = step >> _CLASS_BITS
    tl.debug_barrier()

    path = tl.load(p_source + first + o_place, mask=m_place, other=0)
    o_row = tl.where(is_chosen, source, 0).to(tl.int64) * row_stride
    token = tl.load(p_best_token + o_row + path, mask=is_chosen, other=0)
    p_any_token = p_accepting + num_states + num_classes
    token = tl.where(token >= 0, token, tl.load(p_any_token + path, mask=is_chosen, other=0))
    weight = tl.load(p_weight + o_place * num_classes + path, mask=is_chosen, other=0.0)
    confidence = tl.minimum(tl.maximum(tl.exp(weight), LEAST), 1.0)
    here = tl.load(p_tokens + first + o_place, mask=m_place, other=0).to(tl.int32)
    is_pad = m_place & (tl.where(is_chosen, token, here) == pad_token)
    has_ended = any_before(is_pad) & is_masked & (is_chosen == 0)
    is_written = is_chosen | has_ended
    token = tl.where(has_ended, pad_token, token)
    tl.store(p_tokens + first + o_place, token, mask=is_written)
    confidence = tl.where(has_ended, 1.0, confidence)
    tl.store(p_token_confidence + first + o_place, confidence, mask=is_written)
