"""What may fill a slot, and what a slot's text means as a value.

The text of a slot is everything before its first PAD; an empty text is a slot of PAD alone.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from inference.diffusion.schema.values import ABSENT, Absent, Scalar, same_value

TEXT_REGEX = r'( [^\x00-\x20"\\\x7f-\u009f\u2028\u2029]+)+'
"""Free text: single-spaced words, each with its space before it, so that it tokenises as in running text."""

_UNWRITABLE = re.compile("[\x00-\x20\x7f-\x9f\u2028\u2029]+")


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

    @property
    def value_of_slot(self) -> Scalar | Absent:
        """The value of an empty slot; raises ValueError when a slot must not be empty."""
        if self is Empty.REFUSED:
            raise ValueError("the slot is empty")
        return {Empty.BLANK: "", Empty.NULL: None, Empty.ABSENT: ABSENT}[self]


@dataclass(frozen=True, slots=True)
class Choices:
    """A finite language: the slot holds one of `texts`, scored as a whole and committed at once.

    `groups` numbers what each choice opens (see `plan.Condition`). With `cites_turns` the integers among `values` are turn
    numbers, in ascending order at the end, and only turns of the transcript at hand may be chosen.
    """

    texts: tuple[str, ...]
    values: tuple[Scalar | Absent, ...]
    groups: tuple[int, ...] = ()
    cites_turns: bool = False

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
class Text:
    """Free text of `min_length` to `max_length` code points, in `canonical_text` form, with one leading space.

    `max_length` is kept in value space: longer text is cut, between words where that leaves enough.
    """

    min_length: int
    max_length: int | None
    empty: Empty

    def decode(self, text: str) -> Scalar | Absent:
        """The value of `text`, without its leading space; raises ValueError when it is empty and must not be."""
        if not text:
            return self.empty.value_of_slot
        value = text.removeprefix(" ")
        if self.max_length is None or len(value) <= self.max_length:
            return value
        between_words = value.rfind(" ", 0, self.max_length + 1)
        return value[
            : between_words if between_words >= max(self.min_length, 1) else self.max_length
        ]

    def encode(self, value: Scalar | Absent) -> str:
        """The text of `value`; raises ValueError when it is no string or its length is out of bounds."""
        if value is not ABSENT and value == "" and self.empty is Empty.NULL:
            return ""
        if self.empty is not Empty.REFUSED and same_value(value, self.empty.value_of_slot):
            return ""
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not a string")
        text = canonical_text(value)
        if not text or len(text) < self.min_length:
            raise ValueError(f"{value!r} is shorter than {max(self.min_length, 1)} characters")
        if self.max_length is not None and len(text) > self.max_length:
            raise ValueError(f"{value!r} is longer than {self.max_length} characters")
        return " " + text


Language = Choices | Text
