from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from inference.diffusion.text_pieces import PIECE_LENGTH, allows_pieces, text_pieces
from inference.diffusion.tokenizer import _PRE_TOKENS, SPECIAL_TOKENS, DiffusionTokenizer
from inference.training.dllm.vocabulary import train_copying_tokenizer

GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
POSSESSIVE = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
)
TRAINING_TEXTS = [
    '1 caller: I\'d like\n2 agent: Sure?\n\n3 caller: "12:30", please...\r\n The end. \n\t\n<a>\nThe'
] * 3 + [
    "x\nx",
    "?\n/",
    " \n",
    "\n ",
] * 20  # merged across the line break where a pre-tokenizer lets them

FRAGMENTS = (
    *(
        "a",
        "The",
        "é",
        "\u0301",
        "ſ",
        "日",
        "1",
        "23",
        "½",
        "'",
        "'s",
        "'LL",
        '"',
        "?!",
        "/",
        "<a>",
    ),
    *(" ", "  ", "\t", "\r", "\r\n", "\x0b", "\x1c", "\x85", "\xa0", "\u2028", "\u3000", "\u200b"),
    *("\ufeff", "\u180e", "\0", "🎉", "<|eot_id|>", "\n\n"),
)
characters = st.integers(0, 0x2FFF).map(chr)
line_breaks = st.sampled_from(["\n", "\n", "\n", ""])
texts = st.lists(st.tuples(st.sampled_from(FRAGMENTS) | characters, line_breaks), max_size=40).map(
    lambda parts: "".join(chain.from_iterable(parts))
)


def trained(pre_tokenizer: pre_tokenizers.PreTokenizer, *added: AddedToken) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(
        show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(TRAINING_TEXTS, trainer)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.add_tokens(list(added))
    return tokenizer


def split_by(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def ids(tokenizer: Tokenizer, pieces: list[str]) -> list[int]:
    encodings = tokenizer.encode_batch_fast(pieces, add_special_tokens=False)
    return [token_id for encoding in encodings for token_id in encoding.ids]


PIECEWISE = {
    "ours": trained(split_by(_PRE_TOKENS)),
    "copying": train_copying_tokenizer(
        TRAINING_TEXTS, vocab_size=400, whole_words=["The", "Sure"]
    )._tokenizer,
    "gpt2": trained(GPT2),
    "llama3": trained(split_by(LLAMA3)),
    "possessive": trained(split_by(POSSESSIVE)),
    "added": trained(split_by(LLAMA3), AddedToken("<a>"), AddedToken("The", single_word=True)),
}


@pytest.mark.parametrize("name", PIECEWISE)
@given(texts)
def test_ids_of_pieces_are_those_of_the_whole(name: str, text: str):
    tokenizer = PIECEWISE[name]
    assert allows_pieces(tokenizer)
    assert ids(tokenizer, text_pieces(text, 1)) == ids(tokenizer, [text])


@given(texts, st.integers(1, 10))
def test_pieces_are_the_text_cut_at_visible_line_breaks(text: str, length: int):
    *pieces, last = text_pieces(text, length)
    assert "".join([*pieces, last]) == text
    for piece, following in zip(pieces, [*pieces, last][1:], strict=True):
        assert len(piece) > length
        assert piece.endswith("\n")
        assert not piece[-2].isspace()
        assert not following[0].isspace()


def test_lines_of_a_call_are_cut_and_short_texts_are_not():
    turns = [f"{i} caller: I'd like to book a haircut" for i in range(100)]
    pieces = text_pieces("\n\n" + "\n".join(turns))
    assert max(map(len, pieces)) <= PIECE_LENGTH + len(turns[-1]) + 1
    for text in ("", "a\nb", "".join(pieces[:3])):
        assert text_pieces(text) == [text]


def with_part(name: str, part: object) -> Tokenizer:
    tokenizer = trained(GPT2)
    setattr(tokenizer, name, part)
    return tokenizer


PREFIXED = pre_tokenizers.ByteLevel(add_prefix_space=True)
UNSPLIT = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
TWICE = processors.TemplateProcessing(single="$A $A")
REFUSED = {
    "prefix": (trained(PREFIXED), "x\nx"),
    "no regex": (trained(UNSPLIT), "x\nx"),
    "break before a word": (trained(split_by(r"\n\p{L}+|" + _PRE_TOKENS)), "x\nx"),
    "break before a slash": (trained(split_by(LLAMA3.replace(r"\r\n]*", r"\r\n/]*"))), "?\n/"),
    "what follows a break": (trained(split_by(r"(?<=\n)\w|" + _PRE_TOKENS)), "x\nlike"),
    "normalizer": (with_part("normalizer", normalizers.Strip()), "x\nx"),
    "processor": (with_part("post_processor", TWICE), "x\nx"),
    "token with a break": (trained(GPT2, AddedToken("\n2 agent")), "x\n2 agent"),
    "token that strips": (trained(GPT2, AddedToken("<a>", lstrip=True)), "x\n<a>"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_tokenizers_encode_the_whole(name: str):
    tokenizer, text = REFUSED[name]
    assert not allows_pieces(tokenizer)
    text = "like " * PIECE_LENGTH + text
    assert len(text_pieces(text)) == 2  # cut at its only line break
    assert DiffusionTokenizer(tokenizer).encode(text) == ids(tokenizer, [text])
    assert ids(tokenizer, text_pieces(text)) != ids(tokenizer, [text])


def test_other_models_and_what_cannot_be_compared_are_refused():
    assert not allows_pieces(with_part("pre_tokenizer", None))
    assert not allows_pieces(with_part("model", models.WordLevel({"a": 0}, unk_token="a")))
    assert not allows_pieces(with_part("model", models.BPE(dropout=0.1)))


def test_long_texts_are_encoded_in_pieces(monkeypatch: pytest.MonkeyPatch):
    tokenizer = DiffusionTokenizer(trained(GPT2))
    batches: list[int] = []
    encode_batch = tokenizer.encode_batch

    def counted(pieces: list[str]) -> list[list[int]]:
        batches.append(len(pieces))
        return encode_batch(pieces)

    monkeypatch.setattr(tokenizer, "encode_batch", counted)
    text = "1 caller: I'd like\n" * PIECE_LENGTH
    assert tokenizer.encode(text) == ids(tokenizer._tokenizer, [text])
    assert batches[0] > 10
