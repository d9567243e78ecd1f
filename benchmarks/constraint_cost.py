"""What the constraint adds to a denoising step on a GPU: `python -m benchmarks.constraint_cost --out FILE`.

Steps of 64 calls and of one, with three canvases each, at the shape of LLaDA-8B with random weights, measured with the
constraint and without it in one run. One layer of the trunk stands for all of them: its weights are many times the L2
cache. Times are of CUDA graphs. Before a time is taken, the confidences that the constraint proposes are compared with
those of the plain one. `--rehearse` runs tiny shapes on the CPU with TRITON_INTERPRET=1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor

from benchmarks.constraint_workload import (
    TINY,
    LargeVocabulary,
    StepSizes,
    random_block,
    schemas,
)
from benchmarks.measure import Job, Variant, measure
from inference.diffusion.device.constraint import DeviceConstraint
from inference.diffusion.kernels.attention import AttentionConfig, ragged_attention
from inference.diffusion.kernels.head import FusedHead
from inference.diffusion.kernels.naive import HeadReduction, OpenRows, head_reduce_classes
from inference.diffusion.kernels.vocabulary_layout import class_layout
from inference.diffusion.model import rope_tables
from inference.diffusion.rules import Quota
from inference.diffusion.structured.constraint import ConstraintBatch
from inference.diffusion.structured.scaffold import Scaffold, compile_scaffold
from inference.diffusion.structured.table_store import TableStore
from inference.diffusion.tokenizer import DiffusionTokenizer

CHECKPOINT = Path(__file__).parents[1] / "inference" / "checkpoints" / "dllm"
NUM_TURNS = 60
MASKED_SHARES = (1.0, 0.5, 0.2)  # at the start of decoding, and later
TINY_SHARES = (1.0, 0.9)
QUOTA = 8  # tokens per canvas and step; ranks are the most that a rule asks for
MAX_ERROR = 1e-3  # of a confidence; sums are taken in another order
ATTENTION = AttentionConfig(queries=128, keys=64, num_warps=8, num_stages=3)


class Step:
    """A batch of calls in the middle of decoding."""

    def __init__(self, sizes: StepSizes, device: torch.device) -> None:
        self.sizes, self.device = sizes, device
        tokenizer = LargeVocabulary(DiffusionTokenizer.read(CHECKPOINT), sizes.vocab)
        self.mask_token_id = tokenizer.mask_token_id
        self.records = [
            compile_scaffold(
                schema, tokenizer, instructions="Read off the call.", name=name, num_turns=NUM_TURNS
            )
            for name, schema in schemas(sizes.text_length).items()
        ]
        self.scaffolds: list[Scaffold] = self.records * sizes.num_calls
        lengths = torch.tensor([scaffold.num_tokens for scaffold in self.scaffolds])
        self.ends = lengths.cumsum(0)
        self.starts = self.ends - lengths
        self.num_places = int(self.ends[-1])
        self.store = TableStore(sizes.vocab, device)
        self.constraint = DeviceConstraint(
            num_places=self.num_places,
            max_canvases=len(self.scaffolds),
            store=self.store,
            pad_token_id=tokenizer.pad_token_id,
            mask_token_id=tokenizer.mask_token_id,
            rule=Quota(QUOTA),
        )
        for seat, (scaffold, start) in enumerate(
            zip(self.scaffolds, self.starts.tolist(), strict=True)
        ):
            self.constraint.seat(seat, scaffold, start)
        self.constraint.lay_out()
        ids = [token for scaffold in self.scaffolds for token in scaffold.tokens]
        self.tokens = torch.tensor(ids, dtype=torch.int32, device=device)
        self.confidence = torch.ones(self.num_places, device=device)
        self.generator = torch.Generator(device).manual_seed(0)
        weight = self._normal(sizes.vocab, sizes.d_model) * (2.5 * sizes.d_model**-0.5)
        self.plain_head = FusedHead(weight)
        layout = class_layout(self.store.token_class, self.store.num_classes)
        self.class_head = FusedHead(weight, layout)

    @property
    def place(self) -> Tensor:
        """Masked places."""
        return (self.tokens == self.mask_token_id).nonzero()[:, 0]

    def hidden(self) -> Tensor:
        return self._normal(len(self.place), self.sizes.d_model)

    def advance(self, masked_share: float) -> None:
        """Steps from random logits until at most this share of the slots' places is masked."""
        total = sum(len(scaffold.slot_positions()) for scaffold in self.scaffolds)
        while len(self.place) > masked_share * total:
            reduction, row_of_place = self._reduced()
            self.constraint.step(reduction, row_of_place, self.tokens, self.confidence)

    def _reduced(self) -> tuple[HeadReduction, Tensor]:
        """A reduction of random logits for every masked place, and the row of each place."""
        place = self.place
        row_of_place = torch.full((self.num_places,), -1, dtype=torch.int32, device=self.device)
        row_of_place[place] = torch.arange(len(place), dtype=torch.int32, device=self.device)
        table = self.constraint.table_of_place[place]
        reduction: HeadReduction = self.class_head(self.hidden(), table)
        return reduction, row_of_place

    def proposal_error(self) -> float:
        """How far confidences are from those of the plain constraint. No slot of these records depends on others."""
        reduction, row_of_place = self._reduced()
        place, tokens, confidence = self.place, self.tokens.clone(), self.confidence.clone()
        self.constraint.step(reduction, row_of_place, tokens, confidence)
        plain = ConstraintBatch(self.scaffolds, self.starts.tolist(), self.num_places, self.store)
        proposal = plain.propose(reduction, place, self.tokens.long(), plain.new_state())
        found = self.constraint.confidence_of_place[place]
        return float((found - proposal.confidence).abs().max())

    def head_error(self) -> float:
        """How far the class scores of a few rows are from those of the naive head."""
        few = slice(0, 32)
        hidden, table = self.hidden(), self.constraint.table_of_place[self.place]
        found = self.class_head(hidden, table)
        expected = head_reduce_classes(
            hidden[few],
            self.plain_head.weight,
            self.store.token_class,
            table[few],
            self.store.num_classes,
        )
        is_known = expected.token >= 0
        assert torch.equal(found.token[few] >= 0, is_known)
        return float((found.score[few] - expected.score)[is_known].abs().max())

    def parts(self) -> dict[str, Callable[[], Any]]:
        """Everything that a step does, with and without the constraint."""
        place, hidden = self.place, self.hidden()
        table = self.constraint.table_of_place[place]
        reduction, row_of_place = self._reduced()
        plain = self.plain_head(hidden)
        starts = self.starts.to(self.device)
        canvas = torch.searchsorted(self.ends.to(self.device), place, right=True)
        shape = (len(self.scaffolds), max(scaffold.num_tokens for scaffold in self.scaffolds))
        tokens, kept = self.tokens.clone(), self.confidence.clone()

        def constrained() -> None:
            tokens.copy_(self.tokens)
            self.constraint.step(reduction, row_of_place, tokens, kept)

        def plain_commit() -> None:
            """The most confident positions of every canvas, whatever is legal."""
            tokens.copy_(self.tokens)
            confidence = torch.full(shape, -1.0, device=self.device)
            choice = tokens.new_zeros(shape)
            confidence[canvas, place - starts[canvas]] = (plain.score - plain.lse).exp()
            choice[canvas, place - starts[canvas]] = plain.token.to(choice.dtype)
            most, best = confidence.topk(min(QUOTA, shape[1]), dim=1)
            at = (starts[:, None] + best).where(most >= 0, place[0])
            tokens[at] = choice.gather(1, best)
            kept[at] = most

        return {
            "layer": self._layer(place, hidden),
            "head, plain": lambda: self.plain_head(hidden),
            "commit, plain": plain_commit,
            "head, by class": lambda: self.class_head(hidden, table),
            "step, constrained": constrained,
        }

    def _layer(self, place: Tensor, hidden: Tensor) -> Callable[[], Tensor]:
        """One layer over the masked places; the caches hold prompts, then canvases."""
        sizes, num_calls = self.sizes, self.sizes.num_calls
        block = random_block(sizes, self.device)
        head_dim = sizes.d_model // sizes.n_heads
        prompt_rows = num_calls * sizes.prompt
        keys, values = (
            self._normal(prompt_rows + self.num_places, sizes.d_model).unflatten(1, (-1, head_dim))
            for _ in range(2)
        )
        call_starts = torch.cat([self.starts[:: len(self.records)], self.ends[-1:]])
        first_rows = torch.arange(num_calls) * sizes.prompt
        canvas = torch.searchsorted(self.ends.to(self.device), place, right=True)
        call_offsets = torch.searchsorted(place, call_starts.to(self.device))
        rows = OpenRows(
            call_offsets=call_offsets.int(),
            prompt_start=first_rows.int().to(self.device),
            prompt_end=(first_rows + sizes.prompt).int().to(self.device),
            row_canvas=canvas.int(),
            canvas_start=(self.starts + prompt_rows).int().to(self.device),
            canvas_end=(self.ends + prompt_rows).int().to(self.device),
        )
        most = int(call_offsets.diff().max())
        index = place + prompt_rows
        cos, sin = rope_tables(place % 2048, head_dim, 500_000.0)

        def layer() -> Tensor:
            q, k, v = block.project(hidden, cos, sin)
            keys[index], values[index] = k, v
            attended = ragged_attention(
                q,
                keys,
                values,
                rows,
                max_rows_per_call=most,
                max_prompt=sizes.prompt,
                config=ATTENTION,
            )
            return block.merge(hidden, attended)

        return layer

    def _normal(self, *shape: int) -> Tensor:
        x = torch.randn(shape, generator=self.generator, device=self.device)
        return x.to(self.sizes.dtype)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--rehearse", action="store_true", help="tiny shapes on the CPU")
    options = parser.parse_args()
    device = torch.device("cpu" if options.rehearse else "cuda")
    sizes = TINY if options.rehearse else StepSizes()
    name = "CPU" if options.rehearse else torch.cuda.get_device_name()
    result: dict[str, Any] = {
        "device": name,
        "torch": torch.__version__,
        "triton": triton.__version__,
    }
    with torch.inference_mode():
        result["batches"] = []
        for num_calls in (sizes.num_calls, 1) if sizes.num_calls > 1 else (1,):
            step = Step(replace(sizes, num_calls=num_calls), device)
            result["batches"].append({"num_calls": num_calls, "steps": []})
            for share in TINY_SHARES if options.rehearse else MASKED_SHARES:
                step.advance(share)
                measured = measure_step(step, device)
                result["batches"][-1]["steps"].append(measured)
                options.out.write_text(json.dumps(result, indent=1) + "\n")
                print(f"{num_calls} calls, {describe(measured)}", flush=True)
            del step
    return 0


