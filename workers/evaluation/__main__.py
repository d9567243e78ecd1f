"""Evaluate a checkpoint on text where there is no CLI: `python -m workers.evaluation CHECKPOINT > report.json`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from workers.evaluation.decoders import Decoder, EngineDecoder, ReferenceDecoder
from workers.evaluation.report import EvaluationReport
from workers.evaluation.run import run_steps, run_text
from workers.evaluation.text_sets import EVALUATION_SEED, TEXT_SETS


def main(argv: Sequence[str] | None = None) -> None:
    """Measure on the text sets, then by commit threshold; the report goes to standard output as JSON."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("checkpoint", help="checkpoint directory or hub id")
    options.add_argument("--calls", type=int, default=1_000, help="in each text set; 0: none")
    options.add_argument(
        "--set",
        dest="sets",
        action="append",
        choices=[text_set.name for text_set in TEXT_SETS],
        help="this text set only; may be given more than once",
    )
    options.add_argument(
        "--steps-calls", type=int, default=100, help="by commit threshold; 0: none"
    )
    options.add_argument("--threshold", type=float, default=0.9, help="commit at this confidence")
    options.add_argument("--seed", type=int, default=EVALUATION_SEED)
    options.add_argument("--device", default="auto", help="auto, cpu or cuda")
    options.add_argument(
        "--reference", action="store_true", help="the plain decoder instead of the engine"
    )
    chosen = options.parse_args(argv)
    kind = ReferenceDecoder if chosen.reference else EngineDecoder
    decoder: Decoder = kind(chosen.checkpoint, device=chosen.device)
    report = EvaluationReport(
        seed=chosen.seed,
        models={
            "dllm": {
                "name": chosen.checkpoint,
                "fingerprint": decoder.fingerprint(chosen.threshold),
            }
        },
        settings={"threshold": chosen.threshold, "decoder": kind.__name__},
        text=run_text(
            decoder,
            num_calls=chosen.calls,
            threshold=chosen.threshold,
            seed=chosen.seed,
            tell=_tell,
            text_sets=[one for one in TEXT_SETS if chosen.sets is None or one.name in chosen.sets],
        )
        if chosen.calls
        else (),
        steps=run_steps(decoder, num_calls=chosen.steps_calls, seed=chosen.seed, tell=_tell)
        if chosen.steps_calls
        else (),
    )
    json.dump(report.to_json(), sys.stdout)
    sys.stdout.write("\n")


def _tell(what: str) -> None:
    sys.stderr.write(f"{what}\n")


if __name__ == "__main__":
    main()
