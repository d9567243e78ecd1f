"""The structured-output guarantee at scale: `python -m benchmarks.structured --records 10000 --out FILE`.

Random logits, random commit sets, batches of 1 to 64 canvases over every schema of `structured_schemas.json`, each
record validated under Draft 2020-12 with formats asserted, and by a pydantic model of the schema. Before that compile
times, cold and cached, for a vocabulary of LLaDA's size, and the plain PyTorch step. Ends with exit code 1 when a
record is invalid.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from benchmarks.structured_models import validator_of
from benchmarks.structured_workload import SCHEMAS, batches, compile_all, load_tokenizer
from inference.diffusion.kernels.naive import HeadReduction, head_reduce_classes
from inference.diffusion.structured.constraint import ConstraintBatch
from inference.diffusion.structured.random_records import random_records
from inference.diffusion.structured.table_store import TableStore
from inference.diffusion.tokenizer import DiffusionTokenizer

STEP_BATCHES = (1, 8, 64)  # canvases


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=10_000, help="0: times only")
    parser.add_argument(
        "--validate", type=Path, help="only validate what benchmarks.structured_device wrote"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--tokenizer", type=Path, help="a checkpoint directory; else one is trained"
    )
    parser.add_argument("--out", type=Path, help="where to write the JSON; else to standard output")
    options = parser.parse_args()
    torch.set_num_threads(1)
    schemas = json.loads(SCHEMAS.read_text("utf-8"))
    if options.validate:
        result = json.loads(options.validate.read_text("utf-8"))
        result["guarantee"] = validate(schemas, result.pop("records"))
    else:
        result = measured(schemas, options)
    text = json.dumps(result, indent=1, ensure_ascii=False)
    if options.out:
        options.out.write_text(text + "\n", "utf-8")
    else:
        sys.stdout.write(text + "\n")
    return 1 if result.get("guarantee", {}).get("invalid") else 0


def measured(schemas: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Times, and the guarantee in plain PyTorch."""
    tokenizer = load_tokenizer(options.tokenizer)
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.structured {' '.join(sys.argv[1:])}",
        "machine": platform.machine(),
        "vocabulary": len(tokenizer.token_bytes),
        "num_schemas": len(schemas),
        "compile_ms": compile_times(schemas),
        "step_ms": step_times(schemas, tokenizer),
    }
    if options.records:
        result["guarantee"] = guarantee(schemas, tokenizer, options.records, options.seed)
    return result


class WordTokenizer:
    """As many tokens as LLaDA has, of like kinds and lengths; text is encoded byte by byte."""

    def __init__(self, num_tokens: int = 126_464) -> None:
        dice = random.Random(0)
        pieces = dict.fromkeys(bytes([byte]) for byte in range(256))
        while len(pieces) < num_tokens - 2:
            pieces[self._piece(dice)] = None
        self.token_bytes = [*pieces, b"", b""]
        self.pad_token_id, self.mask_token_id = num_tokens - 2, num_tokens - 1

    def _piece(self, dice: random.Random) -> bytes:
        kind = dice.random()
        space = dice.choice([b" ", b""])
        if kind < 0.6:
            return space + bytes(dice.choices(b"etaoinshrdlucmfwypvbgkjqxz", k=dice.randint(2, 12)))
        if kind < 0.65:
            return bytes(dice.choices(b"0123456789", k=dice.randint(2, 3)))
        if kind < 0.75:
            return bytes(dice.choices(b'{}[]()",:;.!?-_/\\ \n\t=+*', k=dice.randint(2, 6)))
        first = dice.choice([0xC0, 0x400, 0x4E00, 0x1F300])
        text = "".join(chr(first + dice.randrange(64)) for _ in range(dice.randint(1, 4)))
        return space + text.encode()[: -dice.randint(1, 2) if kind > 0.95 else None]

    def encode(self, text: str) -> list[int]:
        return list(text.encode())


def validate(schemas: dict[str, Any], records: list[dict[str, Any]]) -> dict[str, Any]:
    """Count valid and invalid records."""
    validators = Validators(schemas)
    checked = Counter(record["schema"] for record in records)
    invalid = [
        record | {"errors": messages}
        for record in records
        if (messages := validators.complaints(record["schema"], record["value"]))
    ]
    return {
        "records": checked.total(),
        "schemas": len(checked),
        "fewest_per_schema": min(checked.values()),
        "invalid": len(invalid),
        "examples": invalid[:10],
    }


