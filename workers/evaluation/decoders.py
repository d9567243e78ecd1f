"""Decoders that evaluation can run: the engine, and the plain reference that nothing constrains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from inference.diffusion import BranchResult, DiffusionEngine
from inference.diffusion.checkpoint import load_model, resolve_checkpoint
from inference.diffusion.config import LladaConfig
from inference.diffusion.prompt import build_prompt
from inference.diffusion.reference import DecodedCanvas, decode_canvases
from inference.diffusion.request import BranchSpec, CallRequest
from inference.diffusion.structured.scaffold import Scaffold, compile_scaffold
from inference.diffusion.tokenizer import DiffusionTokenizer
from workers.evaluation.text import Answer, Decode, SlotEffort
from workers.fingerprints import fingerprint, model_digest

ONE_BY_ONE = 2.0  # above every probability: only the best position of each step is committed
# Calls decoded together by the reference: on a CPU more gains nothing, on a GPU 128 embedded ones take some 4 GiB.
REFERENCE_BATCH = {"cpu": 32, "cuda": 128}


class Decoder(Protocol):
    """A loaded model that fills in records."""

    def fingerprint(self, threshold: float | None) -> str:
        """Tells this model, decoded this way, from any other."""

    def at(self, threshold: float | None) -> Decode:
        """Decoding with commits at this confidence; None: one token per step."""


class EngineDecoder:
    """The engine, as the service runs it."""

    def __init__(
        self, checkpoint: str | Path, *, device: str = "auto", max_batch_tokens: int = 16_384
    ) -> None:
        self._checkpoint = checkpoint
        self._device = device
        self._max_batch_tokens = max_batch_tokens

    def fingerprint(self, threshold: float | None) -> str:
        """See Decoder."""
        return self._engine(threshold).fingerprint

    def at(self, threshold: float | None) -> Decode:
        """See Decoder. Loads the checkpoint: raises CheckpointError, ConfigError or TokenizerError."""
        engine = self._engine(threshold)

        def decode(requests: Sequence[CallRequest]) -> Iterator[Answer]:
            return map(_answer, engine.generate(requests))

        return decode

    def _engine(self, threshold: float | None) -> DiffusionEngine:
        return DiffusionEngine.load(
            self._checkpoint,
            device=self._device,
            threshold=ONE_BY_ONE if threshold is None else threshold,
            max_batch_tokens=self._max_batch_tokens,
        )


def _answer(result: BranchResult) -> Answer:
    efforts = {p: SlotEffort(len(steps), max(steps)) for p, steps in result.commit_steps.items()}
    return Answer(
        result.call_id, result.name, result.value, result.num_steps, result.num_tokens, efforts
    )


@dataclass(frozen=True, slots=True)
class PlainCanvas:
    """A canvas as the plain decoder left it."""

    call_id: str
    scaffold: Scaffold
    canvas: DecodedCanvas


class ReferenceDecoder:
    """The plain decoder in float32, with slots that may hold any text: what a checkpoint can do without the engine."""

    def __init__(self, checkpoint: str | Path, *, device: str = "auto") -> None:
        """Load a checkpoint directory or hub id. Raises CheckpointError, ConfigError or TokenizerError."""
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._directory = resolve_checkpoint(checkpoint)
        self._config = LladaConfig.load(self._directory)
        self._tokenizer = DiffusionTokenizer.load(self._directory, self._config)
        self._model = load_model(self._directory, device=device)
        self._batch = REFERENCE_BATCH[device]

    def fingerprint(self, threshold: float | None) -> str:
        """See Decoder."""
        settings = {"decoder": "reference", "threshold": threshold}
        return fingerprint({"weights": model_digest(str(self._directory)), **settings})

    def at(self, threshold: float | None) -> Decode:
        """See Decoder."""
        return partial(self._decode, ONE_BY_ONE if threshold is None else threshold)

    def _decode(self, threshold: float, requests: Sequence[CallRequest]) -> Iterator[Answer]:
        for plain in self.canvases(threshold, requests):
            scaffold, canvas = plain.scaffold, plain.canvas
            efforts = {
                span.slot.pointer: SlotEffort(
                    span.num_tokens, max(canvas.steps[span.start : span.start + span.num_tokens])
                )
                for span in scaffold.spans
            }
            yield Answer(
                plain.call_id,
                scaffold.name,
                _value(scaffold, canvas.tokens),
                canvas.num_steps,
                len(scaffold.slot_positions()),
                efforts,
            )

    def canvases(self, threshold: float, requests: Sequence[CallRequest]) -> Iterator[PlainCanvas]:
        """The finished canvases of all calls, in any order; all calls ask for the same records."""
        # Neighbours in length share a batch, or short calls would pay for the padding of long ones.
        ordered = sorted(requests, key=lambda request: sum(map(len, request.turns)))
        for start in range(0, len(ordered), self._batch):
            batch = ordered[start : start + self._batch]
            for branches in zip(*(request.branches for request in batch), strict=True):
                yield from self._decode_branch(threshold, batch, branches[0])

    def _decode_branch(
        self, threshold: float, batch: Sequence[CallRequest], branch: BranchSpec
    ) -> Iterator[PlainCanvas]:
        scaffold = compile_scaffold(
            branch.schema,
            self._tokenizer,
            instructions=branch.instructions,
            name=branch.name,
            num_turns=max(len(request.turns) for request in batch),
        )
        room = self._config.max_sequence_length - scaffold.num_tokens
        prompts = [
            build_prompt(self._tokenizer, request.turns, max_tokens=room).token_ids
            for request in batch
        ]
        canvases = decode_canvases(
            self._model,
            self._tokenizer,
            prompts,
            scaffold,
            threshold=threshold,
            dtype=torch.float32,
        )
        for request, canvas in zip(batch, canvases, strict=True):
            yield PlainCanvas(request.call_id, scaffold, canvas)


def _value(scaffold: Scaffold, tokens: Sequence[int]) -> dict[str, object] | None:
    try:
        return scaffold.decode_value(tokens)
    except ValueError:
        return None  # the text is outside its slot's language: no record, which is measured as such
