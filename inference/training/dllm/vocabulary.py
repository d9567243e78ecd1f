"""A vocabulary made for copying: names are spelt two letters at a time.

A token that training never copies is never copied right, and in a vocabulary of whole words names are full of such
tokens: "Hector" is `H` and the `ector` of "inspector", "Young" is `You` and `ng`. Two letters make some 1,400 tokens at
most, which training sees all, so that a name never met before consists of tokens copied a thousand times. Words that
begin with a capital for other reasons (sentences, weekdays, months) stay whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from inference.diffusion.tokenizer import SPECIAL_TOKENS, DiffusionTokenizer

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
