"""What commands print is as it is stored: no text from a call is taken for markup."""

from __future__ import annotations

import pytest

from db.session import Database
from tests.integration.workers.samples import Aftercall, add_scored_call

pytestmark = pytest.mark.usefixtures("no_calls")


@pytest.mark.parametrize("agent", ["front [/desk]", "[draft]two", "[bold]", ":car:"])
def test_an_agents_name_is_shown_as_it_is(
    aftercall: Aftercall, database: Database, agent: str
) -> None:
    add_scored_call(database, "CA1", agent_id=agent, summary=f"Asked for {agent}.")
    for command in (("show", "CA1"), ("report",)):
        result = aftercall(*command)
        assert result.exit_code == 0
        assert agent in result.stdout
    assert f"Asked for {agent}." in aftercall("show", "CA1").stdout
