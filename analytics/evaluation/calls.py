"""Records found against records expected: every measure of the analysis model that needs no audio."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_origin

import numpy as np
from pydantic import ValidationError

from analytics.evaluation.claims import ServiceNames, Sources, claims_of, unsupported_claims
from analytics.evaluation.entities import ENTITY_FIELDS, mentions, same_entity
from analytics.evaluation.intervals import Measure, macro_f1, rank_correlation, ratio, share
from analytics.evaluation.texts import rouge_l, words_of
from analytics.evidence import TURN_SUFFIX
from analytics.lead_score import LEAD_RULE, LeadRule
from analytics.records import LeadFeatures, Record
from analytics.scorecards import BUILT_IN

RecordValues = Mapping[str, Any]
SlotKind = Literal["enum", "evidence", "entity", "text"]

FREE_TEXT: Final = ("summary", "next_step")
_MODELS: Final[dict[str, type[Record]]] = {card.name: card.record for card in BUILT_IN}


def slot_kind(scorecard: str, name: str) -> SlotKind:
    """What kind of slot a field of a built-in record is. Raises KeyError for a field that there is not."""
    annotation = _MODELS[scorecard].model_fields[name].annotation
    if get_origin(annotation) is Literal:
        return "enum"
    if name.endswith(TURN_SUFFIX):
        return "evidence"
    return "text" if name in FREE_TEXT else "entity"


def fields_of(kind: SlotKind) -> tuple[tuple[str, str], ...]:
    """(scorecard, field) of every built-in field of one kind, in the records' order."""
    return tuple(
        (scorecard, name)
        for scorecard, model in _MODELS.items()
        for name in model.model_fields
        if slot_kind(scorecard, name) == kind
    )


@dataclass(frozen=True, slots=True)
class EvaluatedCall:
    """One call: what is true of it and what was found, both by scorecard.

    Attributes:
        found: a missing or invalid record counts as wrong in each of its fields.
        turns: the texts that the model read, in order: turn 1 first.
        facts: texts that are true of the call, said or not; a summary may claim them.
        supporting_turns: turns that support `(scorecard, field)`, where they are others than the expected record names:
            a recogniser divides a call into turns of its own.
    """

    expected: Mapping[str, RecordValues]
    found: Mapping[str, RecordValues | None]
    turns: tuple[str, ...]
    facts: tuple[str, ...] = ()
    supporting_turns: Mapping[tuple[str, str], frozenset[int]] = field(default_factory=dict)

    def supporting(self, scorecard: str, name: str) -> frozenset[int]:
        """Turns that support this evidence field; empty when the call has none."""
        if (scorecard, name) in self.supporting_turns:
            return self.supporting_turns[scorecard, name]
        turn = self.expected[scorecard][name]
        return frozenset() if turn is None else frozenset({turn})


def validated(scorecard: str, record: RecordValues | None) -> RecordValues | None:
    """The record, or None when it does not fit the scorecard's model."""
    if record is None:
        return None
    try:
        _MODELS[scorecard].model_validate(record)
    except ValidationError:
        return None
    return record


def measure_calls(
    calls: Sequence[EvaluatedCall],
    *,
    services: Collection[str] = (),
    rule: LeadRule = LEAD_RULE,
) -> dict[str, Measure]:
    """All measures by name, each resting on the calls in their order.

    `services` are the known names of services, which summaries are searched for.
    """
    pairs = {
        scorecard: [
            (call.expected[scorecard], validated(scorecard, call.found.get(scorecard)) or {})
            for call in calls
        ]
        for scorecard in _MODELS
    }
    return (
        {f"valid.{name}": share([bool(found) for _, found in pairs[name]]) for name in pairs}
        | _enum_measures(pairs)
        | _lead_measures(pairs["lead_score"], rule)
        | _evidence_measures(calls, pairs)
        | _entity_measures(pairs["summary"])
        | _text_measures(pairs["summary"])
        | _claim_measures(calls, pairs["summary"], services)
    )


_Pairs = list[tuple[RecordValues, RecordValues]]


def _enum_measures(pairs: Mapping[str, _Pairs]) -> dict[str, Measure]:
    measures: dict[str, Measure] = {}
    fields = fields_of("enum")
    num_right = np.zeros(len(pairs["summary"]))
    for scorecard, name in fields:
        expected = [expected[name] for expected, _ in pairs[scorecard]]
        found = [found.get(name) for _, found in pairs[scorecard]]
        right = [e == f for e, f in zip(expected, found, strict=True)]
        measures[f"accuracy.{scorecard}.{name}"] = share(right)
        measures[f"macro_f1.{scorecard}.{name}"] = macro_f1(expected, found)
        num_right += right
    measures["accuracy.enums"] = ratio(num_right.tolist(), [len(fields)] * len(num_right))
    return measures


