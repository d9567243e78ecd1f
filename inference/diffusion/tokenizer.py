"""Text to token ids and back, with the bytes behind every id and LLaDA's chat format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from inference.diffusion.config import LladaConfig
from inference.diffusion.text_pieces import allows_pieces, text_pieces

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
HEADER_START, HEADER_END, END_OF_TURN = "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"
MASK = "<|mdm_mask|>"
SPECIAL_TOKENS = (BOS, EOS, HEADER_START, HEADER_END, END_OF_TURN, MASK)

CHAT_TEMPLATE = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    "+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)

# GPT-2's pre-tokenisation, but one digit at a time: numbers are copied digit by digit, never recalled whole.
_PRE_TOKENS = r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


class TokenizerError(ValueError):
    """A tokenizer is missing, lacks a special token, or is not a byte-level one."""


class DiffusionTokenizer:
    """The tokenizer of one checkpoint.

    Ordinary text never becomes a special token: a transcript that spells `<|eot_id|>` is encoded as those characters.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        mask_token_id: int | None = None,
        pad_token_id: int | None = None,
        num_ids: int = 0,
    ) -> None:
        """Wrap a tokenizer.

        Args:
            tokenizer: a byte-level one with LLaDA's special tokens.
            mask_token_id: as the checkpoint's config has it; `<|mdm_mask|>` if not given.
            pad_token_id: likewise; `<|endoftext|>` if not given.
            num_ids: rows of the model's embedding, when it has more than the tokenizer has tokens.
        """
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._allows_pieces = allows_pieces(tokenizer)
        self.mask_token_id = self._special(MASK) if mask_token_id is None else mask_token_id
        self.pad_token_id = self._special(EOS) if pad_token_id is None else pad_token_id
        self.bos_token_id = self._special(BOS)
        self.token_bytes = self._byte_table(num_ids)
        """Bytes of every id, which may be part of a UTF-8 sequence; empty for special tokens and unused ids."""
        header_start, header_end = self._special(HEADER_START), self._special(HEADER_END)
        gap, end_of_turn = self.encode("\n\n"), self._special(END_OF_TURN)
        self._user_prefix = [self.bos_token_id, header_start, *self.encode("user"), header_end]
        self._assistant_header = [
            end_of_turn,
            header_start,
            *self.encode("assistant"),
            header_end,
            *gap,
        ]

    @classmethod
    def load(cls, directory: Path, config: LladaConfig) -> DiffusionTokenizer:
        """Read `tokenizer.json` in a checkpoint directory; mask and pad ids come from the checkpoint's config.

        Raises:
            TokenizerError: the file is missing or unreadable, lacks one of LLaDA's special tokens, is not byte-level,
                or has more tokens than the model has embeddings.
        """
        tokenizer = _read(directory)
        num_tokens = tokenizer.get_vocab_size(with_added_tokens=True)
        if num_tokens > config.embedding_size:
            raise TokenizerError(
                f"{directory} has {num_tokens} tokens, the model {config.embedding_size} embeddings"
            )
        return cls(
            tokenizer,
            mask_token_id=config.mask_token_id,
            pad_token_id=config.pad_token_id,
            num_ids=config.embedding_size,
        )

    @classmethod
    def read(cls, directory: Path) -> DiffusionTokenizer:
        """Read a `tokenizer.json` that has no model yet; mask and pad are LLaDA's. Raises TokenizerError as `load`."""
        return cls(_read(directory))

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text; nothing is added, and special tokens in it are read as their characters."""
        pieces = text_pieces(text) if self._allows_pieces else [text]
        return list(chain.from_iterable(self.encode_batch(pieces)))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [list(encoding.ids) for encoding in encodings]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids; special tokens are dropped, broken UTF-8 becomes U+FFFD."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def encode_user_message(self, content: str) -> list[int]:
        """The chat template for a single user message, up to and including the header of the assistant's answer."""
        return [*self._user_prefix, *self.encode("\n\n" + content.strip()), *self._assistant_header]

    def save(self, directory: Path, *, max_length: int) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`; `max_length` is the model's number of positions."""
        directory.mkdir(parents=True, exist_ok=True)
        self._tokenizer.save(str(directory / "tokenizer.json"))
        settings: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS,
            "eos_token": EOS,
            "pad_token": EOS,
            "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False,
            "model_max_length": max_length,
        }
        path = directory / "tokenizer_config.json"
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    def _special(self, token: str) -> int:
        token_id = self._tokenizer.token_to_id(token)
        if token_id is None:
            raise TokenizerError(f"the tokenizer has no {token}")
        return int(token_id)

    def _byte_table(self, num_ids: int) -> tuple[bytes, ...]:
        special = set(self._tokenizer.get_added_tokens_decoder()) | {
            self.mask_token_id,
            self.pad_token_id,
        }
        table = [b""] * max(self.vocab_size, num_ids)
        for token, token_id in self._tokenizer.get_vocab(with_added_tokens=True).items():
            if token_id in special:
                continue
            try:
                table[token_id] = bytes(_BYTE_OF_CHARACTER[character] for character in token)
            except KeyError as error:
                raise TokenizerError(
                    f"token {token_id} {token!r} is not byte-level: {error}"
                ) from error
        return tuple(table)


def _read(directory: Path) -> Tokenizer:
    path = directory / "tokenizer.json"
    if not path.exists():
        raise TokenizerError(f"{path} does not exist")
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # all that the library raises for malformed files
        raise TokenizerError(f"{path} cannot be read: {error}") from error


def train_tokenizer(
    texts: Iterable[str], *, vocab_size: int, pattern: str = _PRE_TOKENS
) -> DiffusionTokenizer:
    """Train a byte-level BPE on texts; special tokens get the last ids.

    Args:
        texts: to learn merges from.
        vocab_size: tokens at most.
        pattern: regular expression of the pieces within which is merged; words, digits and marks if not given.

    Returns:
        A tokenizer of `vocab_size` ids, or fewer when the texts are too small for that many merges.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS),
        min_frequency=2,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    return DiffusionTokenizer(tokenizer)


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's spelling of bytes: printable Latin-1 stands for itself, the rest follow from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {chr(byte): byte for byte in printable}
    alphabet.update({chr(0x100 + i): byte for i, byte in enumerate(hidden)})
    return alphabet


_BYTE_OF_CHARACTER = _byte_alphabet()