class Validators:
    """Draft 2020-12 with formats asserted, and a pydantic model, for each schema."""

    def __init__(self, schemas: dict[str, Any]) -> None:
        checker = Draft202012Validator.FORMAT_CHECKER
        self._schemas = {
            name: Draft202012Validator(exact(schema), format_checker=checker)
            for name, schema in schemas.items()
        }
        self._models = {name: validator_of(schema) for name, schema in schemas.items()}

    def complaints(self, name: str, value: Any) -> list[str]:
        """What is wrong with a record."""
        messages = [error.message for error in self._schemas[name].iter_errors(exact(value))]
        try:
            self._models[name].validate_json(json.dumps(value))
        except ValidationError as error:
            messages.append(str(error))
        return messages


def guarantee(
    schemas: dict[str, Any], tokenizer: DiffusionTokenizer, num_records: int, seed: int
) -> dict[str, Any]:
    """Count valid and invalid records."""
    store = TableStore(len(tokenizer.token_bytes), "cpu")
    records: list[dict[str, Any]] = []
    sizes: Counter[int] = Counter()
    started = time.perf_counter()
    for number, batch in enumerate(batches(compile_all(schemas, tokenizer), num_records, seed)):
        decoded = random_records(batch, seed=seed * 1_000_000 + number, store=store)
        sizes[len(batch)] += 1
        records += [
            {"schema": scaffold.name, "value": record.value}
            for scaffold, record in zip(batch, decoded, strict=True)
        ]
    counts = validate(schemas, records)
    return counts | {
        "batches_by_size": {str(size): sizes[size] for size in sorted(sizes)},
        "seconds": round(time.perf_counter() - started, 1),
    }


def exact(value: Any) -> Any:
    """JSON numbers as decimals: `multipleOf: 0.1` is about tenths, not about their nearest binary fractions."""
    return json.loads(json.dumps(value), parse_float=Decimal)


def compile_times(schemas: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds to compile each schema: with nothing cached but the vocabulary's arrays, and again."""
    words = WordTokenizer()
    cold: dict[str, float] = {}
    cached: list[float] = []
    for name, schema in schemas.items():
        tokenizer = copy.copy(words)  # another tokenizer to the caches
        compile_all({"": {"type": "object", "properties": {}}}, tokenizer)
        compile_it = partial(compile_all, {"x": schema}, tokenizer)
        cold[name] = elapsed_ms(compile_it)
        cached.append(elapsed_ms(compile_it))
    slowest = max(cold, key=lambda name: cold[name])
    return {
        "vocabulary": len(words.token_bytes),
        "cold_median": round(statistics.median(cold.values()), 2),
        "cold_max": round(cold[slowest], 1),
        "slowest": slowest,
        "cached_max": round(max(cached), 2),
    }


def elapsed_ms(call: Callable[[], object]) -> float:
    """CPU time, which is what passes on a machine that does nothing else."""
    started = time.process_time()
    call()
    return 1000 * (time.process_time() - started)


def step_times(schemas: dict[str, Any], tokenizer: DiffusionTokenizer) -> dict[str, float]:
    """Milliseconds of propose and commit in plain PyTorch, without the head, per number of canvases."""
    times = {}
    for count in STEP_BATCHES:
        scaffolds = compile_all({"x": schemas["quality_assurance"]}, tokenizer) * count
        store = TableStore(len(tokenizer.token_bytes), "cpu")
        length = scaffolds[0].num_tokens
        batch = ConstraintBatch(scaffolds, range(0, count * length, length), count * length, store)
        tokens = torch.tensor(scaffolds[0].tokens).repeat(count)
        place = (tokens == tokenizer.mask_token_id).nonzero()[:, 0]
        dice = torch.Generator().manual_seed(0)
        reduction = head_reduce_classes(
            torch.randn(len(place), 16, generator=dice),
            torch.randn(len(tokenizer.token_bytes), 16, generator=dice),
            store.token_class,
            batch.table_of_place[place],
            store.num_classes,
        )
        step = partial(propose_and_commit, batch, reduction, place, tokens)
        times[str(count)] = round(statistics.median(elapsed_ms(step) for _ in range(5)), 2)
    return times


def propose_and_commit(
    batch: ConstraintBatch, reduction: HeadReduction, place: torch.Tensor, tokens: torch.Tensor
) -> None:
    """One step on a copy of `tokens`: everything that is more likely than not is committed."""
    written, state = tokens.clone(), batch.new_state()
    proposal = batch.propose(reduction, place, written, state)
    chosen = proposal.confidence > 0.5
    batch.commit(proposal, chosen, written, torch.ones(len(tokens)), state)


if __name__ == "__main__":
    sys.exit(main())
