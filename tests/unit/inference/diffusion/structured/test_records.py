"""The guarantee: whatever the logits and whatever is committed when, every record is valid."""

import json
from collections import Counter
from datetime import date, time
from typing import Annotated, Literal
from uuid import UUID

import pytest
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from analytics.records import LeadFeatures, Sentiment, Summary
from benchmarks.structured import Validators
from inference.diffusion.structured.random_records import random_records
from inference.diffusion.structured.scaffold import compile_scaffold
from inference.diffusion.structured.table_store import TableStore

BATCH_SIZES = (64, 1, 7, 2, 48)


@pytest.mark.parametrize(("name", "num_rounds"), [("tokenizer", 1), ("crossing_tokenizer", 2)])
def test_random_logits_give_valid_records_for_every_schema(request, schemas, name, num_rounds):
    tokenizer = request.getfixturevalue(name)
    assert len(schemas) >= 60
    scaffolds = [
        compile_scaffold(schema, tokenizer, instructions="Read.", name=name, num_turns=7)
        for name, schema in schemas.items()
    ]
    validators = Validators(schemas)
    store = TableStore(len(tokenizer.token_bytes), "cpu")
    checked = Counter()
    for number in range(num_rounds):
        start, rest = 0, scaffolds
        while rest:
            size = BATCH_SIZES[(start + number) % len(BATCH_SIZES)]
            batch, rest, start = rest[:size], rest[size:], start + 1
            records = random_records(batch, seed=100 * number + start, store=store)
            for scaffold, record in zip(batch, records, strict=True):
                complaints = validators.complaints(scaffold.name, record.value)
                assert not complaints, (scaffold.name, record.value)
                assert all(0 < sure <= 1 for sure in record.confidence.values())
                checked[scaffold.name] += 1
    assert set(checked) == set(schemas)


@pytest.mark.parametrize("num_turns", [0, 1, 40])
def test_the_built_in_records_pass_their_models(tokenizer, num_turns):
    models = (Summary, Sentiment, LeadFeatures)
    scaffolds = [
        compile_scaffold(
            model.model_json_schema(),
            tokenizer,
            instructions="Read.",
            name=model.__name__,
            num_turns=num_turns,
        )
        for model in models
    ]
    for seed in range(2):
        records = random_records(scaffolds * 3, seed=seed)
        for model, record in zip(models * 3, records, strict=True):
            validated = model.model_validate_json(json.dumps(record.value))
            assert validated.model_dump(mode="json", exclude={"score", "tier"}) | record.value
            cited = {value for key, value in record.value.items() if key.endswith("_turn")}
            assert all(turn is None or 1 <= turn <= num_turns for turn in cited)


class Card(BaseModel):
    kind: Literal["card"] = "card"
    last4: Annotated[str, Field(pattern=r"^\d{4}$")]


class Transfer(BaseModel):
    kind: Literal["transfer"] = "transfer"
    reference: UUID
    due: date | None = None


class Answer(BaseModel):
    """Fields as a team would write them, not as a schema compiler would like them."""

    model_config = ConfigDict(extra="forbid")

    at: AwareDatetime
    opening: time
    share: Annotated[float, Field(ge=0, le=1, multiple_of=0.01)]
    count: Annotated[int, Field(gt=0, lt=100_000)]
    payment: Annotated[Card | Transfer, Field(discriminator="kind")]
    earlier: Annotated[
        list[Annotated[Card | Transfer, Field(discriminator="kind")]], Field(max_length=2)
    ] = []
    tags: Annotated[list[Literal["new", "vip"]], Field(min_length=1, max_length=3)]
    note: Annotated[str, Field(min_length=3, max_length=30)] | None = None
    mixed: int | Literal["many"] | None


def test_records_of_a_rich_model_pass_its_validation(tokenizer):
    scaffold = compile_scaffold(
        Answer.model_json_schema(), tokenizer, instructions="Read.", name="answer", num_turns=3
    )
    kinds = set()
    for seed in range(3):
        for record in random_records([scaffold] * 6, seed=seed):
            kinds.add(Answer.model_validate_json(json.dumps(record.value)).payment.kind)
    assert kinds == {"card", "transfer"}


def test_free_text_is_writable_and_keeps_its_lengths(tokenizer):
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string", "minLength": 8, "maxLength": 24}},
        "required": ["a"],
    }
    scaffold = compile_scaffold(schema, tokenizer, instructions="", name="x", num_turns=0)
    for seed in range(10):
        for record in random_records([scaffold] * 4, seed=seed):
            text = record.value["a"]
            assert 8 <= len(text) <= 24
            assert not any(character in '"\\' or ord(character) < 32 for character in text)
            assert "  " not in text
            assert not text.startswith(" ")
