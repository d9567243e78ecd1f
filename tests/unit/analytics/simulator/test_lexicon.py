"""The lexicon: large enough, consistent, split like the bank."""

from __future__ import annotations

from random import Random

import pytest

from analytics.simulator import entities
from analytics.simulator.acts import MOOD_SLOTS
from analytics.simulator.affinity import ContextualPatterns
from analytics.simulator.calendar import moments, ordinal, pick_other
from analytics.simulator.entities import (
    LexiconError,
    load_mood_words,
    load_names,
    load_vertical,
    load_verticals,
)
from analytics.simulator.named_services import named_service
from analytics.simulator.names import made_up_name
from analytics.simulator.patterns import is_heldout, load_bank


@pytest.mark.parametrize("vertical", load_verticals().values(), ids=lambda vertical: vertical.name)
def test_each_vertical_is_rich(vertical: entities.Vertical) -> None:
    assert len({s.name for line in vertical.lines for s in line.services}) >= 40
    assert len({b for line in vertical.lines for b in line.businesses}) >= 25
    assert len({topic for topic, _ in vertical.questions}) >= 25
    for line in vertical.lines:
        for service in line.services:
            assert len(service.name) <= 48
            assert 0 < service.low < service.high
            assert service.with_article.endswith(service.name)
        for issue in line.issues:
            assert len(issue.name) <= 48
    for _, answer in vertical.questions:
        assert answer[-1] in ".?!"
        assert answer[0].isupper()


def test_names_are_many_and_split_by_hash() -> None:
    train, heldout = load_names(heldout=False), load_names(heldout=True)
    assert len(train.first) + len(heldout.first) >= 400
    assert len(train.last) + len(heldout.last) >= 600
    assert all(is_heldout(name) for name in heldout.first + heldout.last)
    assert not any(is_heldout(name) for name in train.first + train.last)


def test_made_up_names_are_never_heldout_names() -> None:
    random = Random(0)
    for _ in range(500):
        assert not is_heldout(made_up_name(random, "first_ends"))
        assert not is_heldout(made_up_name(random, "last_ends"))


def test_words_of_mood_are_split_by_hash_and_never_say_both() -> None:
    train, heldout = load_mood_words(heldout=False), load_mood_words(heldout=True)
    assert set(train) == set(heldout) == MOOD_SLOTS
    for slot in MOOD_SLOTS:
        words = train[slot] + heldout[slot]
        assert len(set(words)) == len(words) >= 60
        assert not any(map(is_heldout, train[slot]))
        assert all(map(is_heldout, heldout[slot]))
    glad, upset = (
        {word for slot in side for word in train[slot] + heldout[slot]}
        for side in (("praise", "treasure", "glad"), ("scorn", "disgrace", "upset"))
    )
    assert not glad & upset


def test_an_issue_without_its_service_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setattr(
        entities,
        "_content_lines",
        lambda _: [
            "[all]",
            "questions:",
            "[dental]",
            "services:",
            "a crown | 1-2",
            "issues:",
            "a cold | a hug",
        ],
    )
    with pytest.raises(LexiconError, match="solved by no service"):
        load_vertical.__wrapped__("clinic")


@pytest.mark.parametrize(
    ("number", "expected"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (11, "11th"), (12, "12th"), (22, "22nd"), (30, "30th")],
)
def test_ordinals(number: int, expected: str) -> None:
    assert ordinal(number) == expected


def test_moments_read_as_adverbials_and_labels_are_part_of_them() -> None:
    for choices in moments().values():
        for moment in choices:
            assert moment.when.endswith(moment.label)
            assert not moment.label.startswith("on ")
            assert len(moment.label) <= 40


def test_other_moments_fall_on_other_days() -> None:
    random = Random(1)
    for _ in range(300):
        one = pick_other(random, "week")
        two = pick_other(random, "week", one)
        three = pick_other(random, "week", one, two)
        assert len({one.day, two.day, three.day}) == 3


def test_nail_calls_have_no_hair_in_them() -> None:
    patterns = ContextualPatterns(load_bank().train)
    salon = load_verticals()["salon"]
    nails = patterns.for_call("salon", "nails", salon.line_names, "conversation")
    hair = patterns.for_call("salon", "hair", salon.line_names, "conversation")
    act = "caller.request.complaint.salon"
    turned_orange = {p.text for p in load_bank().train[act] if "hair orange" in p.text}
    assert not turned_orange & {p.text for p in nails[act]}
    assert turned_orange <= {p.text for p in hair[act]}
    assert len(nails[act]) > 10


def test_sellers_are_not_told_that_they_misdialled() -> None:
    patterns = ContextualPatterns(load_bank().train)
    names = load_verticals()["salon"].line_names
    act = "agent.close.not_applicable"
    seller = {p.text for p in patterns.for_call("salon", "hair", names, "solicitation")[act]}
    wrong = {p.text for p in patterns.for_call("salon", "hair", names, "wrong_number")[act]}
    assert not any("wrong number" in text for text in seller)
    assert not any("sales" in text for text in wrong)
    assert seller
    assert wrong


def test_every_named_service_is_named_by_some_pattern() -> None:
    patterns = load_bank()
    named = {
        named_service(act, pattern.text)
        for side in (patterns.train, patterns.heldout)
        for act, kept in side.items()
        for pattern in kept
        if act.startswith("caller.request.")
        and not pattern.slots & {"service", "a_service", "issue"}
    } - {None}
    assert len(named) >= 200
    assert all(len(name) <= 48 for name in named if name)
    assert named_service("caller.request.book.salon", "I need a beard trim.") == "beard trim"
    assert named_service("caller.request.cancel", "I need a beard trim.") is None
