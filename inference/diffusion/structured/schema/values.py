"""JSON values as Python values, and their one canonical text."""

from __future__ import annotations

import enum
import json
from typing import Final

Scalar = str | int | float | bool | None
JsonValue = Scalar | dict[str, "JsonValue"] | list["JsonValue"]


class Absent(enum.Enum):
    """The value of a property that is left out, or of an array item that is not there."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT


def json_text(value: JsonValue) -> str:
    """Compact JSON text of `value`; characters outside ASCII stay as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def same_value(left: object, right: object) -> bool:
    """Equality as JSON Schema has it: 1 equals 1.0, but true does not equal 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return left == right
