"""Every setting of the service, read from `AFTERCALL_*` environment variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "AFTERCALL_"
# From the colon after the user's name to the last @; and as a parameter. Any part of the URL may be mistyped.
_PASSWORD = re.compile(r"^([^:@/]*:?/+[^:@]*:|[^:@/]*:(?!/)).*@", re.DOTALL)
_PASSWORD_PARAMETER = re.compile(
    r"(password\s*=\s*)('(?:\\.|[^'])*'?|[^\s&]+)", re.IGNORECASE | re.DOTALL
)
CHECKPOINTS = Path(__file__).resolve().parent.parent / "inference" / "checkpoints"


class SettingsError(Exception):
    """A setting is unknown or malformed; the message names it and says what is accepted."""


def default_data_dir() -> Path:
    """Where the embedded servers keep their data: the XDG data directory."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "aftercall"


class Settings(BaseSettings):
    """One field per setting; the environment variable is the field's name in capitals after `AFTERCALL_`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    database_url: str | None = Field(
        default=None,
        description="Postgres 14 or newer, as postgresql://user:password@host/name. Unset: an embedded server.",
    )
    broker_url: str | None = Field(
        default=None,
        description="redis://, rediss:// (Redis or Valkey) or amqp:// (RabbitMQ). Unset: an embedded Valkey.",
    )
    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Where the embedded servers keep their data and sockets, and `aftercall up` its logs.",
    )

    agent_channel: Annotated[int, Field(ge=0, le=1)] = Field(
        default=0, description="Channel of a dual-channel recording that carries the voice agent."
    )
    max_call_minutes: Annotated[float, Field(gt=0)] = Field(
        default=180,
        description="Longer recordings get the verdict too_long and are not transcribed.",
    )
    language: str = Field(default="en", description="Language of the calls, as Whisper names it.")
    asr_model: str = Field(
        default=str(CHECKPOINTS / "asr"),
        description="CTranslate2 Whisper directory or hub name, such as large-v3.",
    )
    asr_device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where speech recognition runs."
    )
    asr_compute_type: str = Field(
        default="default", description="CTranslate2 compute type: default, int8, float16, …"
    )

    dllm_model: str = Field(
        default=str(CHECKPOINTS / "dllm"),
        description="LLaDA-family checkpoint directory or hub name, such as GSAI-ML/LLaDA-8B-Instruct.",
    )
    dllm_device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where the analysis model runs."
    )
    commit_threshold: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.9, description="A position is committed when its confidence exceeds this."
    )
    prompt_cache: Literal["frozen", "refresh", "off"] = Field(
        default="frozen",
        description="Whether the prompt is encoded once, every 8 steps, or in every step.",
    )
    deterministic: bool = Field(
        default=False,
        description="On a GPU: the same record whatever calls of the same scorecards it is batched with,"
        " for 5 % of the speed.",
    )
    max_batch_calls: Annotated[int, Field(ge=1)] = Field(
        default=16, description="Calls that an analysis worker claims at a time."
    )
    max_batch_tokens: Annotated[int, Field(ge=512)] = Field(
        default=16_384,
        description="Tokens that the analysis model's cache holds; four times as many are claimed at a time.",
    )

    lease_seconds: Annotated[int, Field(ge=2)] = Field(
        default=120,
        description="A job whose worker has not been heard of for so long goes to another.",
    )
    max_attempts: Annotated[int, Field(ge=1)] = Field(
        default=3, description="Failures of a job, alone, before it is dead."
    )
    sweep_seconds: Annotated[float, Field(gt=0)] = Field(
        default=5, description="How often due jobs are republished and expired leases collected."
    )

    @field_validator("database_url")
    @classmethod
    def _postgres_only(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(
            ("postgresql://", "postgres://", "postgresql+psycopg://")
        ):
            raise ValueError(
                "must be a Postgres URL such as postgresql://user:password@host:5432/name"
            )
        return url

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(
            ("redis://", "rediss://", "redis+socket://", "amqp://", "amqps://")
        ):
            raise ValueError("must be a redis://, rediss:// or amqp:// URL")
        return url


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings. Raises SettingsError naming every unknown or malformed variable."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    # AFTERCALL_TEST_* configure the test suite, which runs the real commands in its own environment.
    unknown = sorted(
        name
        for name in environ
        if name.startswith(PREFIX) and name not in known and not name.startswith(PREFIX + "TEST_")
    )
    if unknown:
        raise SettingsError(
            f"unknown setting {', '.join(unknown)}; the settings are: {', '.join(sorted(known))}"
        )
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(
            f"{PREFIX}{str(item['loc'][0]).upper()}: {item['msg'].removeprefix('Value error, ')} "
            f"(is {without_password(str(item['input']))!r})"
            for item in error.errors()
        )
        raise SettingsError(problems) from error


def without_password(value: str) -> str:
    """A URL, well-formed or not, fit for a shared screen; anything else as it is."""
    return _PASSWORD_PARAMETER.sub(r"\1***", _PASSWORD.sub(r"\1***@", value))


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return load_settings()
