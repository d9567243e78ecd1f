"""The analyze stage: a batch of transcripts in, one stored analysis run per call and scorecard out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import structlog
from pydantic import ValidationError

from analytics import records
from analytics.evidence import locate
from analytics.lead_score import LEAD_RULE
from analytics.scorecards import BUILT_IN
from db import queue
from db.errors import LeaseLostError
from db.queue import ClaimedJob, Lease
from db.repository import runs, scorecards, transcripts
from db.repository.runs import Concluded, NewRun, Result, ScoredLead, StoredEvidence
from db.repository.scorecards import StoredScorecard
from db.repository.transcripts import StoredTranscript
from db.session import Database
from inference.diffusion import BranchResult, BranchSpec, CallRequest, DiffusionEngine
from inference.diffusion.checkpoint import CheckpointError
from inference.diffusion.config import ConfigError
from inference.diffusion.tokenizer import TokenizerError
from workers.errors import ModelUnavailableError
from workers.fingerprints import code_version, fingerprint
from workers.settings import Settings

log = structlog.get_logger(__name__)

_MODELS = {scorecard.name: scorecard.record for scorecard in BUILT_IN}


@cache
def analyzer(database: Database, settings: Settings) -> Analyzer:
    """This process's analyzer; the model is loaded once. Raises ModelUnavailableError."""
    try:
        engine = DiffusionEngine.load(
            settings.dllm_model,
            device=settings.dllm_device,
            threshold=settings.commit_threshold,
            max_batch_tokens=settings.max_batch_tokens,
            prompt_cache=settings.prompt_cache,
            deterministic=settings.deterministic,
        )
    except (CheckpointError, ConfigError, TokenizerError) as error:
        raise ModelUnavailableError(
            f"cannot load the analysis model {settings.dllm_model!r} (AFTERCALL_DLLM_MODEL): {error}"
        ) from error
    return Analyzer(database, settings, engine)


@dataclass(slots=True)
class _OpenCall:
    """A call of the batch whose records are not all stored yet."""

    job: ClaimedJob
    transcript: StoredTranscript
    missing: dict[str, StoredScorecard] = field(default_factory=dict)


class NothingToAnalyzeError(Exception):
    """A job without a transcript or without a promoted scorecard: whoever asked for it did so too early."""


