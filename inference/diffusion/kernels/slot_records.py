"""How kernels find a slot: one record of numbers each, and what they all ask about it.

Places are places in the token buffer. A finite slot's decision is kept at its first place. Classes that lead from one
state to the same other one are a bundle, which is a link between the two.
"""

# ruff: noqa: N803 -- parameters in capitals are compile-time constants
# mypy: allow-untyped-defs

from __future__ import annotations

import enum

import triton
import triton.language as tl


class Field(enum.IntEnum):
    """The numbers of a slot's record: sizes, and offsets of tables in `DeviceTables.data` and of scratch."""

    FIRST = 0  # place
    LENGTH = 1
    TABLE = 2  # row of `TableStore.token_class`
    PARENT = 3  # first place of the slot that this one depends on; -1 for none
    PARENT_GROUPS = 4  # what each choice of the parent opens
    WANTED = 5  # what the parent must open
    DEPTH = 6  # number of slots that lead to it
    IS_FINITE = 7
    NUM_ALLOWED = 8  # choices of a finite slot, from the first
    CHOICE_CLASSES = 9  # `[choices, length]`
    CHOICE_TOKENS = 10  # `[choices, length]`
    NUM_STATES = 11  # of an automaton, as all that follow
    NUM_CLASSES = 12
    NUM_BUNDLES = 13
    NUM_MEMBERS = 14  # classes of a bundle, at most
    NUM_LEAVING = 15  # links from a state, at most
    NUM_ARRIVING = 16  # links to a state, at most
    TRANSITIONS = 17  # `[states, classes]`
    ACCEPTING = 18  # `[states]`
    CLASS_SIZES = 19  # tokens per class `[classes]`
    ANY_TOKENS = 20  # a token of each class `[classes]`
    MEMBERS = 21  # classes of each bundle, ascending `[members, bundles]`; -1 beyond the last one
    LEAVING = 22  # links from each state `[links, states]`: bundle, and in the bits above it the other state
    ARRIVING = 23  # links to each state, likewise; -1 for none
    VECTORS = 24  # scratch `[2 * length + 1, block of states]`: backward, then forward weights
    SUMS = 25  # scratch `[length, bundles]`
    WEIGHTS = 26  # scratch `[length, classes]`


RECORD_SIZE = tl.constexpr(len(Field))
FIRST = tl.constexpr(int(Field.FIRST))
LENGTH = tl.constexpr(int(Field.LENGTH))
TABLE = tl.constexpr(int(Field.TABLE))
PARENT = tl.constexpr(int(Field.PARENT))
PARENT_GROUPS = tl.constexpr(int(Field.PARENT_GROUPS))
WANTED = tl.constexpr(int(Field.WANTED))
DEPTH = tl.constexpr(int(Field.DEPTH))
IS_FINITE = tl.constexpr(int(Field.IS_FINITE))
NUM_ALLOWED = tl.constexpr(int(Field.NUM_ALLOWED))
CHOICE_CLASSES = tl.constexpr(int(Field.CHOICE_CLASSES))
CHOICE_TOKENS = tl.constexpr(int(Field.CHOICE_TOKENS))
NUM_STATES = tl.constexpr(int(Field.NUM_STATES))
NUM_CLASSES = tl.constexpr(int(Field.NUM_CLASSES))
NUM_BUNDLES = tl.constexpr(int(Field.NUM_BUNDLES))
NUM_MEMBERS = tl.constexpr(int(Field.NUM_MEMBERS))
NUM_LEAVING = tl.constexpr(int(Field.NUM_LEAVING))
NUM_ARRIVING = tl.constexpr(int(Field.NUM_ARRIVING))
TRANSITIONS = tl.constexpr(int(Field.TRANSITIONS))
ACCEPTING = tl.constexpr(int(Field.ACCEPTING))
CLASS_SIZES = tl.constexpr(int(Field.CLASS_SIZES))
ANY_TOKENS = tl.constexpr(int(Field.ANY_TOKENS))
MEMBERS = tl.constexpr(int(Field.MEMBERS))
LEAVING = tl.constexpr(int(Field.LEAVING))
ARRIVING = tl.constexpr(int(Field.ARRIVING))
VECTORS = tl.constexpr(int(Field.VECTORS))
SUMS = tl.constexpr(int(Field.SUMS))
WEIGHTS = tl.constexpr(int(Field.WEIGHTS))

OPEN = tl.constexpr(1)  # flags of a place: can be committed
FORCED = tl.constexpr(2)  # one token alone is legal
ENDS = tl.constexpr(4)  # the best token is PAD
NO_END = tl.constexpr(8)  # must not become PAD

FLOOR = tl.constexpr(-1e4)  # as slot_groups.LOG_PROBABILITY_FLOOR
LEAST = tl.constexpr(1e-30)  # as slot_groups.MIN_CONFIDENCE
NEVER = tl.constexpr(float("-inf"))
LN_2 = tl.constexpr(0.6931471805599453)
UNDECIDED = tl.constexpr(-1)  # as conditions.UNDECIDED
CLOSED = tl.constexpr(-2)

LINK_BITS = (
    20  # of a bundle, or of a class, in one number with a state: tables have at most 2**19 entries
)
BITS = tl.constexpr(LINK_BITS)
MASK = tl.constexpr((1 << LINK_BITS) - 1)

START = tl.constexpr(1)  # state
FREE = tl.constexpr(-1)  # source of a position that is open to anything; rows of logits are from 0
FIXED = tl.constexpr(-2)  # source of a position that holds class c: FIXED - c


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
def class_scores(p_score, p_row_lse, row_stride, source, i_class, m_class):
    """Log-weights of classes at a position: those of its row, 0 where it is free, its own class alone where fixed."""
    has_row = source >= 0
    row = tl.maximum(source, 0).to(tl.int64)
    score = tl.load(p_score + row * row_stride + i_class, mask=m_class & has_row, other=0.0)
    normaliser = tl.load(p_row_lse + row, mask=has_row, other=0.0)
    own = (source == FREE) | (i_class + source == FIXED)
    return tl.where(has_row, log_probability(score, normaliser), tl.where(own, 0.0, NEVER))


@triton.jit
def fold(top, total, values):
    """Take more values, those of a column each, into sums of exponentials, kept as `total` times that of `top`.

    Columns lie side by side in a warp, so that most of a sum is taken within a thread.
    """
    higher = tl.maximum(top, tl.max(values, 0))
    base = tl.where(higher == NEVER, 0.0, higher)
    total = total * tl.exp(top - base) + tl.sum(tl.exp(values - base[None, :]), 0)
    return higher, total


@triton.jit
def unfold(top, total):
    """The log of such a sum."""
    return tl.where(top == NEVER, NEVER, top + tl.log2(total) * LN_2)


@triton.jit
def any_before(flags):
    """Whether a flag is set at an earlier position."""
    count = flags.to(tl.int32)
    return tl.cumsum(count, 0) > count
