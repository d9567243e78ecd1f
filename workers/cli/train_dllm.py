"""Train the masked-diffusion model: on simulated calls, or on a team's own labelled calls."""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

from analytics.scorecards import BUILT_IN
from analytics.simulator import simulate
from analytics.simulator.entities import load_names, load_shared, load_verticals
from analytics.simulator.noise import add_noise
from analytics.simulator.variations import with_other_marks, with_other_service
from inference.diffusion.config import LladaConfig
from inference.diffusion.request import BranchSpec
from inference.diffusion.tokenizer import DiffusionTokenizer
from inference.training.dllm import (
    Examples,
    LoraConfig,
    TrainConfig,
    embedded_config,
    jsonl_examples,
    train_dllm,
)
from inference.training.dllm.vocabulary import train_copying_tokenizer

MONO_SHARE = 0.05  # of the training calls: nobody can tell who speaks
NOISY_SHARE = 0.6  # of the training calls
NOISE_RANGE = (
    0.02,
    0.2,
)  # share of words misheard; much of it also keeps single words from deciding
SPARED_NAME_SHARE = 0.85  # of the noisy calls: the caller's name is heard right
OTHER_SERVICE_SHARE = 0.3  # of the training calls: a thing that nobody sells, or another trade's
OTHER_MARKS_SHARE, OTHER_MARKS_RATE = 0.5, 0.3  # of the calls, and of the marks in them
EMBEDDED_VOCABULARY = 3840
WHOLE_WORD_CALLS = 400  # a capitalised word seen in one call of so many is a token of its own
TOKENIZER_CALLS = 24_000  # merges do not change any more with twice as many
EVALUATION_SEED = 90_001


def built_in_branches() -> tuple[BranchSpec, ...]:
    """The built-in scorecards as the engine takes them."""
    return tuple(BranchSpec(card.name, card.instructions, card.schema) for card in BUILT_IN)


def simulated_examples(seed: int, *, patterns_per_act: int | None = None) -> Examples:
    """The training stream: simulated calls, most of them with recognition errors, never the same call twice.

    `patterns_per_act` narrows the language, to learn what each further wording is worth.
    """

    def stream(shard: int, num_shards: int) -> Iterator[Mapping[str, Any]]:
        random = Random(f"noise {seed} {shard}")
        calls = simulate(
            seed,
            mono=MONO_SHARE,
            patterns_per_act=patterns_per_act,
            shard=shard,
            num_shards=num_shards,
        )
        for call in calls:
            example = call.to_json()
            texts = [turn.text for turn in call.spoken]
            # What is misheard cannot be copied right; it would teach to doubt what is written.
            copied = call.facts.caller.split() if random.random() < SPARED_NAME_SHARE else []
            if random.random() < OTHER_SERVICE_SHARE:
                texts, example["records"] = with_other_service(texts, call.records, random)
                if example["records"] is not call.records:
                    copied += example["records"]["summary"]["service"].split()
            if random.random() < OTHER_MARKS_SHARE:
                texts = with_other_marks(texts, OTHER_MARKS_RATE, random)
            if random.random() < NOISY_SHARE:
                texts = add_noise(texts, random.uniform(*NOISE_RANGE), random, spared=copied)
            for turn, text in zip(example["turns"], texts, strict=True):
                turn["text"] = text
            yield example

    return stream


def evaluation_sets(count: int) -> dict[str, list[dict[str, Any]]]:
    """Calls that training never sees: fresh ones of its own kind, new names, with noise, and with wording held out.

    Variants of a run may be chosen by the first set alone; the others are what is reported.
    """
    sets = {
        "dev": simulate(EVALUATION_SEED + 3),
        "known": simulate(EVALUATION_SEED, names="heldout"),
        "known_noise10": simulate(EVALUATION_SEED + 1, names="heldout", noise=0.1),
        "heldout": simulate(EVALUATION_SEED + 2, split="heldout", names="heldout"),
    }
    return {name: [call.to_json() for call in islice(calls, count)] for name, calls in sets.items()}


