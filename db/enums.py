"""The closed vocabularies of the tables. The schema checks each of them; see `db.models.base.one_of`."""

from __future__ import annotations

from typing import Literal, get_args

Direction = Literal["inbound", "outbound", "unknown"]

Verdict = Literal[
    "ok",
    "mono",
    "identical_channels",
    "silent_channel",
    "truncated",
    "too_long",
    "unsupported",
    "empty",
    "corrupt",
    "missing",
    "unreadable",
]
# A recording with one of these is not transcribed; the others are, and carry the verdict as a remark.
RejectingVerdict = Literal["too_long", "unsupported", "empty", "corrupt", "missing", "unreadable"]
REJECTING_VERDICTS: frozenset[str] = frozenset(get_args(RejectingVerdict))

Stage = Literal["transcribe", "analyze"]
JobState = Literal["ready", "leased", "done", "dead"]

# Derived by the view call_status, never stored: docs/decisions/0002-call-status-is-a-view.md.
CallStatus = Literal[
    "received", "transcribing", "transcribed", "analyzing", "scored", "rejected", "failed"
]

ScorecardKind = Literal["builtin", "custom"]
ScorecardStatus = Literal["draft", "candidate", "promoted", "retired"]

RunStatus = Literal["ok", "invalid", "not_applicable", "failed"]

# As analytics.evidence finds it, and not_citable where the scorecard asks for no evidence of the field.
EvidenceStatus = Literal["supported", "no_turn", "unknown_turn", "not_citable"]
