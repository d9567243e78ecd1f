"""Token automata against Python's `re` on every token sequence of a small vocabulary."""

import itertools
import re
from dataclasses import dataclass

import numpy as np
import pytest

from inference.diffusion.structured.automata import build_automaton, sequence_automaton
from inference.diffusion.structured.schema.languages import FREE_TEXT
from inference.diffusion.structured.schema.patterns import full_match
from inference.diffusion.structured.schema.regex import text_of
from inference.diffusion.structured.token_tables import (
    AutomatonTooLargeError,
    Counter,
    LanguageEmptyError,
)
from inference.diffusion.structured.vocabulary import Vocabulary


@dataclass(eq=False)
class ListedTokenizer:
    token_bytes: list[bytes]
    pad_token_id: int = 0
    mask_token_id: int = 1

    def encode(self, text):
        return [self.token_bytes.index(bytes([byte])) for byte in text.encode()]


def vocabulary(*pieces):
    return Vocabulary(ListedTokenizer([b"", b"", *pieces]))


PIECES = [b"a", b"b", b"c", b"ab", b"ca", b" ", b" b", b"\xc3", b"\xa9", b"\xc3\xa9c", b'"', b"a"]

CASES = [
    ("^(a|ab|abc)(c|bcd)*$", None),
    ("^a*b?$", None),
    ("^[^a]+$", None),
    ("^$|^ca", None),
    ("^[abc]+$", Counter(2, 3)),
    ("^(ab?)+$", Counter(0, 4)),
    ("^.*$", Counter(3, None)),
    ("^(é|ca)*$", Counter(1, 2)),
]


@pytest.mark.parametrize(("pattern", "counter"), CASES)
@pytest.mark.parametrize("allow_empty", [False, True])
def test_accepts_exactly_the_texts_of_the_regex_with_pad_after_them(pattern, counter, allow_empty):
    vocab = vocabulary(*PIECES)
    automaton = build_automaton(
        text_of(full_match(pattern)), vocab, allow_empty=allow_empty, counter=counter
    )
    expected_regex = re.compile(pattern)
    for length in range(4):
        for tokens in itertools.product(range(2, len(vocab)), repeat=length):
            piece = b"".join(vocab.token_bytes[token] for token in tokens)
            expected = allow_empty if not piece else _is_text_of(expected_regex, piece, counter)
            assert automaton.accepts([*tokens]) == expected, piece
            assert automaton.accepts([*tokens, 0, 0]) == expected, piece
            assert not automaton.accepts([*tokens, 0, 2])
            assert not automaton.accepts([*tokens, 1])


def _is_text_of(pattern, piece, counter):
    try:
        text = piece.decode()
    except UnicodeDecodeError:
        return False
    bounds = counter or Counter(0, None)
    fits = bounds.minimum <= len(text) and (bounds.maximum is None or len(text) <= bounds.maximum)
    return fits and '"' not in text and bool(pattern.search(text))


def test_equal_tokens_share_a_class_and_states_are_few():
    automaton = build_automaton(FREE_TEXT, vocabulary(*PIECES), allow_empty=False)
    classes = automaton.token_class
    assert classes[2] == classes[3] == classes[4] == classes[5] == classes[13] > 0
    assert classes[12] == 0, "a quote is never legal"
    assert classes[1] == 0, "nor is the mask"
    assert automaton.class_size.sum() == len(PIECES) - 1 + 1
    # dead, start, inside a word, after a space, inside é at the start of a word or in it, and PAD
    assert len(automaton.accepting) <= 7


def test_a_slot_can_be_filled_when_some_text_has_its_length():
    automaton = build_automaton("(?:aa)+", vocabulary(b"a", b"aaaa"), allow_empty=False)
    assert [automaton.can_fill(n) for n in (1, 2, 3)] == [True, True, True]
    single = build_automaton("aaa", vocabulary(b"a"), allow_empty=False)
    assert [single.can_fill(n) for n in (2, 3, 4)] == [False, True, True]


def test_listed_sequences_are_accepted_and_no_others():
    vocab = vocabulary(b"a", b"b", b"c")
    listed = [[2, 3], [2, 4, 3], [3], [4, 3]]
    automaton = sequence_automaton(listed, vocab, allow_empty=True)
    for length in range(4):
        for tokens in itertools.product((2, 3, 4), repeat=length):
            expected = list(tokens) in listed or not tokens
            assert automaton.accepts([*tokens, 0]) == expected, tokens


def test_what_the_tokenizer_cannot_write_and_what_grows_too_large():
    with pytest.raises(LanguageEmptyError):
        build_automaton("[x]+", vocabulary(b"a", b"b"), allow_empty=True)
    with pytest.raises(LanguageEmptyError):
        build_automaton("ax", vocabulary(b"a", b"b"), allow_empty=False)
    with pytest.raises(AutomatonTooLargeError):
        build_automaton("a{1500}", vocabulary(b"a"), allow_empty=False)


def test_shapes_group_tokens_by_what_their_bytes_are(tokenizer):
    vocab = Vocabulary(tokenizer)
    is_digit = [0 if 0x30 <= byte <= 0x39 else -1 for byte in range(256)]

    shapes = vocab.shapes(np.array(is_digit))
    for token, piece in enumerate(tokenizer.token_bytes):
        assert (shapes.shape_of_token[token] >= 0) == piece.isdigit()
        if piece.isdigit():
            twin = shapes.representatives[shapes.shape_of_token[token]]
            assert len(tokenizer.token_bytes[twin]) == len(piece)
