"""Errors of the schema compiler and of the values that do not fit a compiled schema."""

from __future__ import annotations


class SchemaError(ValueError):
    """A keyword of a JSON schema that cannot be guaranteed while decoding, and what to write instead.

    Attributes:
        pointer: JSON pointer (RFC 6901) of the subschema that holds the keyword; "" is the root.
        keyword: the keyword refused.
        instead: what to use instead.
    """

    def __init__(self, pointer: str, keyword: str, instead: str) -> None:
        super().__init__(f"{pointer or '#'}: '{keyword}' is not supported here; {instead}")
        self.pointer = pointer
        self.keyword = keyword
        self.instead = instead


class ValueNotEncodableError(ValueError):
    """A value that the slots of a scaffold cannot hold: not in the language, or too long for the slot.

    Attributes:
        pointer: JSON pointer of the field.
    """

    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(f"{pointer or '#'}: {reason}")
        self.pointer = pointer
        self.reason = reason
