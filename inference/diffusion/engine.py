"""The engine: waiting calls enter, every step denoises all live canvases at once, filled records leave.

A call's prompt is encoded once, without its canvases in view; its keys and values are shared by one branch per record.
Each step computes only open positions: those still masked, and those committed in the step before, whose keys and
values are then final. A runner does the computing: `DeviceRunner` on a GPU, `PlainRunner` elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import torch

from inference.diffusion.batch import Branch, LiveCall, WaitingCall
from inference.diffusion.checkpoint import load_model, resolve_checkpoint, tensor_files
from inference.diffusion.device.support import runs_kernels
from inference.diffusion.memory import RowAllocator, Run
from inference.diffusion.model import LladaModel
from inference.diffusion.plain_runner import PlainRunner
from inference.diffusion.prompt import PROMPT_VERSION, build_prompt
from inference.diffusion.request import BranchResult, CallRequest
from inference.diffusion.rules import CommitRule, Threshold
from inference.diffusion.runner import FilledCanvas, Runner
from inference.diffusion.scheduler import Room, admit
from inference.diffusion.structured.scaffold import Scaffold, compile_scaffold
from inference.diffusion.tokenizer import DiffusionTokenizer

PromptCache = Literal["frozen", "refresh", "off"]

# Prompt tokens encoded in one step, beside the open positions: about twice the work of those of 64 calls, so that none
# waits long.
PREFILL_BUDGET = 8_192
CANVASES_PER_CALL = 4  # of `max_batch_calls`; the built-in records are three


class CallTooLargeError(ValueError):
    """A call needs more of the engine than there is, even alone; the message says which setting to raise."""


class DiffusionEngine:
    """A loaded masked-diffusion model that fills in records, many calls at a time."""

    def __init__(
        self,
        model: LladaModel,
        tokenizer: DiffusionTokenizer,
        *,
        rule: CommitRule | None = None,
        max_batch_tokens: int = 16_384,
        max_batch_calls: int = 64,
        prompt_cache: PromptCache = "frozen",
        refresh_every: int = 8,
        deterministic: bool = False,
        use_kernels: bool | None = None,
        is_narrow: bool = False,
        weights_digest: str = "",
    ) -> None:
        """Set up the caches.

        Args:
            model: in evaluation mode, on the device to use.
            tokenizer: of the same checkpoint.
            rule: which positions are committed in a step; threshold 0.9 if not given.
            max_batch_tokens: rows of the key-value cache, for prompts and canvases together.
            max_batch_calls: calls that are denoised together, with up to four records each; more records, fewer calls.
            prompt_cache: "frozen": prompts are encoded once, without canvases in view, and shared by the records of a
                call. Exact for checkpoints that were trained so (`aftercall_prompt_isolated` in their config), an
                approximation for others. "refresh": every record has a prompt of its own, encoded anew with its canvas
                in view every `refresh_every` steps. "off": in every step, which is LLaDA's own decoding.
            refresh_every: steps.
            deterministic: the same bits for a call whatever calls with the same tables of token classes it is batched
                with, at the price that `docs/benchmarks.md` tells. For the kernels; plain PyTorch has no such option.
            use_kernels: run the Triton kernels; if not given, on a GPU that has the memory for their tiles.
            is_narrow: without kernels, multiply in bfloat16, see `PlainTrunk`.
            weights_digest: identifies the weights in `fingerprint`.
        """
        self.tokenizer = tokenizer
        self._model = model
        self._num_rows = max_batch_tokens
        self._max_canvases = CANVASES_PER_CALL * max_batch_calls
        rule = rule or Threshold()
        self._shares_prompt = prompt_cache == "frozen"
        every = {"frozen": None, "refresh": refresh_every, "off": 1}[prompt_cache]
        self._runner: Runner
        # Imported where it is used: there is no Triton outside Linux, and reading kernels takes a second.
        if runs_kernels(model.head_weight.device) if use_kernels is None else use_kernels:
            from inference.diffusion.device.runner import DeviceRunner

            self._runner = DeviceRunner(
                model,
                rule,
                num_rows=max_batch_tokens,
                max_canvases=self._max_canvases,
                pad_token_id=tokenizer.pad_token_id,
                mask_token_id=tokenizer.mask_token_id,
                refresh_every=every,
                deterministic=deterministic,
            )
        else:
            self._runner = PlainRunner(
                model,
                rule,
                num_rows=max_batch_tokens,
                mask_token_id=tokenizer.mask_token_id,
                refresh_every=every,
                is_narrow=is_narrow,
            )
        self._rows = RowAllocator(max_batch_tokens)
        self._waiting: deque[WaitingCall] = deque()
        self._live: list[LiveCall] = []
        self.fingerprint = _fingerprint(weights_digest, rule, every)

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        device: str = "auto",
        threshold: float = 0.9,
        max_batch_tokens: int = 16_384,
        max_batch_calls: int = 64,
        prompt_cache: PromptCache = "frozen",
        deterministic: bool = False,
        is_narrow: bool | None = None,
    ) -> DiffusionEngine:
        """Load a checkpoint directory or hub id. Raises CheckpointError, ConfigError or TokenizerError.

        On a GPU the model computes in bfloat16. On a CPU it computes in float32, but inside its blocks in bfloat16 if
        there are tiles for it (AMX) or `is_narrow` says so: with AVX512-BF16 alone that is slower.
        """
        directory = resolve_checkpoint(source)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        model = load_model(directory, device=device, dtype=dtype).eval()
        if is_narrow is None:
            is_narrow = torch.cpu._is_amx_tile_supported()
        is_narrow = is_narrow and device == "cpu"
        return cls(
            model,
            DiffusionTokenizer.load(directory, model.config),
            rule=Threshold(threshold),
            max_batch_tokens=max_batch_tokens,
            max_batch_calls=max_batch_calls,
            prompt_cache=prompt_cache,
            deterministic=deterministic,
            is_narrow=is_narrow,
            weights_digest=_weights_digest(directory) + (" bfloat16" if is_narrow else ""),
        )

    @property
    def has_work(self) -> bool:
        """Whether a call is waiting or live."""
        return bool(self._waiting or self._live)

    def add(self, request: CallRequest) -> None:
        """Let a call wait for its turn.

        A transcript that does not fit the model's positions beside the longest canvas is cut by turns, keeping head and
        tail. Raises SchemaError for a schema that cannot be guaranteed, PromptTooLongError, CallTooLargeError.
        """
        scaffolds = tuple(
            compile_scaffold(
                branch.schema,
                self.tokenizer,
                instructions=branch.instructions,
                name=branch.name,
                num_turns=len(request.turns),
            )
            for branch in request.branches
        )
        prompt = build_prompt(
            self.tokenizer, request.turns, max_tokens=self._prompt_room(request, scaffolds)
        )
        self._waiting.append(WaitingCall(request, prompt, scaffolds, self._shares_prompt))

    @torch.inference_mode()
    def step(self) -> list[BranchResult]:
        """Admit what fits, denoise every live canvas once, and return the records that are now known to be complete.

        On a GPU that is one step later: the device works on this step while the host reads what the last one did.
        """
        self._admit()
        if self._live:
            self._runner.denoise()
        return self._collect()

    def generate(self, requests: Iterable[CallRequest]) -> Iterator[BranchResult]:
        """Fill in the records of all requests, each yielded as soon as it is complete."""
        for request in requests:
            self.add(request)
        while self.has_work:
            yield from self.step()

    def clear(self) -> None:
        """Forget every waiting and live call."""
        self._waiting.clear()
        self._live.clear()
        self._runner.clear()
        self._rows = RowAllocator(self._num_rows)

    def _prompt_room(self, request: CallRequest, scaffolds: tuple[Scaffold, ...]) -> int:
        """Tokens that the call's prompt may have."""
        lengths = [scaffold.num_tokens for scaffold in scaffolds]
        room = self._num_rows - sum(lengths)
        if not self._shares_prompt:
            room //= len(lengths)
        max_tokens = min(self._model.config.max_sequence_length - max(lengths), room)
        if max_tokens <= 0:
            raise CallTooLargeError(
                f"call {request.call_id}: its records need {sum(lengths)} cache rows, "
                f"the engine has {self._num_rows}; raise max_batch_tokens"
            )
        if len(scaffolds) > self._max_canvases:
            raise CallTooLargeError(
                f"call {request.call_id}: {len(scaffolds)} records, the engine fills in "
                f"{self._max_canvases} at a time; raise max_batch_calls"
            )
        return max_tokens

    # schedule

    def _admit(self) -> None:
        """Move waiting calls into the batch, as many as fit."""
        num_live_canvases = sum(len(call.branches) for call in self._live)
        room = Room(self._rows.num_free, self._max_canvases - num_live_canvases, PREFILL_BUDGET)
        count = admit([call.demand for call in self._waiting], room, is_idle=not self._live)
        entering: list[LiveCall] = []
        while len(entering) < count and (call := self._place(self._waiting[0])) is not None:
            self._waiting.popleft()
            entering.append(call)
        if entering:
            self._runner.enter(entering)
            self._live += entering

    def _place(self, waiting: WaitingCall) -> LiveCall | None:
        """The call with rows for its prompt and canvases; None when the free rows are too scattered."""
        prompt = waiting.prompt.token_ids
        shared, own = (prompt, ()) if waiting.shares_prompt else ((), prompt)
        lengths = [len(shared), *(len(own) + s.num_tokens for s in waiting.scaffolds)]
        runs: list[Run] = []
        for length in lengths:
            run = self._rows.allocate(length)
            if run is None:
                for taken in runs:
                    self._rows.free(taken)
                return None
            runs.append(run)
        call = LiveCall(waiting.request.call_id, waiting.prompt, runs[0])
        for scaffold, run in zip(waiting.scaffolds, runs[1:], strict=True):
            call.branches.append(Branch(call, scaffold, run, own))
        return call

    # collect

    def _collect(self) -> list[BranchResult]:
        filled, leaving = self._runner.collect()
        for call in leaving:
            self._live.remove(call)
            for run in call.runs:
                self._rows.free(run)
        return [self._result(canvas) for canvas in filled]

    def _result(self, canvas: FilledCanvas) -> BranchResult:
        scaffold, call = canvas.branch.scaffold, canvas.branch.call
        reading = scaffold.read_tokens(canvas.tokens)
        assert isinstance(reading.value, dict)
        spans = {pointer: scaffold.spans[index] for pointer, index in reading.slots.items()}
        return BranchResult(
            call_id=call.call_id,
            name=scaffold.name,
            value=reading.value,
            confidence={
                pointer: self._confidence(canvas, span.start, span.start + span.num_tokens)
                for pointer, span in spans.items()
            },
            commit_steps={
                pointer: tuple(canvas.commit_step[span.start : span.start + span.num_tokens])
                for pointer, span in spans.items()
            },
            num_steps=max(canvas.commit_step),
            num_tokens=sum(span.num_tokens for span in scaffold.spans),
            turns_kept=call.prompt.turns_kept,
        )

    def _confidence(self, canvas: FilledCanvas, start: int, end: int) -> float:
        """The least sure of the tokens that say a slot's value, the PAD that ends it included."""
        lowest = 1.0
        for place in range(start, end):
            lowest = min(lowest, canvas.confidence[place])
            if canvas.tokens[place] == self.tokenizer.pad_token_id:
                break
        return lowest


def _weights_digest(directory: Path) -> str:
    digest = hashlib.sha256()
    files = {directory / "config.json", directory / "tokenizer.json"}
    for path in sorted(files | set(tensor_files(directory).values())):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _fingerprint(weights_digest: str, rule: CommitRule, refresh_every: int | None) -> str:
    parts: dict[str, object] = {
        "weights": weights_digest,
        "rule": repr(rule),
        "prompt": PROMPT_VERSION,
    }
    if refresh_every is not None:
        parts["refresh_every"] = refresh_every
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
