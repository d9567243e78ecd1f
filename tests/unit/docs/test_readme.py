"""The README and the operations page say what is there: settings, commands, options and links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from workers.cli import app
from workers.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    DOCS / "operations.md",
    DOCS / "scorecards.md",
    DOCS / "sql-recipes.md",
    DOCS / "training.md",
]


def test_the_readme_lists_every_setting_as_it_is() -> None:
    listed = dict(
        re.findall(r"^\| `AFTERCALL_(\w+)` \|.*\| (.+) \|$", PAGES[0].read_text(), re.MULTILINE)
    )
    assert listed == {
        name.upper(): field.description for name, field in Settings.model_fields.items()
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_are_named_exist(page: Path) -> None:
    named = set(re.findall(r"AFTERCALL_([A-Z_]+[A-Z])", page.read_text()))
    assert named <= {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_that_are_named_exist(page: Path) -> None:
    """Every `aftercall VERB … --option` in the page's code is known to the command line itself."""
    named = re.findall(r"(?:^|`)aftercall ([a-z][^\n`#]*)", page.read_text(), re.MULTILINE)
    assert named
    for words in map(str.split, named):
        path = words[:2] if words[0] in ("db", "scorecards", "train") else words[:1]
        described = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "200"})
        assert described.exit_code == 0, words
        for option in words:
            if option.startswith("--"):
                assert option in described.stdout, words
