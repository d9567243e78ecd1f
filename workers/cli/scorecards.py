"""`aftercall scorecards`: a team's own questions to every call."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.text import Text

from db.repository import scorecards
from workers.cli.errors import CommandError
from workers.cli.store import open_store
from workers.console import console, print_json, print_note, table, titled
from workers.readable import count
from workers.scorecard_file import read_scorecard_file
from workers.settings import load_settings

if TYPE_CHECKING:
    from inference.diffusion.structured.scaffold import Scaffold
    from inference.diffusion.structured.schema.plan import Slot

app = typer.Typer(no_args_is_help=True, help="A team's own questions to every call.")
# Turns of a long call; it bounds the turns that may be cited, and no length depends on it.
_NUM_TURNS = 60
_NUM_CHOICES_SHOWN = 6

File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="YAML with name, version, instructions, and schema or model."
    ),
]


@app.callback()
def _group() -> None:
    """A team's own questions to every call."""


@app.command("check")
def check(file: File) -> None:
    """Compile a scorecard for the configured model; print its slots, or what is refused and why.

    A model given by its hub name is downloaded first, as a worker would.
    """
    card, schema = read_scorecard_file(file)
    scaffold = _compile(card.name, card.instructions, schema)
    rows = table(["field", "what fills it", "tokens"], right=["tokens"])
    for span in scaffold.spans:
        rows.add_row(span.slot.pointer, _filling(span.slot), str(span.num_tokens))
    num_open = sum(span.num_tokens for span in scaffold.spans)
    out = console()
    out.print(titled(f"{card.name} version {card.version} compiles", rows))
    out.print(
        f"\n{count(scaffold.num_tokens, 'token')} in all; {count(len(scaffold.spans), 'slot')} "
        f"with {count(num_open, 'token')} to fill, in at most as many denoising steps."
    )


@app.command("add")
def add(
    file: File,
    draft: Annotated[
        bool, typer.Option("--draft", help="Store it without using it for new calls.")
    ] = False,
) -> None:
    """Store a scorecard and score every new call with it; `reprocess --scorecard` back-fills."""
    card, schema = read_scorecard_file(file)
    _compile(card.name, card.instructions, schema)
    with open_store() as store, store.database.unit_of_work() as session:
        stored = scorecards.register(
            session,
            name=card.name,
            version=card.version,
            instructions=card.instructions,
            output_schema=schema,
            kind="custom",
        )
        if not draft:
            stored = scorecards.promote(session, card.name, card.version)
    console().print(f"{stored.name} version {stored.version} is stored and {stored.status}.")
    if stored.status == "promoted":
        print_note(f"`aftercall reprocess --all --scorecard {stored.name}` scores earlier calls")


@app.command("list")
def list_all(
    as_json: Annotated[bool, typer.Option("--json", help="A list of objects.")] = False,
) -> None:
    """List every version of every scorecard."""
    with open_store() as store, store.database.unit_of_work() as session:
        cards = scorecards.all_versions(session)
    if as_json:
        print_json(
            [
                {
                    "name": card.name,
                    "version": card.version,
                    "kind": card.kind,
                    "status": card.status,
                }
                for card in cards
            ]
        )
        return
    rows = table(["name", "version", "kind", "status", "asks for"], right=["version"])
    for card in cards:
        style = "green" if card.status == "promoted" else "dim"
        fields = ", ".join(card.output_schema.get("properties", {}))
        status = Text(card.status, style=style)
        rows.add_row(card.name, str(card.version), card.kind, status, fields)
    console().print(rows)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="The scorecard's name.")],
    version: Annotated[
        int | None, typer.Option(min=1, help="Default: the promoted version.")
    ] = None,
) -> None:
    """Print a stored scorecard, as a file that `add` would take."""
    with open_store() as store, store.database.unit_of_work() as session:
        card = scorecards.get(session, name, version)
    content = {
        "name": card.name,
        "version": card.version,
        "instructions": card.instructions,
        "schema": card.output_schema,
    }
    typer.echo(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100), nl=False)


def _compile(name: str, instructions: str, schema: dict[str, Any]) -> Scaffold:
    from inference.diffusion.checkpoint import CheckpointError, resolve_checkpoint
    from inference.diffusion.config import ConfigError, LladaConfig
    from inference.diffusion.structured.scaffold import compile_scaffold
    from inference.diffusion.structured.schema import SchemaError
    from inference.diffusion.tokenizer import DiffusionTokenizer, TokenizerError

    try:
        directory = resolve_checkpoint(load_settings().dllm_model)
    except CheckpointError as error:
        raise CommandError(f"the analysis model (AFTERCALL_DLLM_MODEL): {error}") from error
    try:
        tokenizer = DiffusionTokenizer.load(directory, LladaConfig.load(directory))
        return compile_scaffold(
            schema, tokenizer, instructions=instructions, name=name, num_turns=_NUM_TURNS
        )
    except (ConfigError, TokenizerError) as error:
        raise CommandError(str(error)) from error
    except SchemaError as error:
        raise CommandError(f"{name} is refused: {error}") from error


def _filling(slot: Slot) -> str:
    from inference.diffusion.structured.schema.languages import Choices

    language = slot.language
    if not isinstance(language, Choices):
        return "text"
    if language.cites_turns:
        return "a turn of the call" + (", or null" if "null" in language.texts else "")
    shown = ", ".join(language.texts[:_NUM_CHOICES_SHOWN])
    more = ", …" if len(language.texts) > _NUM_CHOICES_SHOWN else ""
    return f"one of {len(language.texts)}: {shown}{more}"