def tokenizer_texts(seed: int, num_calls: int, shard: int, num_shards: int) -> list[str]:
    """What the embedded vocabulary is learnt from: turns and records as prompts and canvases spell them."""
    texts = [card.instructions + "\n" for card in BUILT_IN]
    for example in islice(simulated_examples(seed)(shard, num_shards), num_calls // num_shards):
        lines = (f"\n{i} {t['role']}: {t['text']}" for i, t in enumerate(example["turns"], start=1))
        texts.append("".join(lines))
        for record in example["records"].values():
            texts.append(json.dumps(record, separators=(",", ":"), ensure_ascii=False))
            texts.extend(f" {value}" for value in record.values() if isinstance(value, str))
    return texts


def train_embedded_tokenizer(
    seed: int, *, num_calls: int, num_processes: int
) -> DiffusionTokenizer:
    """Train the embedded checkpoint's byte-level BPE on simulated calls made by several processes."""
    shards = range(num_processes)
    texts_of = partial(tokenizer_texts, seed, num_calls, num_shards=num_processes)
    with ProcessPoolExecutor(num_processes, mp_context=get_context("fork")) as pool:
        texts = [text for shard in pool.map(texts_of, shards) for text in shard]
    whole_words = frequent_capitalised_words(texts, least=num_calls // WHOLE_WORD_CALLS)
    return train_copying_tokenizer(texts, vocab_size=EMBEDDED_VOCABULARY, whole_words=whole_words)


def frequent_capitalised_words(texts: Iterable[str], *, least: int) -> set[str]:
    """Words that begin with a capital at least so often and are no names: beginnings of sentences, weekdays, months."""
    counts = Counter(word for text in texts for word in re.findall(r"\b[A-Z][a-z]+\b", text))
    shared = load_shared()
    people = {
        *shared.agents,
        *(name for vertical in load_verticals().values() for name in vertical.staff),
    }
    names = {word for name in people for word in name.split()}
    for heldout in (False, True):
        names.update(load_names(heldout).first, load_names(heldout).last)
    frequent = {word for word, count in counts.items() if count >= least}
    return (frequent - names) | set(shared.months) | set(shared.weekdays)


def train(arguments: argparse.Namespace) -> None:
    """Run the training that the arguments describe."""
    config = TrainConfig(
        out_dir=arguments.out,
        state_dir=arguments.state,
        max_seconds=arguments.seconds,
        max_steps=arguments.steps,
        seed=arguments.seed,
        rows=arguments.rows,
        row_length=arguments.row_length,
        mask_draws=arguments.mask_draws,
        matrix_lr=arguments.matrix_lr,
        other_lr=arguments.other_lr,
        warmup_steps=arguments.warmup_steps,
        dropout=arguments.dropout,
        lora=LoraConfig(rank=arguments.lora_rank) if arguments.lora_rank else None,
        checkpoint_blocks=arguments.checkpoint_blocks,
        num_workers=arguments.workers,
        attention=arguments.attention,
        compile=not arguments.no_compile,
        evaluate_every_s=arguments.evaluate_every,
        save_every_s=arguments.save_every,
    )
    examples = (
        jsonl_examples(arguments.data)
        if arguments.data
        else simulated_examples(arguments.seed, patterns_per_act=arguments.patterns_per_act)
    )
    fresh: tuple[LladaConfig, DiffusionTokenizer] | None = None
    if arguments.from_checkpoint is None:
        tokenizer = _tokenizer(arguments)
        sizes = dict(
            zip(("d_model", "n_layers", "n_heads", "mlp_hidden_size"), arguments.size, strict=True)
        )
        model = embedded_config(tokenizer, **sizes, tie_embeddings=arguments.tie_embeddings)
        fresh = model, tokenizer
    train_dllm(
        config,
        examples,
        built_in_branches(),
        from_checkpoint=arguments.from_checkpoint,
        fresh=fresh,
        evaluation=_labelled(arguments.evaluation_data)
        if arguments.evaluation_data
        else evaluation_sets(arguments.evaluation_calls),
    )


def _labelled(path: Path) -> dict[str, list[dict[str, Any]]]:
    with path.open(encoding="utf-8") as lines:
        return {path.stem: [json.loads(line) for line in lines if line.strip()]}


def _tokenizer(arguments: argparse.Namespace) -> DiffusionTokenizer:
    """The tokenizer of a new model: read, or trained and kept beside the state, so that a resumed run has the same."""
    directory: Path = arguments.tokenizer or arguments.state
    if not (directory / "tokenizer.json").exists():
        tokenizer = train_embedded_tokenizer(
            arguments.seed, num_calls=TOKENIZER_CALLS, num_processes=max(arguments.workers, 1)
        )
        tokenizer.save(directory, max_length=2048)
    return DiffusionTokenizer.read(directory)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(prog="aftercall train dllm", description=__doc__)
    options.add_argument(
        "--out", type=Path, required=True, help="checkpoint (or adapter) and metrics.jsonl"
    )
    options.add_argument("--state", type=Path, required=True, help="what a killed run goes on from")
    options.add_argument(
        "--seconds", type=float, help="wall clock of the run, compilation included"
    )
    options.add_argument("--steps", type=int)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument(
        "--data", type=Path, help="labelled calls as JSONL instead of simulated ones"
    )
    options.add_argument(
        "--from", dest="from_checkpoint", help="checkpoint directory or hub id to fine-tune"
    )
    options.add_argument(
        "--tokenizer", type=Path, help="directory of tokenizer.json; written when absent"
    )
    options.add_argument(
        "--lora-rank", type=int, help="train adapters of this rank instead of the weights"
    )
    options.add_argument(
        "--patterns-per-act", type=int, help="use so many wordings of each act of the simulator"
    )
    options.add_argument("--rows", type=int, default=8)
    options.add_argument("--row-length", type=int, default=8192)
    options.add_argument("--mask-draws", type=int, default=2)
    options.add_argument("--matrix-lr", type=float, default=0.02)
    options.add_argument("--other-lr", type=float, default=3e-3)
    options.add_argument("--warmup-steps", type=int, default=150)
    options.add_argument(
        "--dropout", type=float, default=0.0, help="share of each block's updates left out"
    )
    options.add_argument("--workers", type=int, default=12)
    options.add_argument("--attention", choices=("auto", "flex", "dense"), default="auto")
    options.add_argument("--no-compile", action="store_true")
    options.add_argument("--checkpoint-blocks", action="store_true")
    options.add_argument(
        "--evaluation-data", type=Path, help="labelled calls to be measured on, as JSONL"
    )
    options.add_argument(
        "--evaluation-calls", type=int, default=64, help="simulated ones in each set; 0: none"
    )
    options.add_argument("--evaluate-every", type=float, default=60.0, metavar="SECONDS")
    options.add_argument("--save-every", type=float, default=60.0, metavar="SECONDS")
    options.add_argument(
        "--size",
        type=int,
        nargs=4,
        default=(384, 10, 6, 960),
        metavar=("WIDTH", "LAYERS", "HEADS", "MLP"),
        help="of a new model",
    )
    options.add_argument(
        "--tie-embeddings", action="store_true", help="one matrix for embedding and head"
    )
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    train(parser().parse_args(argv))


if __name__ == "__main__":
    main()
