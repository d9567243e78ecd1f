"""Slots for one tokenizer: their lengths, and the tables that say which tokens may fill them."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.diffusion.structured.automata import (
    TokenAutomaton,
    build_automaton,
    sequence_automaton,
)
from inference.diffusion.structured.schema import SchemaError
from inference.diffusion.structured.schema.keywords import MAX_SLOT_TOKENS
from inference.diffusion.structured.schema.languages import Choices, Empty, Regular
from inference.diffusion.structured.schema.plan import Slot
from inference.diffusion.structured.token_tables import (
    AutomatonTooLargeError,
    Counter,
    LanguageEmptyError,
)
from inference.diffusion.structured.vocabulary import Tokenizer, Vocabulary

CHARACTERS_PER_TOKEN = 3.2  # English speech runs at 4; names and prices need the room
MIN_TEXT_TOKENS = 4


@dataclass(frozen=True, slots=True, eq=False)
class ChoiceTable:
    """A finite language, scored as whole values.

    Attributes:
        tokens: `[num_choices, num_tokens]` int64, every choice's tokens with PAD after them.
        token_class: `[vocab]` int16, 1 + the token's place among the tokens that occur in `tokens`; 0 for all others.
        choice_class: `[num_choices, num_tokens]` int64, the class of every token of `tokens`.
        groups: `[num_choices]` int64, what each choice opens; -1 when it opens nothing.
    """

    tokens: NDArray[np.int64]
    token_class: NDArray[np.int16]
    choice_class: NDArray[np.int64]
    groups: NDArray[np.int64]

    @property
    def num_classes(self) -> int:
        """Number of classes, the dead one included."""
        return int(self.choice_class.max()) + 1


SlotTable = TokenAutomaton | ChoiceTable


class SlotCompiler:
    """Builds the tables of slots for one tokenizer, each language once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.vocabulary = Vocabulary(tokenizer)
        self._choices: dict[Choices, ChoiceTable] = {}
        self._listed: dict[Choices, TokenAutomaton] = {}
        self._automata: dict[tuple[str, bool, Counter | None], TokenAutomaton] = {}

    def table(self, slot: Slot) -> tuple[SlotTable, int]:
        """The table of `slot` and its length in tokens.

        Raises:
            SchemaError: the automaton is too large, or no text of the language fits the slot.
        """
        if isinstance(slot.language, Choices) and slot.language.is_scored:
            choices = self._choice_table(slot.language)
            return choices, choices.tokens.shape[1]
        num_tokens = self._num_tokens(slot)
        if num_tokens > MAX_SLOT_TOKENS:
            raise SchemaError(slot.at, "enum", f"use values of at most {MAX_SLOT_TOKENS} tokens")
        keyword = "enum" if isinstance(slot.language, Choices) else "pattern"
        try:
            automaton = self._automaton(slot.language)
        except AutomatonTooLargeError as error:
            instead = (
                f"its automaton has {error}; use a simpler pattern, a lower maxLength, fewer values"
            )
            raise SchemaError(slot.at, keyword, instead) from error
        except LanguageEmptyError as error:
            raise SchemaError(slot.at, keyword, f"{error}; use characters it has") from error
        if not automaton.can_fill(num_tokens):
            instead = f"no value fits in {num_tokens} tokens; raise it, or lower minLength"
            raise SchemaError(slot.at, "x-slot-tokens", instead)
        return automaton, num_tokens

    def _choice_table(self, language: Choices) -> ChoiceTable:
        if language not in self._choices:
            ids = [self.tokenizer.encode(text) if text else [] for text in language.texts]
            num_tokens = max(1, *map(len, ids))
            pad = self.tokenizer.pad_token_id
            tokens = np.array(
                [row + [pad] * (num_tokens - len(row)) for row in ids], dtype=np.int64
            )
            live, inverse = np.unique(tokens, return_inverse=True)
            token_class = np.zeros(len(self.vocabulary), dtype=np.int16)
            token_class[live] = np.arange(1, len(live) + 1)
            groups = np.array(language.groups or [-1] * len(ids), dtype=np.int64)
            choice_class = inverse.reshape(tokens.shape) + 1
            self._choices[language] = ChoiceTable(tokens, token_class, choice_class, groups)
        return self._choices[language]

    def _automaton(self, language: Regular | Choices) -> TokenAutomaton:
        if isinstance(language, Choices):
            if language not in self._listed:
                ids = [self.tokenizer.encode(text) for text in language.texts if text]
                self._listed[language] = sequence_automaton(
                    ids, self.vocabulary, allow_empty="" in language.texts
                )
            return self._listed[language]
        counter = None
        if language.counted and language.free_text:  # the leading space counts, the cut is later
            counter = Counter(language.min_length + 1, None)
        elif language.counted:
            counter = Counter(language.min_length, language.max_length)
        key = (language.regex, language.empty is not Empty.REFUSED, counter)
        if key not in self._automata:
            self._automata[key] = build_automaton(
                key[0], self.vocabulary, allow_empty=key[1], counter=counter
            )
        return self._automata[key]

    def _num_tokens(self, slot: Slot) -> int:
        language = slot.language
        if slot.num_tokens is not None:
            return slot.num_tokens
        if isinstance(language, Choices):
            return max(len(self.tokenizer.encode(text)) for text in language.texts)
        num_quotes = 0 if language.quoted else 2
        if language.free_text:
            needed = math.ceil(language.num_characters / CHARACTERS_PER_TOKEN)
            return min(max(needed, MIN_TEXT_TOKENS) + num_quotes, MAX_SLOT_TOKENS)
        return min(language.num_characters + num_quotes, MAX_SLOT_TOKENS)


_COMPILERS: OrderedDict[int, SlotCompiler] = OrderedDict()
_MAX_COMPILERS = 8  # tokenizers in use at once; tests make many


def slot_compiler(tokenizer: Tokenizer) -> SlotCompiler:
    """The compiler of `tokenizer`, the same one every time."""
    key = id(tokenizer)  # the compiler keeps the tokenizer alive, so the id is not given to another
    if key not in _COMPILERS:
        _COMPILERS[key] = SlotCompiler(tokenizer)
        if len(_COMPILERS) > _MAX_COMPILERS:
            _COMPILERS.popitem(last=False)
    _COMPILERS.move_to_end(key)
    return _COMPILERS[key]
