"""Everything one evaluation measured, and with what: the JSON that `aftercall eval` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from analytics.evaluation.intervals import LEVEL, NUM_RESAMPLES
from workers.evaluation.steps import StepsRow
from workers.evaluation.text import BOOTSTRAP_SEED, SetReport

FORMAT_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """Everything one `aftercall eval` measured, and with what."""

    seed: int
    models: Mapping[str, Mapping[str, str]]  # "dllm" and "asr": name and fingerprint
    settings: Mapping[str, Any]
    text: Sequence[SetReport] = ()
    steps: Sequence[StepsRow] = ()
    speech: Sequence[SetReport] = ()
    end_to_end: Sequence[SetReport] = ()
    left_out: Mapping[str, str] = field(
        default_factory=dict
    )  # sets that could not be made, and why

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values: every measure with its interval and count."""
        return {
            "format": FORMAT_VERSION,
            "seed": self.seed,
            "models": {kind: dict(model) for kind, model in self.models.items()},
            "settings": dict(self.settings),
            "intervals": {"level": LEVEL, "resamples": NUM_RESAMPLES, "seed": BOOTSTRAP_SEED},
            "text": [_set_json(report) for report in self.text],
            "steps": [_steps_json(row) for row in self.steps],
            "speech": [_set_json(report) for report in self.speech],
            "end_to_end": [_set_json(report) for report in self.end_to_end],
            "left_out": dict(self.left_out),
        }


def _set_json(report: SetReport) -> dict[str, Any]:
    return {
        "name": report.name,
        "description": report.description,
        "calls": report.num_calls,
        "seconds_per_call": report.seconds / max(report.num_calls, 1),
        "measures": {key: asdict(estimate) for key, estimate in report.estimates.items()},
    }


def _steps_json(row: StepsRow) -> dict[str, Any]:
    return {
        "threshold": row.threshold,
        "calls": row.num_calls,
        "seconds_per_call": row.seconds / max(row.num_calls, 1),
        "measures": {key: asdict(estimate) for key, estimate in row.estimates.items()},
        "against_one_token_per_step": {
            key: asdict(estimate) for key, estimate in row.differences.items()
        },
    }
