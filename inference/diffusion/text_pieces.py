"""Long texts cut into pieces, which the tokenizers library encodes side by side; a single text keeps one thread busy.

The ids of the pieces have to be those of the whole. So texts are only cut after a line break that stands alone between
two visible characters, and only for tokenizers that are known to split there whatever else the text says, before a BPE
model reads every split by itself.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tokenizers import Tokenizer, models

# 0.2 ms of work, so that the 4 µs that a piece costs more do not matter.
PIECE_LENGTH = 512
# On two cores a call of 5,500 characters takes 1.3 ms instead of 2.4, on one no longer than whole; texts of one or two
# pieces gain nothing.
LEAST_PIECES = 4

# Regular expressions are accepted as a choice between the alternatives below. In "x\ny", with x and y visible:
# - No match goes across the cut, since none has anything visible behind a line break. So the cut is always a boundary,
#   and matching begins anew at y, as at the start of a piece.
# - What looks behind looks for a letter, which neither a line break nor the start of a piece is.
# - Nothing that ends at x or before can tell y from the end of the piece, since the line break stands between.
# - The line break goes to the marks before it (`[\r\n]*`) or is a match of its own. `\s+(?!\S)` takes it at the end of
#   a piece and not before y, but there one of the next does the same: `\s+` is required as the last.
_ALTERNATIVES = (
    r"'s|'t|'re|'ve|'m|'ll|'d",
    r"'(?:s|t|re|ve|m|ll|d)",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
    r"'(?i:[sdmt]|ll|ve|re)",
    r" ?\p{L}+",
    r" ?\p{Lu}\p{L}?",
    r"(?<=\p{L})\p{L}{1,2}",
    r"[^\r\n\p{L}\p{N}]?\p{L}+",
    r"[^\r\n\p{L}\p{N}]?+\p{L}+",
    r" ?\p{N}",
    r" ?\p{N}+",
    r"\p{N}",
    r"\p{N}{1,3}",
    r" ?[^\s\p{L}\p{N}]+",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*",
    r" ?[^\s\p{L}\p{N}]++[\r\n]*",
    r"\s*[\r\n]+",
    r"\s*[\r\n]",
    r"\s+(?!\S)",
)
# The words that `train_copying_tokenizer` keeps whole.
_LISTED_WORDS = r" \?\(\?=\\p\{Lu\}\)\(\?:[^\W\d_]+(?:\|[^\W\d_]+)*\)\(\?!\\p\{L\}\)"
_ACCEPTED = re.compile(
    rf"(?:(?:{'|'.join(map(re.escape, _ALTERNATIVES))}|{_LISTED_WORDS})\|)+\\s\+"
)


def text_pieces(text: str, length: int = PIECE_LENGTH) -> list[str]:
    """The text in pieces of more than `length` characters, the last of any length; in one piece if that is too short.

    Every cut is behind a line break, with a character before and after it that is printed and no space.
    """
    if len(text) < LEAST_PIECES * length:
        return [text]
    pieces = []
    start, end = 0, text.find("\n", length)
    while end != -1:
        around = text[end - 1] + text[end + 1 : end + 2]
        end += 1
        if len(around) == 2 and around.isprintable() and " " not in around:
            pieces.append(text[start:end])
            start, end = end, end + length
        end = text.find("\n", end)
    pieces.append(text[start:])
    return pieces


def allows_pieces(tokenizer: Tokenizer) -> bool:
    """Whether the ids of `text_pieces` joined are the ids of the whole, for every text; False if that is not known.

    Without padding and truncation, and with `add_special_tokens=False`.
    """
    return (
        tokenizer.normalizer is None
        and isinstance(tokenizer.model, models.BPE)
        and tokenizer.model.dropout is None
        and _splits_at_lines(_settings(tokenizer.pre_tokenizer))
        and _keeps_ids(_settings(tokenizer.post_processor))
        # Added tokens are found before the text is split, and may take the white space around them.
        and not any(
            token.lstrip or token.rstrip or "\n" in token.content
            for token in tokenizer.get_added_tokens_decoder().values()
        )
    )


def _settings(component: Any) -> Any:
    """A part of a tokenizer as `tokenizer.json` has it, without the vocabulary that `Tokenizer.to_str` would write."""
    return None if component is None else json.loads(component.__getstate__())


def _splits_at_lines(pre_tokenizer: Any) -> bool:
    match pre_tokenizer:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:  # GPT-2's
            return True
        case {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": str(pattern)},
                    "behavior": "Isolated",
                    "invert": False,
                },
                {"type": "ByteLevel", "add_prefix_space": False},
            ],
        }:
            return _ACCEPTED.fullmatch(pattern) is not None
    return False


def _keeps_ids(post_processor: Any) -> bool:
    match post_processor:
        case None | {"type": "ByteLevel"}:
            return True
        case {"type": "TemplateProcessing", "single": list(parts)}:  # which may repeat the text
            return sum("Sequence" in part for part in parts) == 1
        case {"type": "Sequence", "processors": list(processors)}:
            return all(map(_keeps_ids, processors))
    return False
