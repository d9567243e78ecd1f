"""What the constraint does to meaning: `python -m workers.evaluation.constraints CHECKPOINT --out FILE`.

The same calls are decoded by the engine and by the plain decoder, which fills the same scaffold and keeps nothing
legal. Each field of the built-in records is compared in pairs. So that one bad slot does not spoil a whole plain
record, its fields are read one by one; a slot that says nothing its field can mean is a wrong field.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from analytics.evaluation import Bootstrap, Estimate, ratio, share, slot_kind, words_of
from analytics.evaluation.calls import SlotKind
from analytics.evaluation.entities import ENTITY_FIELDS, same_entity
from analytics.scorecards import BUILT_IN
from analytics.simulator import SimulatedCall
from inference.diffusion.request import CallRequest
from inference.diffusion.structured.scaffold import SlotSpan
from workers.evaluation.decoders import EngineDecoder, PlainCanvas, ReferenceDecoder
from workers.evaluation.text import BOOTSTRAP_SEED, collect
from workers.evaluation.text_sets import EVALUATION_SEED, TEXT_SETS, TextSet, request_of

UNREADABLE: Final = object()
"""What a slot says whose text its field cannot mean."""

FieldName = tuple[str, str]
"""Scorecard and name."""

FIELDS: Final = tuple((card.name, name) for card in BUILT_IN for name in card.record.model_fields)
KINDS: Final[tuple[SlotKind, ...]] = ("enum", "evidence", "entity", "text")
ENTITY_OF: Final = {name: kind for kind, name in ENTITY_FIELDS.items()}


@dataclass(frozen=True, slots=True)
class Row:
    """One field, or all of a kind: the share of calls that are right, and what the constraint adds to it."""

    name: str
    constrained: Estimate
    plain: Estimate
    difference: Estimate


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one text set showed. `valid` is the share of the plain decoder's records that are records."""

    name: str
    description: str
    num_calls: int
    valid: Mapping[str, Estimate]
    rows: tuple[Row, ...]


