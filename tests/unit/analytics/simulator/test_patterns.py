"""The utterance bank: split by hash, checked before use, filled like a sentence."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from analytics.simulator.acts import ACTS
from analytics.simulator.patterns import (
    BANK_DIRECTORY,
    BankError,
    compile_pattern,
    is_heldout,
    load_bank,
    read_bank,
)


@pytest.fixture
def bank_copy(tmp_path: Path) -> Path:
    for act in ACTS:
        name = f"{act}.txt"
        (tmp_path / name).write_text((BANK_DIRECTORY / name).read_text())
    return tmp_path


def test_the_split_is_the_published_hash_rule() -> None:
    bank = load_bank()
    for side, expected in ((bank.train, False), (bank.heldout, True)):
        for patterns in side.values():
            for pattern in patterns:
                digest = hashlib.sha256(pattern.text.encode()).hexdigest()
                assert (int(digest[:8], 16) % 100 < 15) is expected
                assert is_heldout(pattern.text) is expected


def test_no_pattern_is_on_both_sides_and_every_act_has_both() -> None:
    bank = load_bank()
    for act in ACTS:
        train = {pattern.text for pattern in bank.train[act]}
        heldout = {pattern.text for pattern in bank.heldout[act]}
        assert train
        assert heldout
        assert not train & heldout


def test_the_bank_is_large() -> None:
    bank = load_bank()
    assert sum(map(len, bank.train.values())) + sum(map(len, bank.heldout.values())) >= 5000


def test_fewer_patterns_are_a_subset_of_more() -> None:
    bank = load_bank()
    few = bank.patterns("train", 5)
    more = bank.patterns("train", 20)
    for act in ACTS:
        assert len(few[act]) == min(5, len(bank.train[act]))
        assert set(few[act]) <= set(more[act])


def test_heldout_patterns_cannot_be_limited() -> None:
    with pytest.raises(ValueError, match="held-out"):
        load_bank().patterns("heldout", 5)


@pytest.mark.parametrize(
    ("pattern", "values", "expected"),
    [
        ("{when} suits me.", {"when": "tomorrow at 3 pm"}, "Tomorrow at 3 pm suits me."),
        ("Hm. {when} then.", {"when": "on Friday"}, "Hm. On Friday then."),
        ("See you {when}, bye.", {"when": "on Friday"}, "See you on Friday, bye."),
        ("Well, {answer}", {"answer": "You can park here."}, "Well, you can park here."),
        ("Well, {answer}", {"answer": "I'm sure of it."}, "Well, I'm sure of it."),
        ("{answer}, okay?", {"answer": "It is."}, "It is, okay?"),
        ("No slot.", {}, "No slot."),
    ],
)
def test_filling_keeps_case_and_marks_right(
    pattern: str, values: dict[str, str], expected: str
) -> None:
    assert compile_pattern(pattern).fill(values) == expected


def test_a_missing_act_is_named(bank_copy: Path) -> None:
    (bank_copy / "caller.give_name.txt").unlink()
    with pytest.raises(BankError, match=r"caller\.give_name: no file"):
        read_bank(bank_copy)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("My phone is {phone}.", "not allowed"),
        ("I am {caller and so on.", "broken braces"),
        ("{caller}, yes, {caller}.", "used twice"),
        ("You know my name.", "without {caller}"),
    ],
)
def test_an_unusable_pattern_is_named(bank_copy: Path, line: str, problem: str) -> None:
    path = bank_copy / "caller.give_name.txt"
    path.write_text(path.read_text().rstrip("\n") + f"\n{line}\n")
    with pytest.raises(BankError) as caught:
        read_bank(bank_copy)
    assert problem in str(caught.value)
    assert line in str(caught.value)


def test_one_speakers_pattern_stands_in_one_act(bank_copy: Path) -> None:
    line = (bank_copy / "caller.no_more.txt").read_text().splitlines()[1]
    path = bank_copy / "caller.backchannel.txt"
    path.write_text(path.read_text().rstrip("\n") + f"\n{line}\n")
    with pytest.raises(BankError, match="already stands in"):
        read_bank(bank_copy)


def test_a_file_that_is_no_act_is_named(bank_copy: Path) -> None:
    (bank_copy / "caller.sings.txt").write_text("La la la.\n")
    with pytest.raises(BankError, match=r"caller\.sings\.txt: no such act"):
        read_bank(bank_copy)
