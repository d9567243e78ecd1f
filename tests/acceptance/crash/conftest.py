"""Servers for the crash matrix: our own, which may be killed, and the configured ones, which may not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from db.session import Database
from tests.acceptance.conftest import fresh_database
from tests.acceptance.crash.workers import Servers, Workers
from tests.models import save_parrot, save_tiny_dllm
from workers.local.broker import LocalBroker
from workers.local.postgres import LocalPostgres
from workers.upgrade import bring_up_to_date


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings that name the smallest models in the real formats: what is said does not matter here."""
    asr, dllm = tmp_path_factory.mktemp("asr"), tmp_path_factory.mktemp("dllm")
    save_parrot(asr, "I would like to book a cleaning for Tuesday, please.")
    save_tiny_dllm(dllm)
    return {"AFTERCALL_ASR_MODEL": str(asr), "AFTERCALL_DLLM_MODEL": str(dllm)}


@pytest.fixture(scope="module")
def own_servers(
    tmp_path_factory: pytest.TempPathFactory, models: dict[str, str]
) -> Iterator[Servers]:
    """Servers that may be killed, with a sweeper."""
    directory = tmp_path_factory.mktemp("servers")
    broker = LocalBroker(directory)
    with ExitStack() as stack:
        postgres = stack.enter_context(LocalPostgres(directory / "postgres"))
        stack.callback(broker.stop)
        assert postgres.url is not None
        database = stack.enter_context(Database(postgres.url))
        bring_up_to_date(database)
        servers = Servers(database, broker.start(), broker)
        _start_sweeper(stack, servers, models, directory)
        yield servers


@pytest.fixture(scope="module")
def servers(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    models: dict[str, str],
) -> Iterator[Servers]:
    """The servers of AFTERCALL_TEST_DATABASE_URL and AFTERCALL_TEST_BROKER_URL where both are set, else our own."""
    database_url = os.environ.get("AFTERCALL_TEST_DATABASE_URL")
    broker_url = os.environ.get("AFTERCALL_TEST_BROKER_URL")
    if not (database_url and broker_url):
        yield request.getfixturevalue("own_servers")
        return
    with ExitStack() as stack:
        fresh_url = stack.enter_context(fresh_database(database_url))
        database = stack.enter_context(Database(fresh_url))
        bring_up_to_date(database)
        servers = Servers(database, broker_url)
        _start_sweeper(stack, servers, models, tmp_path_factory.mktemp("sweeper"))
        yield servers


def _start_sweeper(
    stack: ExitStack, servers: Servers, models: dict[str, str], directory: Path
) -> None:
    """Someone who collects expired leases and wakes workers."""
    sweeper = Workers(servers, models, directory / "sweeper.log")
    stack.callback(sweeper.kill)
    sweeper.start("sweep")
