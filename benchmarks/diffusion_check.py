"""Whether the engine computes what the model says: step 1 against a plain forward, and a call alone against a batch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.diffusion_serve import ClosedLoop
from benchmarks.diffusion_workload import Workload
from inference.diffusion.engine import DiffusionEngine
from inference.diffusion.kernels.naive import head_reduce_classes
from inference.diffusion.model import LladaModel, attend_all
from inference.diffusion.request import BranchResult, CallRequest
from inference.diffusion.structured.constraint import ConstraintBatch
from inference.diffusion.structured.scaffold import Scaffold, compile_scaffold
from inference.diffusion.structured.table_store import TableStore

# The engine rounds in other places than a plain forward of the same dtype, but no more often.
TOLERATED_ERROR_RATIO = 2.0
TOLERATED_ERROR = 1e-3


def agreement(
    engine: DiffusionEngine, model: LladaModel, workload: Workload, requests: Sequence[CallRequest]
) -> dict[str, Any]:
    """Confidences of an engine that commits everything in step 1, against plain float32 forwards of the same canvases.

    For scale: the same error of a plain forward in the model's own dtype, and how far the confidences of different
    slots are apart.
    """
    results = list(engine.generate(requests))
    found = {(r.call_id, r.name): _logs(r.confidence) for r in results}
    wide, narrow = (
        {
            (call.call_id, scaffold.name): _logs(slots)
            for call in requests
            for scaffold, slots in _plain_confidences(model, workload, call, dtype)
        }
        for dtype in (torch.float32, workload.sizes.dtype)
    )
    truth = [value for key in wide for value in wide[key]]
    error = _rms(found[key][i] - v for key in wide for i, v in enumerate(wide[key]))
    plain_error = _rms(narrow[key][i] - v for key in wide for i, v in enumerate(wide[key]))
    return {
        "num_slots": len(truth),
        "log_confidence_rms_error": error,
        "log_confidence_rms_error_plain": plain_error,
        "log_confidence_spread": statistics.pstdev(truth),
        "right": error < max(TOLERATED_ERROR, TOLERATED_ERROR_RATIO * plain_error),
    }


def alone_and_together(
    engine: DiffusionEngine, requests: Sequence[CallRequest], chosen: Sequence[int]
) -> dict[str, Any]:
    """Serve all calls at once, then the chosen ones by themselves: how many records differ, and by how much."""
    together = _served(engine, requests, len(requests))
    alone = _served(engine, [requests[i] for i in chosen], 1)
    differing = [key for key in alone if alone[key] != together[key]]
    texts = [key for key in alone if alone[key].value != together[key].value]
    return {
        "num_together": len(requests),
        "num_records_compared": len(alone),
        "num_values_differing": len(texts),
        "num_results_differing": len(differing),  # in value, step or confidence
    }


def _served(
    engine: DiffusionEngine, requests: Sequence[CallRequest], num_live: int
) -> dict[tuple[str, str], BranchResult]:
    loop = ClosedLoop(engine, requests, num_live)
    loop.run()
    return {(result.call_id, result.name): result for result in loop.results}


@torch.inference_mode()
def _plain_confidences(
    model: LladaModel, workload: Workload, call: CallRequest, dtype: torch.dtype
) -> Iterator[tuple[Scaffold, dict[str, float]]]:
    """Per canvas of the call, the least confidence of each slot when all of it is committed in the first step."""
    device = model.head_weight.device
    prompt = torch.tensor(workload.prompts[call.call_id], device=device)
    cache: list[tuple[Tensor, Tensor]] = []

    def fill(_layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        cache.append((k, v))
        return attend_all(q, k, v)

    def extend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend_all(q, torch.cat([cache[layer][0], k]), torch.cat([cache[layer][1], v]))

    model.trunk(prompt, torch.arange(len(prompt), device=device), fill, dtype=dtype)
    for branch in call.branches:
        scaffold = compile_scaffold(
            branch.schema,
            workload.tokenizer,
            instructions=branch.instructions,
            name=branch.name,
            num_turns=len(call.turns),
        )
        tokens = torch.tensor(scaffold.tokens, device=device)
        positions = len(prompt) + torch.arange(len(tokens), device=device)
        hidden = model.trunk(tokens, positions, extend, dtype=dtype)
        yield scaffold, _committed(model, scaffold, tokens, hidden)


def _committed(
    model: LladaModel, scaffold: Scaffold, tokens: Tensor, hidden: Tensor
) -> dict[str, float]:
    store = TableStore(model.config.embedding_size, tokens.device)
    constraint = ConstraintBatch([scaffold], [0], len(tokens), store)
    place = (tokens == scaffold.tokenizer.mask_token_id).nonzero()[:, 0]
    reduction = head_reduce_classes(
        hidden[place],
        model.head_weight,
        store.token_class,
        constraint.table_of_place[place],
        store.num_classes,
    )
    state = constraint.new_state()
    proposal = constraint.propose(reduction, place, tokens, state)
    confidence = torch.ones(len(tokens), device=tokens.device)
    everything = torch.ones(len(place), dtype=torch.bool, device=tokens.device)
    constraint.commit(proposal, everything, tokens, confidence, state)
    return {
        span.slot.pointer: float(confidence[span.start : span.start + span.num_tokens].min())
        for span in scaffold.spans
    }


def _logs(confidence: dict[str, float]) -> list[float]:
    return [math.log(confidence[pointer]) for pointer in sorted(confidence)]


def _rms(errors: Iterator[float]) -> float:
    return math.sqrt(statistics.mean(error**2 for error in errors))