class Analyzer:
    """Works on jobs of the analyze stage."""

    def __init__(self, database: Database, settings: Settings, engine: DiffusionEngine) -> None:
        self._database = database
        self._settings = settings
        self._engine = engine

    def work(self, lease: Lease) -> None:
        """Score the calls of the batch, storing each record as soon as it is done; see `workers.drain`."""
        open_calls = self._read(lease)
        try:
            for call in list(open_calls.values()):
                if call.missing and not call.transcript.transcript.is_empty:
                    self._engine.add(_request(call))
                else:
                    nothing_said = self._nothing_said(call)
                    call.missing.clear()
                    self._store(lease, call, nothing_said)
            self._run(lease, open_calls)
        finally:
            self._engine.clear()

    def _read(self, lease: Lease) -> dict[int, _OpenCall]:
        with self._database.unit_of_work() as session:
            found = transcripts.current_transcripts(session, [job.call_id for job in lease.jobs])
            open_calls = {}
            for job in lease.jobs:
                wanted = scorecards.promoted(session, job.scorecards)
                if job.call_id not in found or not wanted:
                    lacks = "promoted scorecard" if job.call_id in found else "transcript"
                    raise NothingToAnalyzeError(f"call {job.call_id}: there is no {lacks}")
                transcript = found[job.call_id]
                stored = runs.concluded_in_job(session, job.id, transcript.id)
                missing = {
                    card.name: card
                    for card in wanted
                    if not self._is_concluded(transcript, card, stored)
                }
                open_calls[job.call_id] = _OpenCall(job, transcript, missing)
        return open_calls

    def _run(self, lease: Lease, open_calls: dict[int, _OpenCall]) -> None:
        since_last_result_ms = 0.0
        while self._engine.has_work:
            started = time.perf_counter()
            results = self._engine.step()
            since_last_result_ms += (time.perf_counter() - started) * 1000
            for result in results:
                call = open_calls[int(result.call_id)]
                card = call.missing.pop(result.name)
                share_ms = since_last_result_ms / len(results)
                self._store(lease, call, [self._to_run(call, card, result, engine_ms=share_ms)])
            if results:
                since_last_result_ms = 0.0

    def _nothing_said(self, call: _OpenCall) -> list[NewRun]:
        """A silent line has no summary and no mood; that is an answer, not a failure."""
        return [
            NewRun(
                call_id=call.job.call_id,
                transcript_id=call.transcript.id,
                scorecard_id=card.id,
                job_id=call.job.id,
                status="not_applicable",
                fingerprint=fingerprint(provenance),
                provenance=provenance,
            )
            for card in call.missing.values()
            for provenance in [self._provenance(call.transcript, card)]
        ]

    def _store(self, lease: Lease, call: _OpenCall, new_runs: list[NewRun]) -> None:
        """Append runs; with the last one of the call its job is finished in the same transaction.

        A call whose lease was lost is another worker's by now: its results are dropped, those of the others are not.
        """
        try:
            with self._database.unit_of_work() as session:
                queue.hold(session, lease.token, call.job.id)
                for run in new_runs:
                    runs.store_run(session, run)
                if not call.missing:
                    queue.finish(session, lease.token, call.job.id)
        except LeaseLostError as error:
            log.warning("lease lost, result discarded", call_id=call.job.call_id, error=str(error))
            return
        for run in new_runs:
            log.info(
                "scored",
                call_id=run.call_id,
                scorecard=run.provenance["scorecard"],
                run_status=run.status,
                error=run.error,
            )

    def _to_run(
        self, call: _OpenCall, card: StoredScorecard, result: BranchResult, *, engine_ms: float
    ) -> NewRun:
        provenance = self._provenance(call.transcript, card)
        if result.turns_kept is not None:
            provenance = {**provenance, "turns_kept": list(result.turns_kept)}
        validated: Result | None = None
        error = None
        try:
            validated = validate(card, result.value)
        except ValidationError as invalid:
            error = (
                f"{invalid.error_count()} fields do not fit: {invalid.errors(include_url=False)}"
            )
        return NewRun(
            call_id=call.job.call_id,
            transcript_id=call.transcript.id,
            scorecard_id=card.id,
            job_id=call.job.id,
            status="ok" if error is None else "invalid",
            fingerprint=fingerprint(provenance),
            provenance=provenance,
            result=validated,
            evidence=evidence(result, call.transcript) if error is None else (),
            error=error,
            num_steps=result.num_steps,
            num_tokens=result.num_tokens,
            engine_ms=engine_ms,
        )

    def _is_concluded(
        self, transcript: StoredTranscript, card: StoredScorecard, stored: tuple[Concluded, ...]
    ) -> bool:
        """Whether what this worker would store is stored; a result knows more of its making than can be foreseen."""
        foreseen = self._provenance(transcript, card)
        return any(
            one.scorecard_id == card.id and foreseen.items() <= one.provenance.items()
            for one in stored
        )

    def _provenance(self, transcript: StoredTranscript, card: StoredScorecard) -> dict[str, Any]:
        provenance = {
            "transcript": transcript.fingerprint,
            "engine": self._engine.fingerprint,
            "model": self._settings.dllm_model,
            "threshold": self._settings.commit_threshold,
            "scorecard": f"{card.name} v{card.version}",
            "scorecard_digest": card.sha256,
            "code": code_version(),
        }
        if card.name == "lead_score" and card.kind == "builtin":
            provenance["rule"] = LEAD_RULE.version
        return provenance


def validate(card: StoredScorecard, value: Mapping[str, Any]) -> Result:
    """The record as its pydantic model, with the lead score computed. Raises pydantic's ValidationError.

    A custom scorecard's value was checked against its schema by construction; it is stored as it is.
    """
    if card.kind != "builtin":
        return value
    record = _MODELS[card.name].model_validate(value)
    if not isinstance(record, records.LeadFeatures):
        assert isinstance(record, records.Summary | records.Sentiment)
        return record
    lead = LEAD_RULE.score(record)
    return ScoredLead(record, lead.score, lead.tier, lead.reasons, lead.rule_version)


def evidence(result: BranchResult, stored: StoredTranscript) -> tuple[StoredEvidence, ...]:
    """Confidence and support of every top-level field of the record."""
    confidences = {pointer.removeprefix("/"): value for pointer, value in result.confidence.items()}
    cited = {found.field: found for found in locate(result.value, stored.transcript)}
    turns = {f"{name}_turn" for name in cited}
    found = []
    for name in result.value:
        if name in turns:
            continue
        support = cited.get(name)
        found.append(
            StoredEvidence(
                field=name,
                status=support.status if support is not None else "not_citable",
                confidence=confidences.get(name),
                turn_number=support.turn_number if support is not None else None,
                start_ms=support.start_ms if support is not None else None,
                end_ms=support.end_ms if support is not None else None,
            )
        )
    return tuple(found)


def _request(call: _OpenCall) -> CallRequest:
    branches = tuple(
        BranchSpec(card.name, card.instructions, card.output_schema)
        for card in call.missing.values()
    )
    return CallRequest(str(call.job.call_id), call.transcript.transcript.render(), branches)
