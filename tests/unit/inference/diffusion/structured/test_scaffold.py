import pytest

from analytics.records import LeadFeatures, Sentiment, Summary
from inference.diffusion.structured.scaffold import compile_scaffold
from inference.diffusion.structured.schema import ValueNotEncodableError

SUMMARY = {
    "summary": "Anna books a haircut.",
    "outcome": "booked",
    "outcome_turn": 12,
    "caller_name": None,
    "service": "haircut",
    "appointment": None,
    "price": "99.95",
    "next_step": None,
}


def scaffold_of(schema, tokenizer, **settings):
    settings = {"instructions": "Read.", "name": "x", "num_turns": 20, **settings}
    return compile_scaffold(schema, tokenizer, **settings)


def record(required=None, **properties):
    required = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": required}


def text_of(tokens, tokenizer):
    shown = {tokenizer.pad_token_id: "~", tokenizer.mask_token_id: "_"}
    parts = [shown[t].encode() if t in shown else tokenizer.token_bytes[t] for t in tokens]
    return b"".join(parts).decode()


def test_the_canvas_is_instructions_then_json_with_slots(tokenizer):
    scaffold = scaffold_of(Sentiment.model_json_schema(), tokenizer, instructions="The mood.")
    text = text_of(scaffold.tokens, tokenizer)
    assert text.startswith('The mood.\n{"overall":"_')
    assert text.replace("_", "").endswith('","overallturn":,"start":"","end":""}')
    assert scaffold.tokens[: len(tokenizer.encode("The mood.\n"))] == tuple(
        tokenizer.encode("The mood.\n")
    )
    masked = [i for i, token in enumerate(scaffold.tokens) if token == tokenizer.mask_token_id]
    assert scaffold.slot_positions() == masked


def test_fixed_runs_and_slots_are_tokenised_apart(tokenizer):
    scaffold = scaffold_of(record(a={"enum": ["x", "yy"]}, b={"type": "boolean"}), tokenizer)
    runs = ["Read.\n", '{"a":"', '","b":', "}"]
    fixed = [token for run in runs for token in tokenizer.encode(run)]
    assert [token for token in scaffold.tokens if token != tokenizer.mask_token_id] == fixed


def test_a_value_is_written_with_pad_after_it_and_read_back(tokenizer):
    scaffold = scaffold_of(Summary.model_json_schema(), tokenizer)
    tokens = scaffold.encode_value(SUMMARY)
    text = text_of(tokens, tokenizer)
    assert '{"summary":" Anna books a haircut.~' in text
    assert '"outcome_turn":12' in text
    assert scaffold.decode_value(tokens) == SUMMARY
    null_name = next(span for span in scaffold.spans if span.slot.pointer == "/caller_name")
    slot = tokens[null_name.start : null_name.start + null_name.num_tokens]
    assert set(slot) == {tokenizer.pad_token_id}


@pytest.mark.parametrize("model", [Summary, Sentiment, LeadFeatures])
def test_no_length_depends_on_the_number_of_turns(tokenizer, model):
    short = scaffold_of(model.model_json_schema(), tokenizer, num_turns=1)
    long = scaffold_of(model.model_json_schema(), tokenizer, num_turns=900)
    assert short.tokens == long.tokens
    assert short.spans is long.spans


def test_slots_are_as_long_as_their_longest_value(tokenizer):
    values = ["ok", "not applicable", "booked for Tuesday"]
    schema = record(
        enum={"enum": values},
        turn={"type": "integer", "minimum": 1, "x-evidence": "turn"},
        date={"type": "string", "format": "date"},
        text={"type": "string", "maxLength": 64},
        tiny={"type": "string", "maxLength": 3},
        set={"type": "string", "maxLength": 64, "x-slot-tokens": 11},
    )
    lengths = {span.slot.pointer: span.num_tokens for span in scaffold_of(schema, tokenizer).spans}
    assert lengths["/enum"] == max(len(tokenizer.encode(value)) for value in values)
    assert lengths["/turn"] == max(len(tokenizer.encode(str(n))) for n in range(1, 1000))
    assert (lengths["/date"], lengths["/text"], lengths["/tiny"], lengths["/set"]) == (
        10,
        20,
        4,
        11,
    )


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("outcome", "maybe", "not one of"),
        ("summary", None, "not a value"),
        ("summary", "", "shorter"),
        ("summary", "x" * 181, "longer"),
        ("service", "q9" * 24, "tokens"),
        ("outcome_turn", 1000, "not one of"),
        ("outcome_turn", True, "not one of"),
        ("caller_name", 3, "not a value"),
    ],
)
def test_a_value_that_does_not_fit_says_where_and_why(tokenizer, field, value, reason):
    scaffold = scaffold_of(Summary.model_json_schema(), tokenizer)
    with pytest.raises(ValueNotEncodableError, match=reason) as error:
        scaffold.encode_value({**SUMMARY, field: value})
    assert error.value.pointer == f"/{field}"


