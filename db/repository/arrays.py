"""Ids in any number, as one parameter: an IN list ends at 65,535."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, any_, literal
from sqlalchemy.dialects.postgresql import ARRAY


def among(column: Any, ids: Collection[int]) -> ColumnElement[bool]:
    """The condition that `column` is one of `ids`."""
    condition: ColumnElement[bool] = column == any_(literal(list(ids), ARRAY(BigInteger)))
    return condition
