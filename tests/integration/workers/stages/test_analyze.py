"""The analyze stage on the real engine: batches, what one call may do to the others, and what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from analytics.lead_score import LEAD_RULE
from analytics.records import LeadFeatures
from db import queue
from db.queue import Lease
from db.repository import calls, scorecards
from db.session import Database
from inference.diffusion import BranchResult, CallRequest, DiffusionEngine
from tests.integration.workers.stages.conftest import POLICY, AddTranscribed
from workers.analyze import Analyzer
from workers.drain import Claim, Drained, drain
from workers.settings import Settings

BUILT_IN = {"summary", "sentiment", "lead_score"}
Analyze = Callable[[Any], Drained]


class EngineDouble:
    """The real engine with one thing changed by a subclass."""

    def __init__(self, engine: DiffusionEngine) -> None:
        self._engine = engine
        self.fingerprint = engine.fingerprint

    @property
    def has_work(self) -> bool:
        return self._engine.has_work

    def add(self, request: CallRequest) -> None:
        self._engine.add(request)

    def step(self) -> list[BranchResult]:
        return self._engine.step()

    def clear(self) -> None:
        self._engine.clear()


class BreaksAfterTheFirstRecord(EngineDouble):
    has_work = True  # type: ignore[assignment]
    num_results = 0

    def step(self) -> list[BranchResult]:
        if self.num_results:
            raise RuntimeError("the device fell off the bus")
        results = super().step()
        self.num_results += len(results)
        return results[:1]


@pytest.fixture
def analyze(empty_database: Database, settings: Settings) -> Analyze:
    """Drain the analyze stage with an engine."""

    def run(engine: Any) -> Drained:
        return drain(
            empty_database,
            "analyze",
            Analyzer(empty_database, settings, engine).work,
            claim=Claim(limit=8, token_budget=10_000),
            policy=POLICY,
            seconds=60,
        )

    return run


def fetch(database: Database, statement: str) -> list[tuple[Any, ...]]:
    with database.unit_of_work() as session:
        return [tuple(row) for row in session.execute(text(statement))]


def runs(database: Database) -> list[tuple[Any, ...]]:
    """Every run as (call, scorecard, status)."""
    return fetch(
        database,
        "SELECT call_id, name, run.status FROM analysis_runs run "
        "JOIN scorecards ON scorecards.id = scorecard_id ORDER BY call_id, name",
    )


def job_states(database: Database) -> dict[int, tuple[str, int]]:
    return {
        call_id: (state, attempts)
        for call_id, state, attempts in fetch(database, "SELECT call_id, state, attempts FROM jobs")
    }


def test_a_batch_is_scored_in_every_scorecard(
    empty_database: Database,
    add_transcribed: AddTranscribed,
    analyze: Analyze,
    engine: DiffusionEngine,
) -> None:
    call_ids = [add_transcribed(name) for name in ("one", "two")]
    assert analyze(engine) == Drained(2, is_empty=True)
    assert {(call, name) for call, name, _ in runs(empty_database)} == {
        (call, name) for call in call_ids for name in BUILT_IN
    }
    assert {status for _, _, status in runs(empty_database)} == {"ok"}
    assert job_states(empty_database) == dict.fromkeys(call_ids, ("done", 1))
    statuses = fetch(empty_database, "SELECT DISTINCT status FROM call_status")
    assert statuses == [("scored",)]


def test_a_run_tells_where_it_comes_from(
    empty_database: Database,
    add_transcribed: AddTranscribed,
    analyze: Analyze,
    engine: DiffusionEngine,
) -> None:
    add_transcribed("one")
    analyze(engine)
    found = fetch(
        empty_database,
        "SELECT name, fingerprint, provenance, num_steps, num_tokens, engine_ms FROM analysis_runs "
        "JOIN scorecards ON scorecards.id = scorecard_id",
    )
    assert len({fingerprint for _, fingerprint, *_ in found}) == len(BUILT_IN)
    for name, _, provenance, num_steps, num_tokens, engine_ms in found:
        assert provenance["transcript"] == "of one"
        assert provenance["engine"] == engine.fingerprint
        assert provenance["scorecard"] == f"{name} v1"
        assert ("rule" in provenance) == (name == "lead_score")
        assert 0 < num_steps <= num_tokens
        assert engine_ms > 0


def test_every_field_has_its_confidence_and_its_place_in_the_call(
    empty_database: Database,
    add_transcribed: AddTranscribed,
    analyze: Analyze,
    engine: DiffusionEngine,
) -> None:
    add_transcribed("one")
    analyze(engine)
    rows = fetch(
        empty_database,
        "SELECT field, field_evidence.status, confidence, turn_number, start_ms FROM field_evidence "
        "JOIN lead_records USING (run_id)",
    )
    fields = {name for name in LeadFeatures.model_fields if not name.endswith("_turn")}
    assert {field for field, *_ in rows} == fields
    starts = {1: 0, 2: 2_500, 3: 6_400}
    for _, status, confidence, turn, start_ms in rows:
        assert 0 < confidence <= 1
        assert (status == "supported") == (turn is not None)
        assert start_ms == starts.get(turn)


def test_the_lead_score_is_the_rule_s(
    empty_database: Database,
    add_transcribed: AddTranscribed,
    analyze: Analyze,
    engine: DiffusionEngine,
) -> None:
    add_transcribed("one")
    analyze(engine)
    [(features, score, tier)] = fetch(
        empty_database,
        "SELECT to_jsonb(lead_records), score, tier FROM lead_records",
    )
    fields = {name: features[name] for name in LeadFeatures.model_fields if name in features}
    turns = {name: None for name in LeadFeatures.model_fields if name.endswith("_turn")}
    expected = LEAD_RULE.score(LeadFeatures.model_validate({**turns, **fields}))
    assert (score, tier) == (expected.score, expected.tier)


def test_a_job_for_some_scorecards_fills_in_no_others(
    empty_database: Database,
    add_transcribed: AddTranscribed,
    analyze: Analyze,
    engine: DiffusionEngine,
) -> None:
    call_id = add_transcribed("one", scorecards=("sentiment",))
    analyze(engine)
    assert runs(empty_database) == [(call_id, "sentiment", "ok")]


def test_a_call_in_which_nobody_spoke_is_not_applicable(
    empty_database: Database,
    add_transcribed: AddTranscribed,
    analyze: Analyze,
    engine: DiffusionEngine,
) -> None:
    silent, spoken = add_transcribed("silent", turns=()), add_transcribed("spoken")
    analyze(engine)
    assert runs(empty_database) == [
        *((silent, name, "not_applicable") for name in sorted(BUILT_IN)),
        *((spoken, name, "ok") for name in sorted(BUILT_IN)),
    ]
    assert fetch(empty_database, "SELECT count(*) FROM summary_records") == [(1,)]
    assert job_states(empty_database)[silent] == ("done", 1)


def test_a_record_that_does_not_validate_is_stored_as_invalid_and_as_nothing_else(
    empty_database: Database,
    add_transcribed: AddTranscribed,
    analyze: Analyze,
    engine: DiffusionEngine,
) -> None:
    class AnswersOutsideTheSchema(EngineDouble):
        def step(self) -> list[BranchResult]:
            return [
                replace(result, value={**result.value, "overall": "ecstatic"})
                if result.name == "sentiment"
                else result
                for result in super().step()
            ]

    call_id = add_transcribed("one")
    analyze(AnswersOutsideTheSchema(engine))
    assert runs(empty_database) == [
        (call_id, "lead_score", "ok"),
        (call_id, "sentiment", "invalid"),
        (call_id, "summary", "ok"),
    ]
    [(error,)] = fetch(empty_database, "SELECT error FROM analysis_runs WHERE status = 'invalid'")
    assert "overall" in error
    assert "ecstatic" in error
    assert fetch(empty_database, "SELECT count(*) FROM sentiment_records") == [(0,)]
    assert job_states(empty_database)[call_id] == ("done", 1)


def test_a_call_that_the_engine_refuses_dies_alone(
    empty_database: Database,
    add_transcribed: AddTranscribed,
    analyze: Analyze,
    engine: DiffusionEngine,
) -> None:
    call_ids = [add_transcribed(name) for name in ("one", "two", "three")]

    class RefusesTheSecond(EngineDouble):
        def add(self, request: CallRequest) -> None:
            if request.call_id == str(call_ids[1]):
                raise ValueError("its prompt is too long")
            super().add(request)

    analyze(RefusesTheSecond(engine))
    states = job_states(empty_database)
    assert states == {
        call_ids[0]: ("done", 1),
        call_ids[1]: ("dead", 3),
        call_ids[2]: ("done", 1),
    }
    assert {call for call, _, _ in runs(empty_database)} == {call_ids[0], call_ids[2]}
    assert len(runs(empty_database)) == 6
    reasons = fetch(empty_database, f"SELECT reason FROM call_status WHERE call_id = {call_ids[1]}")
    assert reasons == [("its prompt is too long",)]


def test_what_was_stored_before_a_crash_is_neither_lost_nor_stored_again(
    empty_database: Database,
    add_transcribed: AddTranscribed,
    analyze: Analyze,
    engine: DiffusionEngine,
) -> None:
    add_transcribed("one")
    broken = Analyzer(empty_database, Settings(), BreaksAfterTheFirstRecord(engine))  # type: ignore[arg-type]
    with empty_database.unit_of_work() as session:
        lease = queue.claim(session, "analyze", worker="doomed", limit=1, policy=POLICY)
    assert lease is not None
    with pytest.raises(RuntimeError):
        broken.work(lease)
    first = fetch(empty_database, "SELECT id FROM analysis_runs")
    assert len(first) == 1
    with empty_database.unit_of_work() as session:
        queue.fail_batch(session, lease, error=RuntimeError("gone"), policy=POLICY)
    analyze(engine)
    after = fetch(empty_database, "SELECT id FROM analysis_runs ORDER BY id")
    assert after[:1] == first
    assert sorted(name for _, name, _ in runs(empty_database)) == sorted(BUILT_IN)


@pytest.fixture
def add_version(empty_database: Database) -> Iterator[Callable[[int], None]]:
    """Promote a version of a scorecard of one's own, beside the built-in ones."""

    def add(version: int) -> None:
        with empty_database.unit_of_work() as session:
            scorecards.register(
                session,
                name="disclosure",
                version=version,
                instructions=f"Was the call's recording told? Version {version}.",
                output_schema={
                    "type": "object",
                    "properties": {"told": {"type": "boolean"}},
                    "required": ["told"],
                    "additionalProperties": False,
                },
                kind="custom",
            )
            scorecards.promote(session, "disclosure", version)

    yield add
    with empty_database.unit_of_work() as session:
        session.execute(text("TRUNCATE calls CASCADE"))
        session.execute(text("DELETE FROM scorecards WHERE name = 'disclosure'"))


