"""The copying vocabulary: names in pairs of letters, frequent words whole, digits singly, every text intact."""

from __future__ import annotations

import pytest

from inference.diffusion.tokenizer import DiffusionTokenizer
from inference.training.dllm.vocabulary import train_copying_tokenizer
from workers.cli.train_dllm import frequent_capitalised_words

TEXTS = [
    "1 agent: Thanks for calling. On Tuesday at 3:30?",
    "2 caller: Yes, Hector Young, McIntyre-Hughes said the inspector is young. I don't mind $120.",
] * 40


@pytest.fixture(scope="module")
def tokenizer() -> DiffusionTokenizer:
    return train_copying_tokenizer(
        TEXTS, vocab_size=500, whole_words={"Thanks", "Tuesday", "Yes", "On"}
    )


def pieces(tokenizer: DiffusionTokenizer, text: str) -> list[str]:
    return [tokenizer.decode([token_id]) for token_id in tokenizer.encode(text)]


def test_names_are_spelt_in_pairs_and_other_words_whole(tokenizer: DiffusionTokenizer) -> None:
    assert pieces(tokenizer, " Hector Young") == [" He", "ct", "or", " Yo", "un", "g"]
    assert pieces(tokenizer, " inspector on Tuesday")[0] == " inspector"
    assert pieces(tokenizer, " Tuesday 30") == [" Tuesday", " 3", "0"]
    assert pieces(tokenizer, " I don't") == [" I", " don", "'t"]


def test_a_name_is_spelt_alike_wherever_it_stands(tokenizer: DiffusionTokenizer) -> None:
    for before in ("", " my", " for:", " Yes,"):
        assert pieces(tokenizer, f"{before} Hector.")[-4:] == [" He", "ct", "or", "."]


def test_a_whole_word_is_no_part_of_a_longer_one(tokenizer: DiffusionTokenizer) -> None:
    assert " Yes" not in pieces(tokenizer, " Yesenia")


def test_no_text_is_lost(tokenizer: DiffusionTokenizer) -> None:
    for text in (*TEXTS[:2], " O'Neil-MACDONALD  élan\n\nÅse 名前", "'s 12% … Yes"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_frequent_words_are_those_that_are_no_names() -> None:
    words = frequent_capitalised_words(["Thanks, Hannah. Thanks again, Zebulon."] * 3, least=3)
    assert {"Thanks", "Zebulon", "Monday", "March"} <= words
    assert "Hannah" not in words
