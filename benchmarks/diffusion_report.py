"""The results of `benchmarks.diffusion` as Markdown tables: `python -m benchmarks.diffusion_report FILE`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Column = tuple[str, Callable[[dict[str, Any]], str]]


def describe(report: dict[str, Any]) -> str:
    """All that was measured, each figure in the row of its check."""
    machine = report["machine"]
    parts = [
        f"{report['device']}, torch {report['torch']}; large products {machine['tflops']:.0f} TFLOP/s,"
        f" copies {machine['gb_per_s']:.0f} GB/s",
    ]
    for title, key, columns in TABLES:
        if rows := [row for row in report.get(key, []) if "error" not in row]:
            parts.append(f"**{title}**\n\n{_table(columns(report), rows)}")
    parts += [f"Not measured: {error}" for error in report.get("errors", [])]
    return "\n\n".join(parts) + "\n"


def _engine(report: dict[str, Any]) -> list[Column]:
    return [
        ("tokens per call and forward", lambda row: f"{row['tokens_per_call_and_forward']:.1f}"),
        ("live calls", lambda row: str(row["num_live"])),
        ("calls/s", lambda row: f"{row['calls_per_s']:.2f}"),
        ("calls/s, places full", lambda row: _number(row["steady_calls_per_s"], "{:.2f}")),
        ("latency p50", lambda row: f"{1e3 * row['latency_p50_s']:.0f} ms"),
        ("p95", lambda row: f"{1e3 * row['latency_p95_s']:.0f} ms"),
        ("step", lambda row: f"{row['step_ms']:.1f} ms"),
        ("of the roofline", lambda row: f"{100 * row['roofline']['fraction']:.0f} %"),
        ("records right", _right),
    ]


def _autoregressive(report: dict[str, Any]) -> list[Column]:
    return [
        ("batch", lambda row: str(row["batch"])),
        ("attention", lambda row: row["attention"].removesuffix("_attention")),
        ("prefill", lambda row: f"{1e3 * row['prefill_s']:.0f} ms"),
        ("decode step", lambda row: f"{row['step_ms']:.2f} ms"),
        ("latency", lambda row: f"{1e3 * row['latency_s']:.0f} ms"),
        ("calls/s", lambda row: f"{row['calls_per_s']:.2f}"),
        ("tokens right", _right),
    ]


def _published(report: dict[str, Any]) -> list[Column]:
    return [
        ("tokens per forward", lambda row: str(row["tokens_per_forward"])),
        ("forwards", lambda row: f"{row['forwards_per_call']:.0f}"),
        ("latency", lambda row: f"{1e3 * row['latency_s']:.0f} ms"),
        ("calls/s", lambda row: f"{row['calls_per_s']:.2f}"),
        ("all committed", _right),
    ]


def _profile(report: dict[str, Any]) -> list[Column]:
    profiles = report["profile"]
    ranges = sorted({name for row in profiles for name in row.get("gpu_ms_per_step", {})})

    def of(name: str) -> Callable[[dict[str, Any]], str]:
        return lambda row: _number(row["gpu_ms_per_step"].get(name), "{:.2f}")

    return [
        ("steps per record", lambda row: str(row["steps"])),
        ("live calls", lambda row: str(row["num_live"])),
        ("step, ms", lambda row: f"{row['step_ms']:.2f}"),
        *((name, of(name)) for name in ranges),
        ("host (GPU idle)", lambda row: f"{row['idle_ms_per_step']:.2f}"),
        ("idle", lambda row: f"{100 * row['idle_share']:.1f} %"),
        ("idle between steps", lambda row: f"{100 * row['idle_share_host']:.1f} %"),
    ]


def _alone(report: dict[str, Any]) -> list[Column]:
    return [
        ("deterministic", lambda row: "yes" if row["deterministic"] else "no"),
        ("calls together", lambda row: str(row["num_together"])),
        ("records compared", lambda row: str(row["num_records_compared"])),
        ("values that differ", lambda row: str(row["num_values_differing"])),
        ("values, steps or confidences", lambda row: str(row["num_results_differing"])),
        ("as promised", _right),
    ]


def _agreement(report: dict[str, Any]) -> list[Column]:
    return [
        ("slots", lambda row: str(row["num_slots"])),
        ("error of log confidence", lambda row: f"{row['log_confidence_rms_error']:.4f}"),
        (
            "of a plain forward of the same dtype",
            lambda row: f"{row['log_confidence_rms_error_plain']:.4f}",
        ),
        ("spread over slots", lambda row: f"{row['log_confidence_spread']:.4f}"),
        ("right", _right),
    ]


TABLES: tuple[tuple[str, str, Callable[[dict[str, Any]], list[Column]]], ...] = (
    ("The engine", "engine", _engine),
    ("An autoregressive decoder of the same size", "autoregressive", _autoregressive),
    ("The published decoding, one call at a time", "published", _published),
    ("Where a step's time goes, ms of the GPU", "profile", _profile),
    ("A call alone and among others", "alone_and_together", _alone),
    ("Step 1 against plain float32 forwards", "agreement", _agreement),
)


def _table(columns: Sequence[Column], rows: Iterable[dict[str, Any]]) -> str:
    lines = ["| " + " | ".join(name for name, _ in columns) + " |", "|---" * len(columns) + "|"]
    lines += [
        "| " + " | ".join(show(row) for _, show in columns) + " |"
        for row in rows
        if "note" not in row
    ]
    return "\n".join(lines)


def _right(row: dict[str, Any]) -> str:
    return "yes" if row["right"] else "NO"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


if __name__ == "__main__":
    sys.stdout.write(describe(json.loads(Path(sys.argv[1]).read_text())))
