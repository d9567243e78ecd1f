"""Slots with automata, from end to end: weights of states before and after every position, and the best path.

What depends on the logits has been gathered per bundle by `slot_positions.bundle_kernel`, so a sweep goes over little.
Automata of few states are swept as matrices, from every state to every other (`DENSE`); of larger ones only the links
that exist are visited, in blocks. The plain twins are `naive_slots.slot_marginals` and `best_path`.
"""

# ruff: noqa: N803 -- parameters in capitals are compile-time constants
# mypy: allow-untyped-defs

from __future__ import annotations

import triton
import triton.language as tl

from inference.diffusion.kernels.slot_records import (
    ACCEPTING,
    ANY_TOKENS,
    ARRIVING,
    BITS,
    ENDS,
    FIRST,
    FIXED,
    FORCED,
    FREE,
    LEAST,
    LEAVING,
    LENGTH,
    MASK,
    MEMBERS,
    NEVER,
    NO_END,
    NUM_ARRIVING,
    NUM_BUNDLES,
    NUM_CLASSES,
    NUM_LEAVING,
    NUM_STATES,
    OPEN,
    START,
    SUMS,
    TRANSITIONS,
    VECTORS,
    WEIGHTS,
    any_before,
    find_record,
    fold,
    unfold,
)


@triton.jit
def _load_links(p_links, num_states, num_links, o_link, STATES: tl.constexpr, LINKS: tl.constexpr):
    """A block of the links of every state: `[LINKS, STATES]`."""
    i_state = tl.arange(0, STATES)
    i_link = o_link + tl.arange(0, LINKS)
    m_link = (i_link < num_links)[:, None] & (i_state < num_states)[None, :]
    return tl.load(p_links + i_link[:, None] * num_states + i_state[None, :], mask=m_link, other=-1)


@triton.jit
def _beyond(weights, links, STATES: tl.constexpr, LINKS: tl.constexpr, DENSE: tl.constexpr):
    """The weight of the state at the other end of each link. In matrices link number i leads to state i."""
    if DENSE:
        beyond = weights[:, None]
    else:
        other = tl.reshape(tl.where(links >= 0, links >> BITS, 0), [LINKS * STATES])
        beyond = tl.reshape(tl.gather(weights, other, 0), [LINKS, STATES])
    return beyond


@triton.jit
def sweep_kernel(
    p_slots,
    p_ranges,
    p_tables,
    p_flags,
    p_sums,
    p_vectors,
    GROUP: tl.constexpr,
    STATES: tl.constexpr,
    LINKS: tl.constexpr,
    PLACES: tl.constexpr,
    DENSE: tl.constexpr,
):
    """Log-weights of all states: backward, before every position and at the end; forward, before every position.

    Programs come in pairs, of which the first goes backward, over the links that leave each state, and the second goes
    forward, over those that arrive.
    """
    p_slot, is_slot = find_record(p_slots, p_ranges, GROUP)
    if not is_slot:
        return
    first = tl.load(p_slot + FIRST)
    length = tl.load(p_slot + LENGTH)
    o_place = tl.arange(0, PLACES)
    flags = tl.load(p_flags + first + o_place, mask=o_place < length, other=0)
    if tl.max(flags, 0) == 0:
        return
    num_states = tl.load(p_slot + NUM_STATES)
    num_bundles = tl.load(p_slot + NUM_BUNDLES)
    p_vector = p_vectors + tl.load(p_slot + VECTORS)
    p_sum = p_sums + tl.load(p_slot + SUMS)
    i_state = tl.arange(0, STATES)
    is_backward = tl.program_id(1) == 0
    if is_backward:
        num_links = tl.load(p_slot + NUM_LEAVING)
        p_links = p_tables + tl.load(p_slot + LEAVING)
        accepting = tl.load(
            p_tables + tl.load(p_slot + ACCEPTING) + i_state, mask=i_state < num_states, other=0
        )
        weights = tl.where(accepting > 0, 0.0, NEVER)
        p_out = p_vector + length * STATES
    else:
        num_links = tl.load(p_slot + NUM_ARRIVING)
        p_links = p_tables + tl.load(p_slot + ARRIVING)
        weights = tl.where(i_state == START, 0.0, NEVER)
        p_out = p_vector + (length + 1) * STATES
    tl.store(p_out + i_state, weights)
    links = _load_links(p_links, num_states, num_links, 0, STATES, LINKS)
    o_bundle = tl.maximum(links, 0) & MASK
    # One position ahead, so that no position waits for memory.
    i_position = tl.where(is_backward, length - 1, 0)
    step = tl.where(is_backward, -1, 1)
    value = tl.load(p_sum + i_position * num_bundles + o_bundle, mask=links >= 0, other=NEVER)
    num_positions = length - tl.where(is_backward, 0, 1)
    for done in range(num_positions):
        p_next = p_sum + (i_position + step) * num_bundles
        is_more = (links >= 0) & (done + 1 < num_positions)
        following = tl.load(p_next + o_bundle, mask=is_more, other=NEVER)
        top, total = fold(
            tl.full([STATES], NEVER, tl.float32),
            tl.zeros([STATES], tl.float32),
            value + _beyond(weights, links, STATES, LINKS, DENSE),
        )
        if not DENSE:
            for o_link in range(LINKS, num_links, LINKS):
                more = _load_links(p_links, num_states, num_links, o_link, STATES, LINKS)
                o_more = i_position * num_bundles + (tl.maximum(more, 0) & MASK)
                b_value = tl.load(p_sum + o_more, mask=more >= 0, other=NEVER)
                beyond = _beyond(weights, more, STATES, LINKS, DENSE)
                top, total = fold(top, total, b_value + beyond)
        weights = unfold(top, total)
        value = following
        i_position += step
        p_out += step * STATES
        tl.store(p_out + i_state, weights)


