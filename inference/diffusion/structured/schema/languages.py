"""What may fill a slot, and what a slot's text means as a value.

The text of a slot is everything before its first PAD; an empty text is a slot of PAD alone.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from inference.diffusion.structured.schema.charsets import SPACE, WRITABLE, complement, intersection
from inference.diffusion.structured.schema.numbers import number_of, text_of_number
from inference.diffusion.structured.schema.regex import Chars, Repeat, Sequence, text_of
from inference.diffusion.structured.schema.values import ABSENT, Absent, Scalar, same_value

_LETTERS = intersection(WRITABLE, complement(SPACE))


FREE_TEXT = text_of(Repeat(Sequence((Chars(SPACE), Repeat(Chars(_LETTERS), 1, None))), 1, None))
"""Free text: single-spaced words, each with its space before it, so that it tokenises as in running text."""

MAX_SCORED_CHOICES = 1024  # every turn that can be cited, or cents up to 10.23

_UNWRITABLE = re.compile("[\x00-\x20\x7f-\x9f\u2028-\u202e]+")


def canonical_text(value: str) -> str:
    """The form in which free text is written: one space between words, `'` for `"` and `/` for a backslash."""
    plain = value.replace('"', "'").replace("\\", "/")
    return _UNWRITABLE.sub(" ", plain).strip(" ")


class Empty(enum.Enum):
    """What a slot that holds nothing but PAD stands for."""

    REFUSED = "refused"
    BLANK = "blank"
    NULL = "null"
    ABSENT = "absent"

    @classmethod
    def of(cls, value: Scalar | Absent) -> Empty:
        """What an empty slot stands for that means `value`: null, absent or the empty string."""
        return next(
            empty for empty in (cls.BLANK, cls.NULL, cls.ABSENT) if empty.value_of_slot == value
        )

    @property
    def value_of_slot(self) -> Scalar | Absent:
        """The value of an empty slot; raises ValueError when a slot must not be empty."""
        if self is Empty.REFUSED:
            raise ValueError("the slot is empty")
        return {Empty.BLANK: "", Empty.NULL: None, Empty.ABSENT: ABSENT}[self]


@dataclass(frozen=True, slots=True)
class Choices:
    """A finite language: the slot holds one of `texts`.

    Up to `MAX_SCORED_CHOICES` are scored as whole values and committed at once; more are filled token by token.

    Attributes:
        texts: all different; an empty text is a slot of PAD alone.
        values: what each text stands for.
        quoted: the quotes of a string are fixed text around the slot; else they are part of the texts.
        groups: per choice, what it opens (see `plan.Condition`); empty when it opens nothing.
        cites_turns: the integers among `values` are turn numbers, without gaps and last, and only turns of the
            transcript at hand may be chosen.
    """

    texts: tuple[str, ...]
    values: tuple[Scalar | Absent, ...]
    quoted: bool
    groups: tuple[int, ...] = ()
    cites_turns: bool = False

    @property
    def is_scored(self) -> bool:
        """Whether the slot is committed as a whole value."""
        return len(self.texts) <= MAX_SCORED_CHOICES

    def num_allowed(self, num_turns: int) -> int:
        """How many of the choices, from the first, a transcript of `num_turns` turns allows."""
        if not self.cites_turns:
            return len(self.texts)
        lowest = next(value for value in self.values if isinstance(value, int))
        highest = self.values[-1]
        assert isinstance(highest, int)
        return len(self.values) - (highest - max(min(num_turns, highest), lowest - 1))

    def decode(self, text: str) -> Scalar | Absent:
        """The value of `text`; raises ValueError when it is not one of the choices."""
        return self.values[self.texts.index(text)]

    def encode(self, value: Scalar | Absent) -> str:
        """The text of `value`; raises ValueError when it is not one of the choices."""
        for text, choice in zip(self.texts, self.values, strict=True):
            if same_value(choice, value):
                return text
        raise ValueError(f"{value!r} is not one of the choices")


@dataclass(frozen=True, slots=True)
class Regular:
    """A regular language, filled token by token.

    Attributes:
        regex: the texts, in the syntax of `regex.parse`, without anchors.
        quoted: the quotes of a string are fixed text around the slot; else the slot writes them itself.
        empty: what an empty slot stands for.
        free_text: strings begin with a space that is not part of the value and are cut to `max_length` code points.
        min_length: fewest code points of the value.
        max_length: most code points of the value; None: no bound, or the regex keeps it.
        counted: code points are counted while decoding, as the regex does not keep both lengths by itself.
        specials: texts that stand for a value of their own, such as `null`.
        num_characters: room for the longest text, in code points; in bytes where they are not ASCII.
    """

    regex: str
    quoted: bool
    empty: Empty
    num_characters: int
    free_text: bool = False
    min_length: int = 0
    max_length: int | None = None
    counted: bool = False
    specials: tuple[tuple[str, Scalar | Absent], ...] = ()

    def decode(self, text: str) -> Scalar | Absent:
        """The value of `text`; raises ValueError when it is empty and must not be, or no number."""
        if not text:
            return self.empty.value_of_slot
        for special, value in self.specials:
            if text == special:
                return value
        if not self.quoted and not text.startswith('"'):
            return number_of(text)
        string = text if self.quoted else text[1:-1]
        return self._cut(string.removeprefix(" ")) if self.free_text else string

    def _cut(self, value: str) -> str:
        if self.max_length is None or len(value) <= self.max_length:
            return value
        between_words = value.rfind(" ", 0, self.max_length + 1)
        if between_words >= max(self.min_length, 1):
            return value[:between_words]
        cut = value[: self.max_length]
        return cut.rstrip(" ") if len(cut.rstrip(" ")) >= self.min_length else cut

    def encode(self, value: Scalar | Absent) -> str:
        """The text of `value`; raises ValueError when it has the wrong type or length.

        Whether the text is in `regex` is known only to the slot's automaton.
        """
        for special, choice in self.specials:
            if same_value(value, choice):
                return special
        if self.empty is not Empty.REFUSED and same_value(value, self.empty.value_of_slot):
            return ""
        if isinstance(value, str):
            if self.free_text and self.empty is not Empty.REFUSED and not canonical_text(value):
                return ""
            string = self._string(value)
            return string if self.quoted else f'"{string}"'
        if self.quoted or value is None or value is ABSENT or isinstance(value, bool):
            raise ValueError(f"{value!r} is not a value of this field")
        return text_of_number(value)

    def _string(self, value: str) -> str:
        text = canonical_text(value) if self.free_text else value
        if len(text) < self.min_length or (self.free_text and not text):
            raise ValueError(f"{value!r} is shorter than {max(self.min_length, 1)} characters")
        if self.max_length is not None and len(text) > self.max_length:
            raise ValueError(f"{value!r} is longer than {self.max_length} characters")
        return " " + text if self.free_text else text


Language = Choices | Regular
