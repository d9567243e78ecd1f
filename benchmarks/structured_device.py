"""Random records through the kernels: `python -m benchmarks.structured_device --records 10000 --out FILE`.

The constraint as a GPU serves it, on random logits: every schema of `structured_schemas.json`, 1 to 64 canvases live,
each replaced by another as soon as it is filled, a commit rule drawn at random every few hundred records or fewer. What
it writes is validated by `python -m benchmarks.structured --validate FILE --out FILE`, as a GPU machine need not have
the validators. On a CPU it takes TRITON_INTERPRET=1, and minutes for a few records.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.structured_workload import MAX_BATCH, SCHEMAS, batches, compile_all, load_tokenizer
from inference.diffusion.device.constraint import DeviceConstraint
from inference.diffusion.kernels.naive import head_reduce_classes
from inference.diffusion.rules import CommitRule, Doubt, Factor, Joint, Quota, Threshold
from inference.diffusion.structured.scaffold import Scaffold
from inference.diffusion.structured.table_store import TableStore
from inference.diffusion.tokenizer import DiffusionTokenizer

RECORDS_PER_SEAT, FEWEST_RECORDS = (
    6,
    12,
)  # under one rule: few canvases at a time take as many steps as many do
WIDTH = 16  # of the random head: enough for rows to disagree


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = load_tokenizer(None)
    scaffolds = compile_all(json.loads(SCHEMAS.read_text("utf-8")), tokenizer)
    filler = Filler(scaffolds, tokenizer, device, options.seed)
    started = time.perf_counter()
    records: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    queue = [name for batch in batches(scaffolds, options.records, options.seed) for name in batch]
    while queue:
        rule, num_live = filler.draw()
        count = max(RECORDS_PER_SEAT * num_live, FEWEST_RECORDS)
        taken, queue = queue[:count], queue[count:]
        num_steps = filler.num_steps
        records += filler.fill(taken, rule, num_live)
        steps = filler.num_steps - num_steps
        runs.append({"rule": repr(rule), "live": num_live, "records": len(taken), "steps": steps})
        print(runs[-1], flush=True)
    result = {
        "command": f"python -m benchmarks.structured_device {' '.join(sys.argv[1:])}",
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU, interpreted",
        "seconds": round(time.perf_counter() - started, 1),
        "runs": runs,
        "records": records,
    }
    options.out.write_text(json.dumps(result, ensure_ascii=False) + "\n", "utf-8")
    return 0


class Filler:
    """Fills canvases from random logits."""

    def __init__(
        self,
        scaffolds: list[Scaffold],
        tokenizer: DiffusionTokenizer,
        device: torch.device,
        seed: int,
    ) -> None:
        self._tokenizer, self._device = tokenizer, device
        self._room = max(scaffold.num_tokens for scaffold in scaffolds)
        self._store = TableStore(len(tokenizer.token_bytes), device)
        self._dice = random.Random(seed)
        self._generator = torch.Generator(device).manual_seed(seed)
        self.num_steps = 0

    def draw(self) -> tuple[CommitRule, int]:
        """A rule, and how many canvases are to be live."""
        dice = self._dice
        rules: list[CommitRule] = [
            Threshold(dice.random()),
            Factor(2 * dice.random()),
            Joint(dice.random()),
            Doubt(dice.random()),
            Quota(dice.randint(1, 12)),
            Quota(num_steps=dice.randint(1, 40)),
        ]
        return dice.choice(rules), dice.choice([1, 2, 7, 16, 33, MAX_BATCH])

    def fill(
        self, scaffolds: list[Scaffold], rule: CommitRule, num_live: int
    ) -> Iterator[dict[str, Any]]:
        """Schema and value of every record."""
        waiting = list(reversed(scaffolds))
        tokens = torch.zeros(num_live * self._room, dtype=torch.int32, device=self._device)
        confidence = torch.ones(len(tokens), device=self._device)
        constraint = DeviceConstraint(
            num_places=len(tokens),
            max_canvases=num_live,
            store=self._store,
            pad_token_id=self._tokenizer.pad_token_id,
            mask_token_id=self._tokenizer.mask_token_id,
            rule=rule,
        )
        live: dict[int, Scaffold] = {}
        while waiting or live:
            while waiting and (free := set(range(num_live)) - set(live)):
                seat, scaffold = free.pop(), waiting.pop()
                start = seat * self._room
                constraint.seat(seat, scaffold, start)
                ids = torch.tensor(scaffold.tokens, dtype=torch.int32)
                tokens[start : start + scaffold.num_tokens] = ids.to(self._device)
                live[seat] = scaffold
            constraint.lay_out()
            self._step(constraint, tokens, confidence)
            num_masked = constraint.num_masked.tolist()
            for seat in [seat for seat in live if not num_masked[seat]]:
                scaffold, start = live.pop(seat), seat * self._room
                constraint.vacate(seat)
                filled = tokens[start : start + scaffold.num_tokens].tolist()
                yield {"schema": scaffold.name, "value": scaffold.decode_value(filled)}

    def _step(
        self, constraint: DeviceConstraint, tokens: torch.Tensor, confidence: torch.Tensor
    ) -> None:
        place = (tokens == self._tokenizer.mask_token_id).nonzero()[:, 0]
        sharpness = 4 * self._dice.random()
        reduction = head_reduce_classes(
            self._normal(len(place), WIDTH) * sharpness,
            self._normal(len(self._tokenizer.token_bytes), WIDTH),
            self._store.token_class,
            constraint.table_of_place[place],
            self._store.num_classes,
        )
        row_of_place = torch.full_like(tokens, -1)
        row_of_place[place] = torch.arange(len(place), dtype=torch.int32, device=self._device)
        constraint.step(reduction, row_of_place, tokens, confidence)
        self.num_steps += 1

    def _normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self._generator, device=self._device)


if __name__ == "__main__":
    sys.exit(main())