def main(argv: Sequence[str] | None = None) -> None:
    """Compare on the text sets; tables go to standard output as Markdown, all of it to a file as JSON."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("checkpoint", help="checkpoint directory or hub id")
    options.add_argument("--calls", type=int, default=300, help="in each text set")
    options.add_argument(
        "--set",
        dest="sets",
        action="append",
        choices=[text_set.name for text_set in TEXT_SETS],
        help="this text set; may be given more than once; heldout and heldout_10 if not given",
    )
    options.add_argument("--threshold", type=float, default=0.9, help="commit at this confidence")
    options.add_argument("--seed", type=int, default=EVALUATION_SEED)
    options.add_argument("--device", default="auto", help="auto, cpu or cuda")
    options.add_argument("--threads", type=int, help="of the CPU")
    options.add_argument("--out", type=Path, required=True, help="JSON file to write")
    chosen = options.parse_args(argv)
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    decoders = Decoders(chosen.checkpoint, chosen.device, chosen.threshold)
    result: dict[str, Any] = {
        "command": f"python -m workers.evaluation.constraints {' '.join(argv or sys.argv[1:])}",
        "fingerprints": decoders.fingerprints,
    }
    comparisons: list[Comparison] = []
    for text_set in TEXT_SETS:
        if text_set.name in (chosen.sets or ("heldout", "heldout_10")):
            calls = text_set.calls(chosen.calls, chosen.seed)
            comparisons.append(compare(text_set, calls, decoders))
            result["sets"] = [asdict(comparison) for comparison in comparisons]
            chosen.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    sys.stdout.write(markdown(comparisons))


class Decoders:
    """Both ways to decode, of one checkpoint, at the same threshold."""

    def __init__(self, checkpoint: str, device: str, threshold: float) -> None:
        engine = EngineDecoder(checkpoint, device=device)
        self._plain = ReferenceDecoder(checkpoint, device=device)
        self._threshold = threshold
        self.fingerprints = [one.fingerprint(threshold) for one in (engine, self._plain)]
        self.constrained = engine.at(threshold)

    def plain(self, requests: Sequence[CallRequest]) -> Iterator[PlainCanvas]:
        """Canvases that nothing constrains."""
        return self._plain.canvases(self._threshold, requests)


def compare(text_set: TextSet, calls: Sequence[SimulatedCall], decoders: Decoders) -> Comparison:
    """Decode the calls both ways."""
    requests = [request_of(call) for call in calls]
    answers = collect([call.id for call in calls], decoders.constrained(requests))
    found = [{name: answer.value or {} for name, answer in of_call.items()} for of_call in answers]
    plain_found, is_valid = _plain_records(requests, decoders.plain(requests))
    right, plain_right = _right(calls, found), _right(calls, plain_found)
    bootstrap = Bootstrap(len(calls), seed=BOOTSTRAP_SEED)

    def row(name: str, fields: Sequence[FieldName]) -> Row:
        ours, theirs = (
            ratio(
                [sum(values) for values in zip(*(of[field] for field in fields), strict=True)],
                [len(fields)] * len(calls),
            )
            for of in (right, plain_right)
        )
        return Row(
            name,
            bootstrap.estimate(ours),
            bootstrap.estimate(theirs),
            bootstrap.difference(ours, theirs),
        )

    kinds = {kind: [field for field in FIELDS if slot_kind(*field) == kind] for kind in KINDS}
    return Comparison(
        name=text_set.name,
        description=text_set.description,
        num_calls=len(calls),
        valid={name: bootstrap.estimate(share(flags)) for name, flags in is_valid.items()},
        rows=(
            *(row(f"{card}.{name}", [(card, name)]) for card, name in FIELDS),
            *(row(f"all {kind} fields", fields) for kind, fields in kinds.items()),
            row("all fields", FIELDS),
        ),
    )


def _plain_records(
    requests: Sequence[CallRequest], canvases: Iterable[PlainCanvas]
) -> tuple[list[dict[str, dict[str, Any]]], dict[str, list[bool]]]:
    """What the plain decoder's slots say, call by call; per scorecard, whether all of a record's slots can be read."""
    found: dict[str, dict[str, dict[str, Any]]] = {request.call_id: {} for request in requests}
    for plain in canvases:
        found[plain.call_id][plain.scaffold.name] = dict(_values(plain))
    valid = {
        card.name: [UNREADABLE not in of_call[card.name].values() for of_call in found.values()]
        for card in BUILT_IN
    }
    return list(found.values()), valid


def _values(plain: PlainCanvas) -> Iterator[tuple[str, Any]]:
    for span in plain.scaffold.spans:
        yield span.slot.pointer.removeprefix("/"), _value(plain, span)


def _value(plain: PlainCanvas, span: SlotSpan) -> Any:
    """What a slot says up to its first PAD, or UNREADABLE."""
    tokenizer = plain.scaffold.tokenizer
    ids = list(plain.canvas.tokens[span.start : span.start + span.num_tokens])
    if tokenizer.pad_token_id in ids:
        ids = ids[: ids.index(tokenizer.pad_token_id)]
    try:
        return span.slot.language.decode(b"".join(tokenizer.token_bytes[i] for i in ids).decode())
    except ValueError:
        return UNREADABLE


def _right(
    calls: Sequence[SimulatedCall], found: Sequence[Mapping[str, Mapping[str, Any]]]
) -> dict[FieldName, list[bool]]:
    """Per field, whether it is right in each call."""
    return {
        (card, name): [
            _is_right(name, call.records[card][name], of_call[card].get(name, UNREADABLE))
            for call, of_call in zip(calls, found, strict=True)
        ]
        for card, name in FIELDS
    }


def _is_right(name: str, expected: Any, found: Any) -> bool:
    """Equal; entities and texts are compared by their words."""
    if found is UNREADABLE or expected is None or found is None:
        return expected is found
    if name in ENTITY_OF:
        return same_entity(ENTITY_OF[name], expected, found)
    if isinstance(expected, str):
        return words_of(expected) == words_of(found)
    return bool(expected == found)


def markdown(comparisons: Sequence[Comparison]) -> str:
    """A table in per cent, with the 95 % interval of each difference, and how many plain records are records."""
    titles = [f"{one.name}: constrained | plain | difference" for one in comparisons]
    lines = [f"| field | {' | '.join(titles)} |", "|---|" + "--:|" * 3 * len(comparisons)]
    for rows in zip(*(one.rows for one in comparisons), strict=True):
        cells = [cell for row in rows for cell in _cells(row)]
        lines.append(f"| {rows[0].name} | {' | '.join(cells)} |")
    lines.append("")
    for one in comparisons:
        valid = (f"{name} {100 * (e.value or 0):.1f} %" for name, e in one.valid.items())
        lines.append(
            f"{one.name}: {one.num_calls} calls, {one.description}. "
            f"Plain records that are records: {', '.join(valid)}."
        )
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> tuple[str, str, str]:
    ours, theirs = (f"{100 * (one.value or 0):.1f}" for one in (row.constrained, row.plain))
    return ours, theirs, _with_interval(row.difference)


def _with_interval(estimate: Estimate) -> str:
    value, low, high = (100 * (x or 0) for x in (estimate.value, estimate.low, estimate.high))
    return f"{value:+.1f} ({low:+.1f} … {high:+.1f})"


if __name__ == "__main__":
    main()
