"""A vocabulary made for copying: names are spelt two letters at a time.

A token that training never copies is never copied right, and in a vocabulary of whole words names are full of such
tokens: "Hector" is `H` and the `ector` of "inspector", "Young" is `You` and `ng`. Two letters make some 1,400 tokens at
most, which training sees all, so that a name never met before consists of tokens copied a thousand times. Words that
begin with a capital for other reasons (sentences, weekdays, months) stay whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from inference.diffusion.tokenizer import DiffusionTokenizer, train_tokenizer

_BEFORE = r"'(?:s|t|re|ve|m|ll|d)"
# The head of a capitalised word, and inside of it two letters more at a time; other words whole, digits singly.
_AFTER = r" ?\p{Lu}\p{L}?|(?<=\p{L})\p{L}{1,2}| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def train_copying_tokenizer(
    texts: Iterable[str], *, vocab_size: int, whole_words: Collection[str]
) -> DiffusionTokenizer:
    """Train a byte-level BPE that spells capitalised words in pairs of letters, but for `whole_words`.

    Special tokens get the last ids. Returns a tokenizer of `vocab_size` ids, or fewer when the texts are too small.
    """
    whole = "|".join(sorted(whole_words))
    # Looking ahead for a capital spares the hundreds of words a trial at every other place: five times as fast.
    listed = rf" ?(?=\p{{Lu}})(?:{whole})(?!\p{{L}})|" if whole else ""
    pattern = rf"{_BEFORE}|{listed}{_AFTER}"
    return train_tokenizer(texts, vocab_size=vocab_size, pattern=pattern)