def measure_step(step: Step, device: torch.device) -> dict[str, Any]:
    """Milliseconds of each part, and what the constraint adds to their sum."""
    error = step.proposal_error()
    assert error <= MAX_ERROR, f"confidences are {error} from those of the plain constraint"
    parts: dict[str, Any] = {}
    modes = {"eager": False} if device.type == "cpu" else {"graph": True, "eager": False}
    for name, call in step.parts().items():
        parts[name] = {
            mode: time_part(name, call, device, captured=captured)
            for mode, captured in modes.items()
        }
    times = {
        name: min(t for t in part.values() if isinstance(t, float)) for name, part in parts.items()
    }
    trunk = times["layer"] * step.sizes.n_layers
    off = trunk + times["head, plain"] + times["commit, plain"]
    on = trunk + times["head, by class"] + times["step, constrained"]
    return {
        "num_masked": len(step.place),
        "head_error": step.head_error(),
        "proposal_error": error,
        "graph_key": step.constraint.graph_key,
        "num_classes": step.store.num_classes,
        "num_tables": len(step.store.token_class),
        "num_groups": step.class_head.layout.num_groups,
        "parts_ms": parts,
        "step_without_ms": off,
        "step_with_ms": on,
        "added": on / off - 1,
    }


def time_part(
    name: str, call: Callable[[], Any], device: torch.device, *, captured: bool
) -> float | str:
    """Milliseconds, or why there are none."""
    job = Job(lambda _: call(), lambda _: None, captured=captured)
    try:
        milliseconds = measure(Variant("constraint", "", name, lambda: job), device)["ms"]
    except Exception as error:  # noqa: BLE001 -- what cannot be captured is a result
        return f"{type(error).__name__}: {str(error)[:200]}"
    assert isinstance(milliseconds, float)
    return milliseconds


def describe(step: dict[str, Any]) -> str:
    lines = [
        f"{step['num_masked']} masked rows, {step['num_tables']} tables of up to {step['num_classes']}"
        f" classes, {step['num_groups']} groups of tokens; scores within {step['head_error']:.3f}"
    ]
    for name, part in step["parts_ms"].items():
        times = [
            f"{mode} {t:9.3f} ms" if isinstance(t, float) else f"{mode}: {t[:60]}"
            for mode, t in part.items()
        ]
        lines.append(f"  {name:<22} {'   '.join(times)}")
    lines.append(
        f"  step without {step['step_without_ms']:.2f} ms, with {step['step_with_ms']:.2f} ms: "
        f"+{100 * step['added']:.1f} %"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
