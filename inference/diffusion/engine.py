"""The engine: waiting calls enter, every step denoises all live canvases at once, finished records leave.

A call's prompt is encoded once, without its canvases in view; its keys and values are shared by one branch per record.
Each step computes only open positions: those still masked, and those committed in the step before, whose keys and
values are then final. On a machine without a GPU everything here is plain PyTorch.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from inference.diffusion.batch import Branch, Cohort, LiveCall, WaitingCall, calls_of
from inference.diffusion.checkpoint import load_model, resolve_checkpoint, tensor_files
from inference.diffusion.constraint import ConstraintBatch
from inference.diffusion.kernels.naive import head_reduce_classes
from inference.diffusion.memory import RowAllocator, Run
from inference.diffusion.model import CanvasSegment, LladaModel
from inference.diffusion.prompt import PROMPT_VERSION, build_prompt
from inference.diffusion.request import BranchResult, CallRequest
from inference.diffusion.rules import CommitRule, Threshold
from inference.diffusion.scaffold import Scaffold, compile_scaffold
from inference.diffusion.scheduler import admit
from inference.diffusion.slot_groups import TableStore
from inference.diffusion.tokenizer import DiffusionTokenizer

# Prompt tokens encoded between two denoising steps: about the work of a step of 16 calls, so that none waits long.
PREFILL_BUDGET = 4_096


class CallTooLargeError(ValueError):
    """A call needs more cache rows than the engine has, even alone; raise `max_batch_tokens`."""


class DiffusionEngine:
    """A loaded masked-diffusion model that fills in records, many calls at a time."""

    def __init__(
        self,
        model: LladaModel,
        tokenizer: DiffusionTokenizer,
        *,
        rule: CommitRule | None = None,
        max_batch_tokens: int = 16_384,
        weights_digest: str = "",
    ) -> None:
        """Set up the caches.

        Args:
            model: in evaluation mode, on the device to use.
            tokenizer: of the same checkpoint.
            rule: which positions are committed in a step; threshold 0.9 if not given.
            max_batch_tokens: rows of the key-value cache, for prompts and canvases together.
            weights_digest: identifies the weights in `fingerprint`.
        """
        self.tokenizer = tokenizer
        self._model = model
        self._rule = rule or Threshold()
        self._num_rows = max_batch_tokens
        self._device = model.head_weight.device
        self._rows = RowAllocator(max_batch_tokens)
        self._cache = model.new_cache(max_batch_tokens)
        self._tables = TableStore(model.config.embedding_size, self._device)
        self._tokens = torch.zeros(max_batch_tokens, dtype=torch.int64, device=self._device)
        self._positions = torch.zeros_like(self._tokens)
        self._confidence = torch.ones(max_batch_tokens, device=self._device)
        self._commit_step = torch.zeros_like(self._tokens)
        self._is_pending = torch.zeros(max_batch_tokens, dtype=torch.bool, device=self._device)
        self._waiting: deque[WaitingCall] = deque()
        self._cohorts: list[Cohort] = []
        self._num_live_calls = 0
        self.fingerprint = _fingerprint(weights_digest, self._rule)

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        device: str = "auto",
        threshold: float = 0.9,
        max_batch_tokens: int = 16_384,
    ) -> DiffusionEngine:
        """Load a checkpoint directory or hub id. Raises CheckpointError, ConfigError or TokenizerError.

        On a CPU the model computes in float32, on a GPU in bfloat16.
        """
        directory = resolve_checkpoint(source)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        model = load_model(directory, device=device, dtype=dtype).eval()
        return cls(
            model,
            DiffusionTokenizer.load(directory, model.config),
            rule=Threshold(threshold),
            max_batch_tokens=max_batch_tokens,
            weights_digest=_weights_digest(directory),
        )

    @property
    def has_work(self) -> bool:
        """Whether a call is waiting or live."""
        return bool(self._waiting or self._cohorts)

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
        longest = max(scaffold.num_tokens for scaffold in scaffolds)
        room = self._num_rows - sum(scaffold.num_tokens for scaffold in scaffolds)
        max_tokens = min(self._model.config.max_sequence_length - longest, room)
        if max_tokens <= 0:
            raise CallTooLargeError(
                f"call {request.call_id}: its records need {self._num_rows - room} cache rows, "
                f"the engine has {self._num_rows}"
            )
        prompt = build_prompt(self.tokenizer, request.turns, max_tokens=max_tokens)
        self._waiting.append(WaitingCall(request, prompt, scaffolds))

    @torch.inference_mode()
    def step(self) -> list[BranchResult]:
        """Admit what fits, denoise every live canvas once, and return the records that are now complete."""
        self._admit()
        hidden, place = self._denoise()
        self._commit(hidden, place)
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
        self._cohorts.clear()
        self._rows = RowAllocator(self._num_rows)
        self._num_live_calls = 0

    # schedule

    def _admit(self) -> None:
        """Move waiting calls into the batch and encode their prompts."""
        count = admit(
            [call.demand for call in self._waiting],
            free_rows=self._rows.num_free,
            prefill_budget=PREFILL_BUDGET,
            num_live=self._num_live_calls,
        )
        entering: list[Branch] = []
        for _ in range(count):
            branches = self._place(self._waiting[0])
            if branches is None:
                break
            self._waiting.popleft()
            entering += branches
        if entering:
            self._prefill(calls_of(entering))
            self._cohorts.append(self._new_cohort(entering))

    def _place(self, waiting: WaitingCall) -> list[Branch] | None:
        """The call's branches with rows for its prompt and canvases; None when the free rows are too scattered."""
        lengths = [len(waiting.prompt.token_ids), *(s.num_tokens for s in waiting.scaffolds)]
        runs: list[Run] = []
        for length in lengths:
            run = self._rows.allocate(length)
            if run is None:
                for taken in runs:
                    self._rows.free(taken)
                return None
            runs.append(run)
        call = LiveCall(waiting.request.call_id, waiting.prompt, runs[0])
        self._num_live_calls += 1
        return [
            Branch(call, scaffold, run)
            for scaffold, run in zip(waiting.scaffolds, runs[1:], strict=True)
        ]

    def _prefill(self, calls: Sequence[LiveCall]) -> None:
        lengths = [call.run.length for call in calls]
        token_ids = [token for call in calls for token in call.prompt.token_ids]
        positions = torch.cat([torch.arange(n, device=self._device) for n in lengths])
        rows = torch.cat([self._range(call.run) for call in calls])
        encoded = self._model.prefill(
            torch.tensor(token_ids, device=self._device), positions, lengths
        )
        self._cache.keys[:, rows] = encoded.keys
        self._cache.values[:, rows] = encoded.values

    def _new_cohort(self, branches: list[Branch]) -> Cohort:
        """Write the scaffolds into the token buffer and lay out the constraint over them."""
        longest = max(branch.run.length for branch in branches)
        places = torch.full((len(branches), longest), self._num_rows, device=self._device)
        for row, branch in zip(places, branches, strict=True):
            run = self._range(branch.run)
            row[: branch.run.length] = run
            self._tokens[run] = torch.tensor(branch.scaffold.tokens, device=self._device)
            self._positions[run] = run - branch.run.start + branch.call.run.length
            self._confidence[run] = 1.0
            self._is_pending[run] = True
        constraint = ConstraintBatch(
            [branch.scaffold for branch in branches],
            [branch.run.start for branch in branches],
            self._num_rows,
            self._tables,
        )
        return Cohort(branches, constraint, constraint.new_state(), places)

    # denoise

    def _denoise(self) -> tuple[Tensor, Tensor]:
        """One forward over all open positions.

        Returns:
            Hidden states of the masked positions `[num_masked, d_model]`, and their places `[num_masked]`.
        """
        segments, pieces = [], []
        for branch in self._live_branches():
            run, prompt = branch.run, branch.call.run
            open_places = self._range(run)[self._is_pending[run.start : run.end]]
            segments.append(
                CanvasSegment(len(open_places), prompt.start, prompt.end, run.start, run.end)
            )
            pieces.append(open_places)
            branch.num_steps += 1
        places = torch.cat(pieces)
        hidden = self._model.canvas_step(
            self._tokens[places],
            self._positions[places],
            places,
            segments,
            self._cache,
            self._cache,
        )
        is_masked = self._is_masked(self._tokens[places])
        self._is_pending[places] = is_masked
        # a position keeps the number of the last step in which it was masked: that one commits it
        step = torch.tensor([branch.num_steps for branch in self._live_branches()])
        counts = torch.tensor([segment.num_open for segment in segments])
        step_of_row = step.repeat_interleave(counts).to(self._device)
        self._commit_step[places[is_masked]] = step_of_row[is_masked]
        return hidden[is_masked], places[is_masked]

    # commit

    def _commit(self, hidden: Tensor, place: Tensor) -> None:
        """Fix tokens in every cohort: constrained confidences, the rule's choice, one legal path per slot."""
        first = 0
        for cohort in self._cohorts:
            count = self._num_masked(cohort)
            rows = slice(first, first + count)
            first += count
            if count:
                self._commit_cohort(cohort, hidden[rows], place[rows])

    def _commit_cohort(self, cohort: Cohort, hidden: Tensor, place: Tensor) -> None:
        constraint = cohort.constraint
        reduction = head_reduce_classes(
            hidden,
            self._model.head_weight,
            self._tables.token_class,
            constraint.table_of_place[place],
            self._tables.num_classes,
        )
        proposal = constraint.propose(reduction, place, self._tokens, cohort.state)
        chosen = self._choose(cohort, proposal.confidence, place)
        constraint.commit(proposal, chosen, self._tokens, self._confidence, cohort.state)

    def _choose(self, cohort: Cohort, confidence: Tensor, place: Tensor) -> Tensor:
        """The rule's choice among rows `[num_rows]`, taken branch by branch."""
        by_place = torch.zeros(self._num_rows + 1, device=self._device)
        by_place[place] = confidence
        per_branch = by_place[cohort.places]
        chosen = torch.zeros(self._num_rows + 1, dtype=torch.bool, device=self._device)
        chosen[cohort.places] = self._rule.choose(per_branch, per_branch > 0)
        return chosen[place]

    # collect

    def _collect(self) -> list[BranchResult]:
        """Records that have no masked position left.

        Rows are freed with the last branch of a cohort: its constraint still looks at those of the others.
        """
        results = []
        for cohort in self._cohorts:
            for number, branch in enumerate(cohort.branches):
                tokens = self._tokens[branch.run.start : branch.run.end]
                if number not in cohort.finished and not self._is_masked(tokens).any():
                    cohort.finished.add(number)
                    results.append(self._result(branch))
            if cohort.is_finished:
                self._release(cohort)
        self._cohorts = [cohort for cohort in self._cohorts if not cohort.is_finished]
        return results

    def _result(self, branch: Branch) -> BranchResult:
        run, scaffold = branch.run, branch.scaffold
        tokens = self._tokens[run.start : run.end].tolist()
        confidence = self._confidence[run.start : run.end].tolist()
        steps = self._commit_step[run.start : run.end].tolist()
        reading = scaffold.read_tokens(tokens)
        assert isinstance(reading.value, dict)
        return BranchResult(
            call_id=branch.call.call_id,
            name=scaffold.name,
            value=reading.value,
            confidence={
                pointer: self._slot_confidence(scaffold, index, tokens, confidence)
                for pointer, index in reading.slots.items()
            },
            commit_steps={
                pointer: tuple(steps[span.start : span.start + span.num_tokens])
                for pointer, index in reading.slots.items()
                for span in [scaffold.spans[index]]
            },
            num_steps=branch.num_steps,
            num_tokens=sum(span.num_tokens for span in scaffold.spans),
            turns_kept=branch.call.prompt.turns_kept,
        )

    def _slot_confidence(
        self, scaffold: Scaffold, index: int, tokens: list[int], confidence: list[float]
    ) -> float:
        """The least sure of the tokens that say the value, the PAD that ends it included."""
        span = scaffold.spans[index]
        lowest = 1.0
        for place in range(span.start, span.start + span.num_tokens):
            lowest = min(lowest, confidence[place])
            if tokens[place] == self.tokenizer.pad_token_id:
                break
        return lowest

    def _release(self, cohort: Cohort) -> None:
        for branch in cohort.branches:
            self._rows.free(branch.run)
        for call in cohort.calls:
            self._rows.free(call.run)
        self._num_live_calls -= len(cohort.calls)

    # shared

    def _live_branches(self) -> Iterator[Branch]:
        for cohort in self._cohorts:
            for number, branch in enumerate(cohort.branches):
                if number not in cohort.finished:
                    yield branch

    def _num_masked(self, cohort: Cohort) -> int:
        return sum(
            int(self._is_masked(self._tokens[branch.run.start : branch.run.end]).sum())
            for number, branch in enumerate(cohort.branches)
            if number not in cohort.finished
        )

    def _is_masked(self, tokens: Tensor) -> Tensor:
        return tokens == self.tokenizer.mask_token_id

    def _range(self, run: Run) -> Tensor:
        return torch.arange(run.start, run.end, device=self._device)


def _weights_digest(directory: Path) -> str:
    digest = hashlib.sha256()
    files = {directory / "config.json", directory / "tokenizer.json"}
    for path in sorted(files | set(tensor_files(directory).values())):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _fingerprint(weights_digest: str, rule: CommitRule) -> str:
    parts = {"weights": weights_digest, "rule": repr(rule), "prompt": PROMPT_VERSION}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
