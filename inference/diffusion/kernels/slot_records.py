"""How kernels find a slot: one record of 16 numbers each, and what they all ask about it.

Places are places in the token buffer; offsets of tables count numbers in `DeviceTables.data`, those of scratch count
elements of it. A finite slot's decision is kept at its first place.
"""

# ruff: noqa: N803 -- parameters in capitals are compile-time constants
# mypy: allow-untyped-defs

from __future__ import annotations

import enum

import triton
import triton.language as tl


class Field(enum.IntEnum):
    """The numbers of a slot's record; of two meanings the second is that of a finite slot."""

    FIRST = 0  # place
    LENGTH = 1
    TABLE = 2  # row of `TableStore.token_class`
    PARENT = 3  # first place of the slot that this one depends on; -1 for none
    PARENT_GROUPS = 4  # offset: what each choice of the parent opens
    WANTED = 5  # what the parent must open
    DEPTH = 6  # number of slots that lead to it
    IS_FINITE = 7
    NUM_STATES = 8  # or number of choices allowed
    NUM_CLASSES = 9
    TRANSITIONS = 10  # offset `[states, classes]`; or classes of choices `[choices, length]`
    ARRIVALS = 11  # offset `[states, NUM_ARRIVALS]`, see `pack_arrival`; or tokens of choices `[choices, length]`
    NUM_ARRIVALS = 12
    STATE_ROWS = 13  # offset: accepting `[states]`, tokens per class `[classes]`, a token of each class `[classes]`
    VECTORS = 14  # scratch `[length, block of states]`
    WEIGHTS = 15  # scratch `[length, classes]`


RECORD_SIZE = tl.constexpr(len(Field))
FIRST = tl.constexpr(int(Field.FIRST))
LENGTH = tl.constexpr(int(Field.LENGTH))
TABLE = tl.constexpr(int(Field.TABLE))
PARENT = tl.constexpr(int(Field.PARENT))
PARENT_GROUPS = tl.constexpr(int(Field.PARENT_GROUPS))
WANTED = tl.constexpr(int(Field.WANTED))
DEPTH = tl.constexpr(int(Field.DEPTH))
IS_FINITE = tl.constexpr(int(Field.IS_FINITE))
NUM_STATES = tl.constexpr(int(Field.NUM_STATES))
NUM_CLASSES = tl.constexpr(int(Field.NUM_CLASSES))
TRANSITIONS = tl.constexpr(int(Field.TRANSITIONS))
ARRIVALS = tl.constexpr(int(Field.ARRIVALS))
NUM_ARRIVALS = tl.constexpr(int(Field.NUM_ARRIVALS))
STATE_ROWS = tl.constexpr(int(Field.STATE_ROWS))
VECTORS = tl.constexpr(int(Field.VECTORS))
WEIGHTS = tl.constexpr(int(Field.WEIGHTS))

OPEN = tl.constexpr(1)  # flags of a place: can be committed
FORCED = tl.constexpr(2)  # one token alone is legal
ENDS = tl.constexpr(4)  # the best token is PAD
NO_END = tl.constexpr(8)  # must not become PAD

FLOOR = tl.constexpr(-1e4)  # as slot_groups.LOG_PROBABILITY_FLOOR
LEAST = tl.constexpr(1e-30)  # as slot_groups.MIN_CONFIDENCE
NEVER = tl.constexpr(float("-inf"))
UNDECIDED = tl.constexpr(-1)  # as conditions.UNDECIDED
CLOSED = tl.constexpr(-2)

CLASS_BITS = 20  # of a class, in one number with a state: tables have at most 2**19 entries
CLASS_MASK = (1 << CLASS_BITS) - 1


@triton.jit
def find_record(p_slots, p_ranges, GROUP: tl.constexpr):
    """The program's record in its group, and whether there is one."""
    first = tl.load(p_ranges + 2 * GROUP)
    count = tl.load(p_ranges + 2 * GROUP + 1)
    i_slot = tl.program_id(0)
    return p_slots + (first + i_slot) * RECORD_SIZE, i_slot < count


@triton.jit
def parent_opens(p_record, p_choice, p_tables):
    """Whether the slot's parent, if it has one, has chosen what opens it."""
    parent = tl.load(p_record + PARENT)
    decided = tl.load(p_choice + tl.maximum(parent, 0))
    p_groups = p_tables + tl.load(p_record + PARENT_GROUPS)
    group = tl.load(p_groups + tl.maximum(decided, 0), mask=parent >= 0, other=0)
    return (parent < 0) | ((decided >= 0) & (group == tl.load(p_record + WANTED)))


@triton.jit
def log_probability(score, normaliser):
    """Raised to the floor, NaN too: a broken forward shows as the least confidence, never as an endless step."""
    value = score - normaliser
    return tl.maximum(tl.where(value == value, value, FLOOR), FLOOR)


@triton.jit
def any_before(flags):
    """Whether a flag is set at an earlier position."""
    count = flags.to(tl.int32)
    return tl.cumsum(count, 0) > count
