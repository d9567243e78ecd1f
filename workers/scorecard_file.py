"""A team's own scorecard as a YAML file: a name, a version, instructions, and the schema of the answer."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from analytics.scorecards import BUILT_IN


class ScorecardFileError(Exception):
    """The file is no scorecard; the message names the file and says what is expected."""


class ScorecardFile(BaseModel):
    """What the file says. `schema` is a JSON schema; `model` names a pydantic model instead, as `file.py:Class`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    version: Annotated[int, Field(ge=1)]
    instructions: Annotated[str, Field(min_length=1)]
    output_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    model: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.output_schema is None) == (self.model is None):
            raise ValueError("give either `schema` or `model`")
        if self.name in {card.name for card in BUILT_IN}:
            raise ValueError(f"name: {self.name!r} is the name of a built-in scorecard")
        return self


def read_scorecard_file(path: Path) -> tuple[ScorecardFile, dict[str, Any]]:
    """The file with the JSON schema it means. Raises ScorecardFileError."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScorecardFileError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ScorecardFileError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    try:
        read = ScorecardFile.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(
            ": ".join(filter(None, (".".join(map(str, item["loc"])), item["msg"])))
            for item in error.errors()
        )
        raise ScorecardFileError(f"{path}: {problems}") from error
    if read.output_schema is not None:
        return read, read.output_schema
    assert read.model is not None
    return read, _model_schema(path, read.model)


def _model_schema(path: Path, reference: str) -> dict[str, Any]:
    """The JSON schema of `file.py:Class`, the file relative to the scorecard's own."""
    file_name, _, class_name = reference.partition(":")
    module_path = path.parent / file_name
    if not class_name or not module_path.is_file():
        raise ScorecardFileError(
            f"{path}: model: {reference!r} names no class in a file beside it; expected file.py:Class"
        )
    spec = importlib.util.spec_from_file_location(module_path.stem, module_path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a team's own file raises is for its author to read
        raise ScorecardFileError(f"{module_path}: {type(error).__name__}: {error}") from error
    model = getattr(module, class_name, None)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise ScorecardFileError(f"{module_path} has no pydantic model {class_name!r}")
    return model.model_json_schema()