def reprocess(database: Database, call_id: int, *names: str) -> None:
    with database.unit_of_work() as session:
        calls.reprocess(session, [call_id], "analyze", scorecards=names or None)


def test_a_version_that_is_asked_for_while_the_earlier_one_is_scored_is_scored_too(
    empty_database: Database,
    add_transcribed: AddTranscribed,
    add_version: Callable[[int], None],
    analyze: Analyze,
    engine: DiffusionEngine,
) -> None:
    add_version(1)
    call_id = add_transcribed("one", scorecards=("disclosure",))

    class IsOvertaken(EngineDouble):
        is_first = True

        def step(self) -> list[BranchResult]:
            if self.is_first:
                add_version(2)
                reprocess(empty_database, call_id, "disclosure")
            self.is_first = False
            return super().step()

    analyze(IsOvertaken(engine))
    versions = "SELECT version FROM analysis_runs JOIN scorecards ON scorecards.id = scorecard_id"
    assert fetch(empty_database, f"{versions} ORDER BY version") == [(1,), (2,)]
    assert fetch(empty_database, "SELECT scorecard, scorecard_version FROM current_runs") == [
        ("disclosure", 2)
    ]
    assert fetch(empty_database, "SELECT status FROM call_status") == [("scored",)]


def test_a_call_that_is_asked_for_while_it_is_scored_is_scored_once_more(
    empty_database: Database,
    add_transcribed: AddTranscribed,
    analyze: Analyze,
    engine: DiffusionEngine,
) -> None:
    call_id = add_transcribed("one")

    class IsAskedFor(EngineDouble):
        is_first = True

        def step(self) -> list[BranchResult]:
            if self.is_first:
                reprocess(empty_database, call_id)
            self.is_first = False
            return super().step()

    analyze(IsAskedFor(engine))
    assert len(runs(empty_database)) == 2 * len(BUILT_IN)
    assert fetch(empty_database, "SELECT state, attempts FROM jobs") == [("done", 1), ("done", 1)]


