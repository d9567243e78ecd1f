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

# supported: the turn exists. uncited: the field may cite a turn and does not. no_such_turn: it cites one that the
# transcript does not have. not_citable: the scorecard asks for no evidence of this field.
EvidenceStatus = Literal["supported", "uncited", "no_such_turn", "not_citable"]
