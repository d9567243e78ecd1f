"""Which texts name the same entity."""

import pytest

from analytics.evaluation.entities import EntityKind, mentions, same_entity


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("name", "Dr. Zoë O'Neil-Park", "zoe oneil park"),
        ("service", "a water-heater repair", "Water heater repair"),
        ("appointment", "Tuesday at 3:00 pm", "on Tuesday, 3 p.m."),
        ("appointment", "the 14th in the morning", "14th morning"),
        ("price", "$1,200.00", "1200 dollars"),
    ],
)
def test_same(kind: EntityKind, one: str, other: str):
    assert same_entity(kind, one, other)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("name", "Dana Whitfield", "Dana Witfield"),
        ("name", "Dana Whitfield", "Dana"),
        ("service", "haircut", "hair color"),
        ("appointment", "Tuesday at 3 pm", "Tuesday at 3:30 pm"),
        ("appointment", "next Tuesday at 3 pm", "this Tuesday at 3 pm"),
        ("price", "$375", "$35"),
        ("price", "$375", None),
    ],
)
def test_different(kind: EntityKind, one: str, other: str | None):
    assert not same_entity(kind, one, other)
    assert not same_entity(kind, other, one)


def test_nothing_is_nothing():
    assert same_entity("name", None, None)


def test_mentions():
    summary = "Dana Whitfield asked what a haircut costs. The agent booked it for Tuesday at 3:30 pm, quoting $45."
    assert mentions("name", summary, "Dana Whitfield")
    assert mentions("service", summary, "a haircut")
    assert mentions("appointment", summary, "on Tuesday at 3:30 pm")
    assert mentions("price", summary, "$45.00")
    assert not mentions("name", summary, "Whitfield Dana")
    assert not mentions("price", summary, "$4")
    assert not mentions("service", summary, "hair")
