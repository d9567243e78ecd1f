"""Services for the acceptance tests: on embedded servers, or on those that AFTERCALL_TEST_*_URL name."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from tests.acceptance.service import IMPATIENT, Service

MakeService = Callable[..., Service]


@pytest.fixture(scope="module")
def make_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeService]:
    """Gives installations of their own, each with an empty database; keyword arguments are settings.

    With `embedded` they run their own servers whatever is configured for the tests.
    """
    with ExitStack() as stack:

        def make(*, embedded: bool = False, **settings: str) -> Service:
            servers = {} if embedded else _servers(stack)
            chosen = {"OMP_NUM_THREADS": "1", **IMPATIENT, **servers, **settings}
            service = Service(tmp_path_factory.mktemp("service"), chosen)
            stack.callback(service.clean_up)
            if "AFTERCALL_DATABASE_URL" in chosen and "AFTERCALL_DATABASE_URL" not in settings:
                assert service.run("db", "upgrade").returncode == 0
            return service

        yield make


def _servers(stack: ExitStack) -> dict[str, str]:
    configured: dict[str, str] = {}
    database_url = os.environ.get("AFTERCALL_TEST_DATABASE_URL")
    if database_url:
        configured["AFTERCALL_DATABASE_URL"] = stack.enter_context(fresh_database(database_url))
    broker_url = os.environ.get("AFTERCALL_TEST_BROKER_URL")
    if broker_url:
        configured["AFTERCALL_BROKER_URL"] = broker_url
    return configured


@contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """The URL of an empty database on a configured server, dropped at the end of the block."""
    name = f"aftercall_test_{uuid.uuid4().hex}"
    url = make_url(server_url).set(drivername="postgresql")
    admin = url.render_as_string(hide_password=False)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield url.set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