def test_what_was_stored_under_another_setting_is_made_anew(
    empty_database: Database,
    add_transcribed: AddTranscribed,
    analyze: Analyze,
    engine: DiffusionEngine,
) -> None:
    call_id = add_transcribed("one")
    analyze_earlier = Analyzer(
        empty_database,
        Settings(commit_threshold=0.5),
        BreaksAfterTheFirstRecord(engine),  # type: ignore[arg-type]
    )
    with empty_database.unit_of_work() as session:
        lease = queue.claim(session, "analyze", worker="earlier", limit=1, policy=POLICY)
    assert lease is not None
    with pytest.raises(RuntimeError):
        analyze_earlier.work(lease)
    reprocess(empty_database, call_id)
    with empty_database.unit_of_work() as session:
        queue.release(session, lease.token, lease.ids)
    analyze(engine)
    thresholds = fetch(
        empty_database,
        "SELECT DISTINCT run.provenance->>'threshold' FROM analysis_runs run "
        "JOIN current_runs ON run_id = run.id",
    )
    assert thresholds == [(str(Settings().commit_threshold),)]
    assert len(runs(empty_database)) == 1 + len(BUILT_IN)


def test_a_call_whose_lease_is_lost_does_not_take_its_batch_along(
    empty_database: Database,
    add_transcribed: AddTranscribed,
    analyze: Analyze,
    engine: DiffusionEngine,
    settings: Settings,
) -> None:
    lost, kept = add_transcribed("lost"), add_transcribed("kept")
    with empty_database.unit_of_work() as session:
        lease = queue.claim(session, "analyze", worker="slow", limit=2, policy=POLICY)
    assert lease is not None
    taken = next(job for job in lease.jobs if job.call_id == lost)
    with empty_database.unit_of_work() as session:
        queue.release(session, lease.token, [taken.id])
    Analyzer(empty_database, settings, engine).work(lease)
    assert {call for call, _, _ in runs(empty_database)} == {kept}
    assert {call: state for call, (state, _) in job_states(empty_database).items()} == {
        lost: "ready",
        kept: "done",
    }


def test_a_job_without_a_promoted_scorecard_says_so(
    empty_database: Database,
    add_transcribed: AddTranscribed,
    analyze: Analyze,
    engine: DiffusionEngine,
) -> None:
    call_id = add_transcribed("one")
    with empty_database.unit_of_work() as session:
        session.execute(text("UPDATE scorecards SET status = 'retired'"))
    analyze(engine)
    assert job_states(empty_database)[call_id] == ("dead", 3)
    [(error,)] = fetch(empty_database, "SELECT last_error FROM jobs")
    assert "no promoted scorecard" in error


def test_the_tokens_of_the_calls_bound_a_batch(
    empty_database: Database, add_transcribed: AddTranscribed, settings: Settings
) -> None:
    for name in ("one", "two", "three"):
        add_transcribed(name, tokens=400)
    batches: list[int] = []

    def note(lease: Lease) -> None:
        batches.append(len(lease.jobs))
        for job in lease.jobs:
            with empty_database.unit_of_work() as session:
                queue.finish(session, lease.token, job.id)

    claim = Claim(limit=8, token_budget=1_000)
    drain(empty_database, "analyze", note, claim=claim, policy=POLICY, seconds=60)
    assert batches == [2, 1]
