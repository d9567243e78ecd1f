"""What a person can tell about a call: by the options of `ingest`, or by a row of a manifest."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from db.enums import Direction


class DetailsError(ValueError):
    """A value cannot be taken; the message names the field and says what is expected."""


class CallDetails(BaseModel):
    """Everything is optional; what is not told stays unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    external_id: Annotated[str, Field(min_length=1)] | None = None
    agent_id: str | None = None
    agent_version: str | None = None
    direction: Direction | None = None
    started_at: datetime | None = None
    agent_channel: Annotated[int, Field(ge=0, le=1)] | None = None
    campaign: str | None = None
    caller_key: str | None = None
    end_reason: str | None = None
    metadata: dict[str, Any] = {}

    @field_validator("started_at", mode="before")
    @classmethod
    def _iso_8601(cls, value: object) -> object:
        """A time without a zone is UTC: recordings come from servers, not from wall clocks."""
        if not isinstance(value, str):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError("expected ISO 8601, such as 2026-11-22T14:03:00Z") from error
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)

    @field_validator("metadata", mode="before")
    @classmethod
    def _json_object(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            parsed = json.loads(value, parse_constant=_refuse_constant)
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON: {error.msg} at character {error.pos + 1}") from error
        if not isinstance(parsed, dict):
            raise ValueError('expected a JSON object, such as {"clinic": "north"}')  # noqa: TRY004
        return parsed

    def over(self, defaults: CallDetails) -> CallDetails:
        """These details, with `defaults` where they say nothing. Metadata is merged, key by key."""
        told = self.model_dump(exclude_none=True, exclude={"metadata"})
        merged = defaults.model_dump(exclude={"metadata"}) | told
        return CallDetails(**merged, metadata=defaults.metadata | self.metadata)


def parse_details(values: dict[str, Any]) -> CallDetails:
    """Details from text as a person wrote it. Empty text says nothing. Raises DetailsError naming every bad field."""
    told = {name: value for name, value in values.items() if value is not None and value != ""}
    try:
        return CallDetails(**told)
    except ValidationError as error:
        problems = (
            f"{item['loc'][0]}: {item['msg'].removeprefix('Value error, ')} (is {_short(item['input'])})"
            for item in error.errors()
        )
        raise DetailsError("; ".join(problems)) from error


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:59] + "…"