@triton.jit
def _load_best(p_bests, p_best_class, o_position, links, is_there):
    """Greatest weight and its class, of the bundles of a position."""
    bundle = tl.maximum(links, 0) & MASK
    m_link = (links >= 0) & is_there
    best = tl.load(p_bests + o_position + bundle, mask=m_link, other=NEVER)
    return best, tl.load(p_best_class + o_position + bundle, mask=m_link, other=0)


@triton.jit
def _best_of(
    value,
    value_class,
    free_class,
    is_free,
    no_end,
    beyond,
    links,
    num_states,
    best,
    best_class,
):
    """Take a block of links into the best continuation of every state; the lowest class among equals."""
    value = tl.where(is_free, tl.where(links >= 0, 0.0, NEVER), value)
    ends = no_end & ((links >> BITS) == num_states - 1)
    weight = tl.where(ends, NEVER, value + beyond)
    i_class = tl.where(is_free, free_class, value_class)
    b_best = tl.max(weight, 0)
    b_class = tl.min(tl.where(weight == b_best[None, :], i_class, MASK), 0)
    is_lower = (b_best == best) & (b_class < best_class)
    best_class = tl.where((b_best > best) | is_lower, b_class, best_class)
    return tl.maximum(best, b_best), best_class


@triton.jit(do_not_specialize=["row_stride"])
def commit_slots_kernel(
    p_slots,
    p_ranges,
    p_tables,
    p_tokens,
    p_token_confidence,
    p_best_token,
    p_chosen,
    p_flags,
    p_source,
    p_bests,
    p_best_class,
    p_vectors,
    p_weights,
    row_stride,
    pad_token,
    GROUP: tl.constexpr,
    STATES: tl.constexpr,
    LINKS: tl.constexpr,
    PLACES: tl.constexpr,
    DENSE: tl.constexpr,
):
    """Write the chosen places of a slot, on one accepting path; after a PAD the rest of the slot is PAD too.

    A PAD is committed only when no place before it stays masked. Where that would leave nothing of what was chosen in a
    slot, its first masked place is committed instead. Sources, flags and vectors are written over.
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
    num_bundles = tl.load(p_slot + NUM_BUNDLES)
    num_links = tl.load(p_slot + NUM_LEAVING)
    o_sums = tl.load(p_slot + SUMS)
    p_transitions = p_tables + tl.load(p_slot + TRANSITIONS)
    p_lowest = p_tables + tl.load(p_slot + MEMBERS)
    p_links = p_tables + tl.load(p_slot + LEAVING)
    p_vector = p_vectors + tl.load(p_slot + VECTORS)
    i_state = tl.arange(0, STATES)
    m_state = i_state < num_states
    links = _load_links(p_links, num_states, num_links, 0, STATES, LINKS)
    accepting = tl.load(p_tables + tl.load(p_slot + ACCEPTING) + i_state, mask=m_state, other=0)
    onward = tl.where(accepting > 0, 0.0, NEVER)
    free_class = tl.load(p_lowest + (tl.maximum(links, 0) & MASK), mask=links >= 0, other=0)
    o_position = o_sums + (length - 1) * num_bundles
    value, value_class = _load_best(p_bests, p_best_class, o_position, links, length > 0)
    for i_back in range(length):
        i_place = length - 1 - i_back
        o_before = o_position - num_bundles
        # One position ahead, so that no position waits for memory.
        before, before_class = _load_best(p_bests, p_best_class, o_before, links, i_place > 0)
        is_free = tl.load(p_source + first + i_place) == FREE
        place_no_end = tl.load(p_flags + first + i_place) > 0
        beyond = _beyond(onward, links, STATES, LINKS, DENSE)
        best, best_class = _best_of(
            value, value_class, free_class, is_free, place_no_end, beyond, links, num_states,
            tl.full([STATES], NEVER, tl.float32), tl.full([STATES], MASK, tl.int32),
        )  # fmt: skip
        if not DENSE:
            for o_link in range(LINKS, num_links, LINKS):
                more = _load_links(p_links, num_states, num_links, o_link, STATES, LINKS)
                b_value, b_class = _load_best(p_bests, p_best_class, o_position, more, length > 0)
                b_free = tl.load(p_lowest + (tl.maximum(more, 0) & MASK), mask=more >= 0, other=0)
                beyond = _beyond(onward, more, STATES, LINKS, DENSE)
                best, best_class = _best_of(
                    b_value, b_class, b_free, is_free, place_no_end, beyond, more, num_states,
                    best, best_class,
                )  # fmt: skip
        value, value_class, o_position = before, before_class, o_before
        is_live = m_state & (best > NEVER)
        o_edge = i_state * num_classes + best_class
        following = tl.load(p_transitions + o_edge, mask=is_live, other=0)
        tl.store(
            p_vector + i_place * STATES + i_state, best_class | (following << BITS), mask=is_live
        )
        onward = best
    tl.debug_barrier()

    state = num_states * 0 + START
    for i_place in range(length):
        step = tl.load(p_vector + i_place * STATES + state)
        tl.store(p_source + first + i_place, step & MASK)
        state = step >> BITS
    tl.debug_barrier()

    path = tl.load(p_source + first + o_place, mask=m_place, other=0)
    o_row = tl.where(is_chosen, source, 0).to(tl.int64) * row_stride
    token = tl.load(p_best_token + o_row + path, mask=is_chosen, other=0)
    p_any_token = p_tables + tl.load(p_slot + ANY_TOKENS)
    token = tl.where(token >= 0, token, tl.load(p_any_token + path, mask=is_chosen, other=0))
    p_weight = p_weights + tl.load(p_slot + WEIGHTS)
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
