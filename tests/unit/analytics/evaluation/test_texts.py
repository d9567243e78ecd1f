"""The normaliser's rules, word errors and ROUGE-L against values worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.evaluation.texts import WordErrors, align, rouge_l, word_errors, words_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It's José's, OK?", "its joses okay"),
        ("a follow-up", "A follow up!"),
        ("$1,200", "1200 dollars"),
        ("$120.00 or $9.50", "120 dollars or 9.50 dollars"),
        ("at 3 p.m.", "at 3pm"),
        ("3:00 PM today", "3 pm today"),
        ("25% & more", "25 percent and more"),
        ("555-0176.", "555 0176"),
        ("Alright, Dr. Lee", "all right doctor lee"),
    ],
)
def test_equal_when_normalised(one: str, other: str):
    assert words_of(one) == words_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3:30", "330"),
        ("2.5", "25"),
        ("3 am", "3 pm"),
        ("three", "3"),
        ("14th", "14"),
        ("so, um", "so"),
    ],
)
def test_different_when_normalised(one: str, other: str):
    assert words_of(one) != words_of(other)


def test_word_errors_by_hand():
    errors = word_errors(
        "This is Dana Whitfield, call 555 0176 today please.",
        "Uh this is Dana Witfield call 555 0167 please",
        names=["Dana Whitfield"],
    )
    # whitfield → witfield, 0176 → 0167, today lost, uh invented
    assert errors == WordErrors(
        num_words=9,
        substitutions=2,
        deletions=1,
        insertions=1,
        num_digits=2,
        missed_digits=1,
        num_names=2,
        missed_names=1,
    )
    assert errors.num_errors == 4


def test_number_words_sound_like_their_digits():
    errors = word_errors("two of the 3 at 14", "2 of the three at fourteen")
    assert (errors.num_errors, errors.num_digits, errors.missed_digits) == (0, 2, 0)
    assert word_errors("two", "3").num_errors == 1


def test_errors_add_up():
    one, other = word_errors("a b 3", "a c 3"), word_errors("d 4", "d")
    assert one + other == WordErrors(5, 1, 1, 0, 2, 1, 0, 0)


def test_words_out_of_nothing_are_insertions():
    errors = word_errors("", "thank you for watching")
    assert (errors.num_words, errors.insertions, errors.num_errors) == (0, 4, 4)


def test_alignment_keeps_positions_around_what_is_shared():
    pairs = align(list("abcde"), list("axce"))
    assert pairs == [(0, 0), (1, 1), (2, 2), (3, None), (4, 3)]


def edit_distance(first: str, second: str) -> int:
    if not first or not second:
        return len(first) + len(second)
    return min(
        edit_distance(first[1:], second[1:]) + (first[0] != second[0]),
        edit_distance(first[1:], second) + 1,
        edit_distance(first, second[1:]) + 1,
    )


short_texts = st.text("ab", max_size=5)


@given(short_texts, short_texts)
def test_alignment_is_complete_ordered_and_cheapest(first: str, second: str):
    pairs = align(list(first), list(second))
    assert [i for i, _ in pairs if i is not None] == list(range(len(first)))
    assert [j for _, j in pairs if j is not None] == list(range(len(second)))
    cost = sum(i is None or j is None or first[i] != second[j] for i, j in pairs)
    assert cost == edit_distance(first, second)


def test_rouge_l_by_hand():
    # common subsequence "dana booked haircut": 2 * 3 / (5 + 4)
    assert rouge_l("Dana gladly booked a haircut.", "Dana has booked haircut") == pytest.approx(
        2 * 3 / 9
    )
    assert rouge_l("same words", "Same words!") == 1.0
    assert rouge_l("", "") == 1.0
    assert rouge_l("something", "") == 0.0