def test_missing_and_unknown_properties_are_refused(tokenizer):
    scaffold = scaffold_of(Summary.model_json_schema(), tokenizer)
    with pytest.raises(ValueNotEncodableError):
        scaffold.encode_value({k: v for k, v in SUMMARY.items() if k != "price"})
    with pytest.raises(ValueNotEncodableError):
        scaffold.encode_value({**SUMMARY, "mood": "good"})


def test_free_text_is_written_in_its_canonical_form(tokenizer):
    scaffold = scaffold_of(record(a={"type": "string", "maxLength": 60}), tokenizer)
    tokens = scaffold.encode_value({"a": ' She said "yes",\n  then a\\b. '})
    assert scaffold.decode_value(tokens) == {"a": "She said 'yes', then a/b."}


def test_text_longer_than_its_field_is_cut_between_words(tokenizer):
    scaffold = scaffold_of(
        record(a={"type": "string", "maxLength": 12, "x-slot-tokens": 20}), tokenizer
    )
    (span,) = scaffold.spans

    def read(text):
        ids = tokenizer.encode(text)
        tokens = list(scaffold.tokens)
        tokens[span.start : span.start + 20] = ids + [tokenizer.pad_token_id] * (20 - len(ids))
        return scaffold.decode_value(tokens)["a"]

    assert read(" asks about the price") == "asks about"
    assert read(" asks about it") == "asks about"
    assert read(" asks about a") == "asks about a"
    assert read(" appointments and") == "appointments"
    assert read(" appointmentsandmore") == "appointments"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (
            record(a={"anyOf": [{"type": "string", "maxLength": 20}, {"type": "integer"}]}),
            {"a": "at 3"},
        ),
        (
            record(a={"anyOf": [{"type": "string", "maxLength": 20}, {"type": "integer"}]}),
            {"a": -3},
        ),
        (record(a={"enum": ["", "null", None, 1.5]}), {"a": "null"}),
        (record(a={"enum": ["", "null", None, 1.5]}), {"a": None}),
        (record(a={"enum": ['"q"', "\\"]}), {"a": '"q"'}),
        (record([], a={"type": "integer", "minimum": 0, "maximum": 5}), {}),
        (record([], a={"anyOf": [{"type": "boolean"}, {"type": "null"}]}), {"a": None}),
        (
            record(a={"type": "array", "items": {"type": "string", "maxLength": 9}, "maxItems": 3}),
            {"a": ["x", "y z"]},
        ),
        (
            record(
                a={
                    "type": "array",
                    "maxItems": 3,
                    "items": {"anyOf": [{"type": "null"}, {"enum": ["x"]}]},
                }
            ),
            {"a": [None, "x"]},
        ),
        (record(a={"anyOf": [{"type": "null"}, record(b={"type": "boolean"})]}), {"a": None}),
        (
            record(a={"anyOf": [{"type": "null"}, record(b={"type": "boolean"})]}),
            {"a": {"b": True}},
        ),
        (record([], a=record(b={"const": 1})), {}),
        (record([], a=record(b={"const": 1})), {"a": {"b": 1}}),
        (
            record(
                a={
                    "oneOf": [
                        record(k={"const": "x"}, n={"type": "boolean"}),
                        record(k={"const": "y"}),
                    ]
                }
            ),
            {"a": {"k": "y"}},
        ),
    ],
)
def test_values_of_every_kind_are_written_and_read_back(tokenizer, schema, value):
    scaffold = scaffold_of(schema, tokenizer)
    assert scaffold.decode_value(scaffold.encode_value(value)) == value


def test_an_optional_null_is_one_with_a_missing_property(tokenizer):
    schema = record([], a={"anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}]})
    scaffold = scaffold_of(schema, tokenizer)
    assert scaffold.decode_value(scaffold.encode_value({})) == {"a": None}
    assert scaffold.decode_value(scaffold.encode_value({"a": " "})) == {"a": None}


def test_a_masked_slot_cannot_be_read(tokenizer):
    scaffold = scaffold_of(Sentiment.model_json_schema(), tokenizer)
    with pytest.raises(ValueError, match="masked"):
        scaffold.decode_value(scaffold.tokens)


def test_compiling_again_gives_the_same_tables(tokenizer, crossing_tokenizer):
    one = scaffold_of(Summary.model_json_schema(), tokenizer)
    two = scaffold_of(Summary.model_json_schema(), tokenizer, name="y", num_turns=3)
    other = scaffold_of(Summary.model_json_schema(), crossing_tokenizer)
    assert one.spans is two.spans
    assert one.spans[0].table is not other.spans[0].table
    texts = [span.table for span in one.spans if span.slot.pointer in ("/caller_name", "/service")]
    assert texts[0] is texts[1], "texts of one kind share a table, whatever their lengths"
