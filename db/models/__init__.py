"""The tables."""

from db.models.analysis import AnalysisRun, FieldEvidence, Scorecard
from db.models.base import Base
from db.models.calls import Call, Recording
from db.models.jobs import Job
from db.models.records import LeadRecord, SentimentRecord, SummaryRecord
from db.models.transcripts import CallMetrics, TranscriptRow, TurnRow

__all__ = [
    "AnalysisRun",
    "Base",
    "Call",
    "CallMetrics",
    "FieldEvidence",
    "Job",
    "LeadRecord",
    "Recording",
    "Scorecard",
    "SentimentRecord",
    "SummaryRecord",
    "TranscriptRow",
    "TurnRow",
]
