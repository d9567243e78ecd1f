import pytest
from tokenizers import Tokenizer

from inference.training.asr.tokenizer import (
    NUM_TIMESTAMPS,
    SPECIALS,
    SpecialIds,
    encode_utterances,
    suppressed_ids,
    train_tokenizer,
)

_TEXTS = [
    "Hi, I'd like to book a cleaning for Tuesday at 3:30 pm.",
    "It's $120, or $1,250 for both.",
    "My email is jane.doe5@gmail.com, and we're open 24/7.",
    "That's K-A-T-E, well-known, number 555-0142.",
] * 3


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(_TEXTS)


def test_ids_run_text_end_specials_timestamps(tokenizer: Tokenizer) -> None:
    ids = SpecialIds.of(tokenizer)
    assert ids.end == 4_000
    assert ids.no_timestamps == ids.end + len(SPECIALS) - 1
    assert ids.first_timestamp == ids.no_timestamps + 1
    assert tokenizer.token_to_id("<|30.00|>") == ids.first_timestamp + NUM_TIMESTAMPS - 1
    assert ids.size == 4_000 + len(SPECIALS) + NUM_TIMESTAMPS


def test_call_text_needs_no_suppressed_token(tokenizer: Tokenizer) -> None:
    banned = suppressed_ids(tokenizer)
    rare = ["At 7:09.", "A/4 and #3, x@y.z", "Zoë's"]
    assert None not in encode_utterances(tokenizer, [*_TEXTS, *rare], banned)


def test_a_bare_space_is_never_suppressed(tokenizer: Tokenizer) -> None:
    blank = tokenizer.encode(" ", add_special_tokens=False).ids
    assert len(blank) == 1
    assert blank[0] not in suppressed_ids(tokenizer)


def test_text_that_cannot_be_written_is_reported(tokenizer: Tokenizer) -> None:
    banned = suppressed_ids(tokenizer)
    assert encode_utterances(tokenizer, ["one - two", "(one)"], banned) == [None, None]


def test_decoding_gives_the_text_back(tokenizer: Tokenizer) -> None:
    for text in [*_TEXTS, "Unseen wörds, 7:45!"]:
        ids = tokenizer.encode(" " + text, add_special_tokens=False).ids
        assert tokenizer.decode(ids) == " " + text


def test_digits_stand_alone(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(" 5550142", add_special_tokens=False).tokens
    assert tokens == ["Ġ5", "5", "5", "0", "1", "4", "2"]


def test_training_is_deterministic() -> None:
    assert train_tokenizer(_TEXTS).to_str() == train_tokenizer(list(reversed(_TEXTS))).to_str()
