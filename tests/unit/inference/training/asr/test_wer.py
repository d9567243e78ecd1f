import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.training.asr.wer import count_errors, edit_distance, normalise

_WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=7)


def _naive(first: list[str], second: list[str]) -> int:
    if not first or not second:
        return len(first) + len(second)
    return min(
        _naive(first[1:], second) + 1,
        _naive(first, second[1:]) + 1,
        _naive(first[1:], second[1:]) + (first[0] != second[0]),
    )


@given(_WORDS, _WORDS)
def test_distance_is_levenshtein(first: list[str], second: list[str]) -> None:
    assert edit_distance(first, second) == _naive(first, second)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Okay, two-bedroom.", "ok 2 bedroom"),
        ("$1,250 at 3:30 pm!", "1250 at 3 30 pm"),
        ("Dr. Lee’s", "doctor lee's"),
    ],
)
def test_spelling_is_forgiven(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


def test_figures_and_names_are_counted_apart() -> None:
    errors = count_errors([("Call Maria at 555-0142, please.", "Call Mary at 555-0143 please")])
    assert (errors.errors, errors.words) == (2, 6)
    assert (errors.figure_errors, errors.figures) == (1, 2)
    assert (errors.name_errors, errors.names) == (1, 1)
    assert errors.rate == pytest.approx(1 / 3)


def test_words_out_of_nothing_are_errors() -> None:
    assert count_errors([("", "thank you")]).rate == 1.0
    assert count_errors([("", "")]).rate == 0.0
