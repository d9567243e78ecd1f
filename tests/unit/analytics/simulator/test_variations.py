"""Variations of finished calls: things nobody sells instead of services, marks set by another listener."""

import re
from itertools import islice
from random import Random

import pytest

from analytics.records import Summary
from analytics.simulator import simulate
from analytics.simulator.entities import load_verticals
from analytics.simulator.variations import (
    made_up_service,
    other_service,
    with_other_marks,
    with_other_service,
)


@pytest.fixture(scope="module")
def calls():
    return list(islice(simulate(5), 400))


def test_a_made_up_service_replaces_the_known_one_wherever_it_was_said(calls) -> None:
    random = Random(1)
    num_replaced = 0
    for call in calls:
        texts = [turn.text for turn in call.spoken]
        known = call.records["summary"]["service"]
        varied, records = with_other_service(texts, call.records, random)
        other = records["summary"]["service"]
        if known is None or other == known:
            assert (varied, records) == (texts, call.records)
            continue
        num_replaced += 1
        assert other.lower() in " ".join(varied).lower()
        assert not any(re.search(rf"\b{re.escape(known)}\b", text) for text in varied)
        assert f"({other})" in records["summary"]["summary"]
        Summary.model_validate(records["summary"])
        assert {k: v for k, v in records.items() if k != "summary"} == {
            k: v for k, v in call.records.items() if k != "summary"
        }
    assert num_replaced > 100


def test_the_call_itself_stays_as_it_was(calls) -> None:
    before = [call.to_json() for call in calls[:50]]
    for call in calls[:50]:
        with_other_service([turn.text for turn in call.spoken], call.records, Random(2))
    assert [call.to_json() for call in calls[:50]] == before


def test_the_article_fits_the_made_up_service() -> None:
    records = {"summary": {"service": "deep clean", "summary": "They asked (deep clean)."}}
    for seed in range(40):
        texts, varied = with_other_service(["I want a deep clean."], records, Random(seed))
        service = varied["summary"]["service"]
        article = "an" if service[0] in "aeiou" else "a"
        assert texts == [f"I want {article} {service}."]


def test_made_up_services_are_many_and_fit_their_slot() -> None:
    random = Random(3)
    services = {made_up_service(random) for _ in range(1000)}
    assert len(services) > 950
    assert max(map(len, services)) <= 48


def test_another_service_is_at_times_what_another_trade_sells() -> None:
    random = Random(6)
    lines = [line for vertical in load_verticals().values() for line in vertical.lines]
    sold = {service.name for line in lines for service in line.services}
    num_sold = sum(other_service(random) in sold for _ in range(1000))
    assert 100 < num_sold < 200, "15 % in the mean; those made up are sold nowhere"


def test_other_marks_change_no_word(calls) -> None:
    random = Random(4)
    texts = [turn.text for call in calls for turn in call.spoken]
    varied = with_other_marks(texts, 0.5, random)
    assert varied != texts
    for text, other in zip(texts, varied, strict=True):
        assert re.findall(r"[\w']+", other.lower()) == re.findall(r"[\w']+", text.lower())


def test_marks_at_rate_nothing_stay() -> None:
    texts = ["Lovely. So bye!", "Well, Dwayne, no?"]
    assert with_other_marks(texts, 0.0, Random(0)) == texts


def test_names_keep_their_capitals() -> None:
    seen = {
        with_other_marks(["It was great. Dwayne was. So bye!"], 1.0, Random(s))[0]
        for s in range(30)
    }
    assert seen == {"It was great. Dwayne was. So bye.", "It was great. Dwayne was, so bye."}
