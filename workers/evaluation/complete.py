"""A whole evaluation of the models that the settings name."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Final, Literal

from inference.speech import SpeechRecognizer
from workers.evaluation.decoders import EngineDecoder
from workers.evaluation.report import EvaluationReport
from workers.evaluation.run import Tell, run_steps, run_text
from workers.evaluation.run_speech import HeardSets, run_end_to_end, run_speech
from workers.evaluation.speech import Transcribe
from workers.evaluation.speech_sets import KNOWN_SET, SPEECH_SETS
from workers.evaluation.steps import StepsRow
from workers.evaluation.text import SetReport
from workers.fingerprints import code_version, model_digest
from workers.settings import Settings

Part = Literal["text", "steps", "speech", "end-to-end"]

_READ: Final[frozenset[Part]] = frozenset({"text", "steps", "end-to-end"})
_HEARD: Final[frozenset[Part]] = frozenset({"speech", "end-to-end"})


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, on how many calls: in each text set, by commit threshold, and in each speech set.

    `processes` speak and hear side by side, each on one thread.
    """

    parts: frozenset[Part]
    calls: int
    steps_calls: int
    audio_calls: int
    seed: int
    processes: int = 1


def evaluate(plan: Plan, chosen: Settings, tell: Tell) -> EvaluationReport:
    """Measure the parts of the plan. Only the models that these parts need are loaded.

    Raises CheckpointError, ConfigError, TokenizerError or SpeechModelError when a model cannot be loaded.
    """
    threshold = chosen.commit_threshold
    decoder = EngineDecoder(
        chosen.dllm_model, device=chosen.dllm_device, max_batch_tokens=chosen.max_batch_tokens
    )
    text: list[SetReport] = []
    steps: list[StepsRow] = []
    end_to_end: list[SetReport] = []
    sets = HeardSets()
    if "text" in plan.parts:
        text = run_text(
            decoder, num_calls=plan.calls, threshold=threshold, seed=plan.seed, tell=tell
        )
    if "steps" in plan.parts:
        steps = run_steps(decoder, num_calls=plan.steps_calls, seed=plan.seed, tell=tell)
    if plan.parts & _HEARD:
        sets = run_speech(
            partial(_transcriber, chosen, plan.processes),
            num_calls=plan.audio_calls,
            seed=plan.seed,
            tell=tell,
            processes=plan.processes,
            speech_sets=SPEECH_SETS if "speech" in plan.parts else (KNOWN_SET,),
        )
    if "end-to-end" in plan.parts:
        end_to_end = run_end_to_end(decoder, sets, threshold=threshold, tell=tell)
    return EvaluationReport(
        seed=plan.seed,
        models=_models(plan, decoder, chosen),
        settings={
            "threshold": threshold,
            "device": chosen.dllm_device,
            "asr_compute_type": chosen.asr_compute_type,
            "code": code_version(),
            "plan": {**asdict(plan), "parts": sorted(plan.parts)},
        },
        text=text,
        steps=steps,
        speech=sets.reports,
        end_to_end=end_to_end,
        left_out=sets.left_out,
    )


def _models(plan: Plan, decoder: EngineDecoder, chosen: Settings) -> dict[str, dict[str, str]]:
    models = {}
    if plan.parts & _READ:
        fingerprint = decoder.fingerprint(chosen.commit_threshold)
        models["dllm"] = {"name": chosen.dllm_model, "fingerprint": fingerprint}
    if plan.parts & _HEARD:
        digest = model_digest(chosen.asr_model)
        models["asr"] = {"name": chosen.asr_model, "fingerprint": digest}
    return models


def _transcriber(chosen: Settings, processes: int) -> Transcribe:
    recognizer = SpeechRecognizer(
        chosen.asr_model,
        device=chosen.asr_device,
        compute_type=chosen.asr_compute_type,
        language=chosen.language,
        num_threads=1 if processes > 1 else 0,
    )
    return recognizer.transcribe
