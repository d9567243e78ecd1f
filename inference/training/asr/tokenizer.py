"""A small byte-level BPE tokenizer that works in unmodified faster-whisper.

faster-whisper bans the first token of `" -"`, `" '"` and `" ♩"`, and `:` `@` `#` `/` as tokens of their own. A small
BPE would spell those with a bare space or a bare sign, and lose them. So a space or sign and the character after it are
merged first.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import pairwise
from pathlib import Path
from typing import Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

TEXT_VOCABULARY: Final = 4_000
SPECIALS: Final = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)
NUM_TIMESTAMPS: Final = 1_501
TIMESTAMP_SECONDS: Final = 0.02

_PIECES: Final = r" ?[:/#]\d+|@[A-Za-z]+| ?\$| ?\d| ?[A-Za-z]+(?:'[A-Za-z]+)*| ?[^\sA-Za-z\d]+|\s+"


def _byte_symbols() -> dict[int, str]:
    """GPT-2's printable stand-ins for the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = {byte: chr(byte) for byte in printable}
    shift = 256
    for byte in range(256):
        if byte not in symbols:
            symbols[byte] = chr(shift)
            shift += 1
    return symbols


_SYMBOLS: Final = _byte_symbols()


def _forced_merges() -> list[tuple[str, str]]:
    space, e2 = _SYMBOLS[ord(" ")], _SYMBOLS[0xE2]
    after_space = string.ascii_letters + string.digits + "$&-'" + e2
    pairs = [(space, character) for character in after_space]
    pairs += [(sign, digit) for sign in ":/#" for digit in string.digits]
    return pairs + [("@", letter) for letter in string.ascii_letters]


def train_merges(
    piece_counts: dict[str, int], forced: list[tuple[str, str]], num_merges: int
) -> list[tuple[str, str]]:
    """BPE merges over pieces (in byte symbols) by falling pair frequency; `forced` ones come first.

    Ties break by the pair itself, so equal counts give equal tokenizers.
    """
    words = [list(piece) for piece in piece_counts]
    counts = list(piece_counts.values())
    pair_counts: Counter[tuple[str, str]] = Counter()
    where: dict[tuple[str, str], set[int]] = defaultdict(set)
    for i_word, word in enumerate(words):
        for pair in pairwise(word):
            pair_counts[pair] += counts[i_word]
            where[pair].add(i_word)

    # Entries go stale when a count changes; a fresh one is pushed then, and stale ones are dropped when popped.
    heap: list[tuple[int, tuple[str, str]]] = []

    def apply(pair: tuple[str, str]) -> None:
        changed: set[tuple[str, str]] = set()
        for i_word in where.pop(pair, set()):
            word = words[i_word]
            for old in pairwise(word):
                pair_counts[old] -= counts[i_word]
                changed.add(old)
            merged: list[str] = []
            for symbol in word:
                if merged and (merged[-1], symbol) == pair:
                    merged[-1] += symbol
                else:
                    merged.append(symbol)
            words[i_word] = merged
            for new in pairwise(merged):
                pair_counts[new] += counts[i_word]
                where[new].add(i_word)
                changed.add(new)
        pair_counts.pop(pair, None)
        for one in changed - {pair}:
            heappush(heap, (-pair_counts[one], one))

    merges = list(forced)
    for pair in forced:
        apply(pair)
    heap.extend((-count, pair) for pair, count in pair_counts.items())
    heapify(heap)
    while len(merges) < num_merges and heap:
        count, best = heappop(heap)
        if count == 0 or -count != pair_counts.get(best, 0):
            continue
        merges.append(best)
        apply(best)
    return merges


def train_tokenizer(texts: Iterable[str], vocabulary: int = TEXT_VOCABULARY) -> Tokenizer:
    """Train on written utterances. The ids run: text, `<|endoftext|>`, other specials, 1,501 timestamps.

    Text that yields too few merges is filled up with unused tokens, so that the sizes always hold.
    """
    pieces = Counter(piece for text in texts for piece in re.findall(_PIECES, " " + text))
    as_symbols = {
        "".join(_SYMBOLS[byte] for byte in piece.encode()): count for piece, count in pieces.items()
    }
    alphabet = [_SYMBOLS[byte] for byte in range(256)]
    merges = train_merges(as_symbols, _forced_merges(), vocabulary - len(alphabet))
    tokens = alphabet + [first + second for first, second in merges]
    tokens += [f"<|unused{index}|>" for index in range(vocabulary - len(tokens))]
    tokenizer = Tokenizer(
        models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIALS])
    tokenizer.add_tokens(
        [
            AddedToken(f"<|{index * TIMESTAMP_SECONDS:.2f}|>", special=False, normalized=False)
            for index in range(NUM_TIMESTAMPS)
        ]
    )
    return tokenizer


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """The ids that training and decoding name."""

    end: int
    start: int
    previous: int
    no_speech: int
    no_timestamps: int
    first_timestamp: int
    size: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> SpecialIds:
        """Read them off a trained tokenizer."""
        vocabulary = tokenizer.get_vocab()
        return cls(
            end=vocabulary["<|endoftext|>"],
            start=vocabulary["<|startoftranscript|>"],
            previous=vocabulary["<|startofprev|>"],
            no_speech=vocabulary["<|nospeech|>"],
            no_timestamps=vocabulary["<|notimestamps|>"],
            first_timestamp=vocabulary["<|0.00|>"],
            size=tokenizer.get_vocab_size(),
        )


def suppressed_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """The text tokens that faster-whisper never lets a model write by default."""
    signs = list('"#()*+/:;<=>@[\\]^_`{|}~「」『』')
    signs += [
        "<<",
        ">>",
        "<<<",
        ">>>",
        "--",
        "---",
        "-(",
        "-[",
        "('",
        '("',
        "((",
        "))",
        "(((",
        ")))",
        "[[",
        "]]",
        "{{",
        "}}",
        "♪♪",
        "♪♪♪",
    ]
    notes = list("♩♪♫♬♭♮♯")

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    banned = {encode(" -")[0], encode(" '")[0]}
    for sign in signs + notes:
        for ids in (encode(sign), encode(" " + sign)):
            if len(ids) == 1 or sign in notes:
                banned.add(ids[0])
    return frozenset(banned)


def encode_utterances(
    tokenizer: Tokenizer, texts: list[str], banned: frozenset[int]
) -> list[list[int] | None]:
    """Token ids of utterances, each with its leading space; None where the text needs a banned token."""
    encoded = tokenizer.encode_batch([" " + text for text in texts], add_special_tokens=False)
    return [one.ids if banned.isdisjoint(one.ids) else None for one in encoded]


def save_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    """Write `tokenizer.json` and the `tokenizer_config.json` that converters ask for."""
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "model_max_length": 448,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