def _lead_measures(pairs: _Pairs, rule: LeadRule) -> dict[str, Measure]:
    """A missing score counts as 0, which is where sorting by score puts it; calls without any score say nothing."""
    expected = [_score(record, rule) for record, _ in pairs]
    found = [_score(record, rule) if record else (None, "invalid") for _, record in pairs]
    scored = [
        e is not None or f is not None for (e, _), (f, _) in zip(expected, found, strict=True)
    ]
    points = [(e or 0, f or 0) for (e, _), (f, _) in zip(expected, found, strict=True)]
    return {
        "lead.mae": ratio(
            [abs(e - f) for e, f in points], [float(is_scored) for is_scored in scored]
        ),
        "lead.rank_correlation": rank_correlation([e for e, _ in points], [f for _, f in points]),
        "lead.tier_accuracy": share(
            [e == f for (_, e), (_, f) in zip(expected, found, strict=True)]
        ),
    }


def _score(features: RecordValues, rule: LeadRule) -> tuple[int | None, str]:
    lead = rule.score(LeadFeatures.model_validate(features))
    return lead.score, lead.tier


def _evidence_measures(
    calls: Sequence[EvaluatedCall], pairs: Mapping[str, _Pairs]
) -> dict[str, Measure]:
    """Precision: of the turns cited, those that support the field. Recall: of the fields with support, those cited."""
    measures: dict[str, Measure] = {}
    total = np.zeros((3, len(calls)))
    for scorecard, name in fields_of("evidence"):
        turns = [call.supporting(scorecard, name) for call in calls]
        cited = [found.get(name) for _, found in pairs[scorecard]]
        right = [turn in support for turn, support in zip(cited, turns, strict=True)]
        was_cited = [turn is not None for turn in cited]
        supported = [bool(support) for support in turns]
        measures[f"evidence_precision.{scorecard}.{name}"] = ratio(right, was_cited)
        measures[f"evidence_recall.{scorecard}.{name}"] = ratio(right, supported)
        total += [right, was_cited, supported]
    measures["evidence_precision"] = ratio(total[0].tolist(), total[1].tolist())
    measures["evidence_recall"] = ratio(total[0].tolist(), total[2].tolist())
    return measures


def _entity_measures(pairs: _Pairs) -> dict[str, Measure]:
    """Recall: of the entities that are there, those found. Precision: of those found, those that are right.

    The summary's recall counts the entities that the expected summary names and the found one names too.
    """
    measures: dict[str, Measure] = {}
    all_right, all_present = np.zeros(len(pairs)), np.zeros(len(pairs))
    for kind, name in ENTITY_FIELDS.items():
        present = [expected[name] is not None for expected, _ in pairs]
        claimed = [found.get(name) is not None for _, found in pairs]
        right = [
            there and same_entity(kind, expected[name], found.get(name))
            for there, (expected, found) in zip(present, pairs, strict=True)
        ]
        told = [
            there and mentions(kind, expected["summary"], expected[name])
            for there, (expected, _) in zip(present, pairs, strict=True)
        ]
        retold = [
            is_told and mentions(kind, found.get("summary", ""), expected[name])
            for is_told, (expected, found) in zip(told, pairs, strict=True)
        ]
        measures[f"entity_recall.{kind}"] = ratio(right, present)
        measures[f"entity_precision.{kind}"] = ratio(right, claimed)
        measures[f"summary_recall.{kind}"] = ratio(retold, told)
        all_right += right
        all_present += present
    measures["entity_recall"] = ratio(all_right.tolist(), all_present.tolist())
    return measures


def _text_measures(pairs: _Pairs) -> dict[str, Measure]:
    measures: dict[str, Measure] = {}
    for name in FREE_TEXT:
        texts = [(expected[name] or "", found.get(name) or "") for expected, found in pairs]
        ones = [1.0] * len(texts)
        measures[f"rouge_l.{name}"] = ratio([rouge_l(e, f) for e, f in texts], ones)
        measures[f"exact.{name}"] = share([words_of(e) == words_of(f) for e, f in texts])
    return measures


def _claim_measures(
    calls: Sequence[EvaluatedCall], pairs: _Pairs, services: Iterable[str]
) -> dict[str, Measure]:
    known = ServiceNames(services)
    claimed, unsupported = [], []
    for call, (_, found) in zip(calls, pairs, strict=True):
        texts = [found[name] for name in FREE_TEXT if found.get(name)]
        own = ServiceNames([found["service"]] if found.get("service") else [])
        claims = {
            claim: None
            for text in texts
            for names in (known, own)
            for claim in claims_of(text, names)
        }
        sources = Sources([*call.turns, *call.facts])
        claimed.append(len(claims))
        unsupported.append(len(unsupported_claims(claims, sources)))
    return {
        "unsupported_claims": ratio(unsupported, claimed),
        "summaries_with_unsupported_claims": share([count > 0 for count in unsupported]),
    }
