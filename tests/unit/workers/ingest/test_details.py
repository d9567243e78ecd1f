"""What people write about calls becomes typed values, or a message that names the field."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from workers.ingest.details import CallDetails, DetailsError, parse_details


def test_text_becomes_typed_values() -> None:
    details = parse_details(
        {
            "external_id": " CA1 ",
            "direction": "inbound",
            "started_at": "2026-11-22T14:03:00+02:00",
            "agent_channel": "1",
            "metadata": '{"clinic": "north", "beds": 3}',
            "campaign": "",
        }
    )
    assert details.external_id == "CA1"
    assert details.started_at == datetime(2026, 11, 22, 14, 3, tzinfo=timezone(timedelta(hours=2)))
    assert details.agent_channel == 1
    assert details.metadata == {"clinic": "north", "beds": 3}
    assert details.campaign is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22T14:03:00", datetime(2026, 11, 22, 14, 3, tzinfo=UTC)),
        ("2026-11-22 14:03", datetime(2026, 11, 22, 14, 3, tzinfo=UTC)),
        ("2026-11-22", datetime(2026, 11, 22, tzinfo=UTC)),
        ("20261122T140300Z", datetime(2026, 11, 22, 14, 3, tzinfo=UTC)),
    ],
)
def test_a_time_without_a_zone_is_utc(text: str, expected: datetime) -> None:
    assert parse_details({"started_at": text}).started_at == expected


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"started_at": "yesterday"}, "started_at: expected ISO 8601"),
        ({"started_at": "1700000000"}, "started_at: expected ISO 8601"),
        ({"direction": "sideways"}, "direction: "),
        ({"agent_channel": "2"}, "agent_channel: "),
        ({"agent_channel": "left"}, "agent_channel: "),
        ({"metadata": "{bad"}, "metadata: not JSON"),
        ({"metadata": "[1]"}, "metadata: expected a JSON object"),
        ({"metadata": '{"a": NaN}'}, "metadata: NaN is not JSON"),
        ({"metadata": '"text"'}, "metadata: expected a JSON object"),
        ({"nonsense": "1"}, "nonsense: "),
    ],
)
def test_what_cannot_be_taken_is_named(values: dict[str, str], named: str) -> None:
    with pytest.raises(DetailsError) as caught:
        parse_details(values)
    assert str(caught.value).startswith(named)


def test_every_bad_field_is_named_at_once() -> None:
    with pytest.raises(DetailsError, match=r"(?s)direction.*metadata"):
        parse_details({"direction": "up", "metadata": "{"})


def test_a_row_goes_before_the_defaults_and_metadata_is_merged() -> None:
    row = CallDetails(agent_id="salon", metadata={"a": 1, "b": 1})
    defaults = CallDetails(agent_id="clinic", campaign="spring", metadata={"b": 2, "c": 2})
    merged = row.over(defaults)
    assert (merged.agent_id, merged.campaign) == ("salon", "spring")
    assert merged.metadata == {"a": 1, "b": 1, "c": 2}
