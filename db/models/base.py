"""The declarative base, the naming of constraints, and the column types that recur."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, get_args

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Identity, MetaData, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column

NAMING = {
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
}

Id = Annotated[int, mapped_column(BigInteger, Identity(always=True), primary_key=True)]
Moment = Annotated[datetime, mapped_column(DateTime(timezone=True))]
CreatedAt = Annotated[
    datetime, mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
]
Json = Annotated[dict[str, Any], mapped_column(JSONB)]


class Base(DeclarativeBase):
    """Base of every table."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar = {str: Text}


def one_of(column: str, vocabulary: Any) -> CheckConstraint:
    """CHECK that `column` is null or a value of the Literal type `vocabulary`; named `ck_<table>_<column>_known`."""
    values = ", ".join(f"'{value}'" for value in get_args(vocabulary))
    return CheckConstraint(f"{column} IN ({values})", name=f"{column}_known")


def between(column: str, low: float, high: float) -> CheckConstraint:
    """CHECK that `column` is null or within `low` and `high`, both included; named `ck_<table>_<column>_range`."""
    return CheckConstraint(f"{column} BETWEEN {low} AND {high}", name=f"{column}_range")


def at_least(column: str, low: int) -> CheckConstraint:
    """CHECK that `column` is null or at least `low`; named `ck_<table>_<column>_range`."""
    return CheckConstraint(f"{column} >= {low}", name=f"{column}_range")
