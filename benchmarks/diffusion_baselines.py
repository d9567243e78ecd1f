"""The baselines of `benchmarks.diffusion`, measured on the same prompts and checked as they run."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from benchmarks.baselines.autoregressive import AutoregressiveDecoder
from benchmarks.baselines.llama import (
    Weights,
    flash_attention,
    plain_attention,
    plain_logits,
    ragged_attention,
    random_weights,
)
from benchmarks.baselines.published import DualCacheDecoder
from benchmarks.diffusion_work import synchronize
from benchmarks.diffusion_workload import Workload
from inference.diffusion.model import LladaModel

BATCHES = (1, 8, 32, 64, 128)
TINY_BATCHES = (1, 3)
# Greedy tokens in bfloat16 may differ from those of a plain forward where two logits (standard deviation 1) are close.
TOLERATED_SHORTFALL = 0.5
PUBLISHED_TOKENS_PER_FORWARD = (4, 6, 10)
CALLS_PER_MEASUREMENT = 2


class Autoregressive:
    """The decoder at several batch sizes, each time with the attention that was faster on the batch size before.

    Once that is known it serves the whole list of calls, batch after batch, as the engine does: on a card whose power
    is limited, seconds of load are slower than the first.
    """

    def __init__(self, workload: Workload, device: torch.device) -> None:
        self._workload, self._device = workload, device
        sizes = workload.sizes
        self._shape = sizes.autoregressive
        self._weights: Weights = random_weights(
            self._shape, device=device, dtype=sizes.dtype, seed=0
        )
        self._prompts = list(workload.prompts.values())
        self._attentions = (
            [flash_attention, ragged_attention] if device.type == "cuda" else [plain_attention]
        )

    def measure(self) -> Iterator[dict[str, Any]]:
        """One entry per batch size and attention tried."""
        for batch_size in BATCHES if self._device.type == "cuda" else TINY_BATCHES:
            if batch_size > len(self._prompts):
                continue
            found = [self._tried(batch_size, attention) for attention in self._attentions]
            yield from found
            timed = [
                (entry["latency_s"], attention)
                for entry, attention in zip(found, self._attentions, strict=True)
                if entry.get("right")
            ]
            if timed and batch_size > 8:
                self._attentions = [min(timed, key=lambda pair: pair[0])[1]]

    def _tried(self, batch_size: int, attention: Any) -> dict[str, Any]:
        entry = {"batch": batch_size, "attention": attention.__name__}
        try:
            return {**entry, **self._measured(batch_size, attention)}
        except Exception as error:  # noqa: BLE001 -- one that fails costs its own line only
            return {**entry, "error": f"{type(error).__name__}: {str(error)[:300]}"}
        finally:
            free_memory()

    def _measured(self, batch_size: int, attention: Any) -> dict[str, Any]:
        sizes = self._workload.sizes
        decoder = AutoregressiveDecoder(
            self._shape,
            self._weights,
            batch_size=batch_size,
            max_prompt=sizes.prompt[1],
            max_new=sizes.output,
            attention=attention,
        )
        if batch_size == 1:
            decoder.generate(self._prompts[:1])  # first use of libraries
        num_rounds = len(self._prompts) // batch_size if len(self._attentions) == 1 else 1
        prefill_s = decode_s = worst = 0.0
        num_prompt_tokens = 0
        for number in range(num_rounds):
            prompts = self._prompts[number * batch_size : (number + 1) * batch_size]
            num_prompt_tokens += sum(map(len, prompts))
            synchronize(self._device)
            begun = time.perf_counter()
            decoder.prefill(prompts)
            synchronize(self._device)
            prefilled = time.perf_counter()
            for _ in range(sizes.output - 1):
                decoder.step()
            output = decoder.output()
            prefill_s += prefilled - begun
            decode_s += time.perf_counter() - prefilled
            if number == num_rounds - 1:
                chosen = {0, batch_size // 2, batch_size - 1}
                worst = max(self._shortfall(prompts[i], output[i]) for i in chosen)
        seconds = prefill_s + decode_s
        return {
            "num_calls": num_rounds * batch_size,
            "prefill_s": prefill_s / num_rounds,
            "prompt_tokens": num_prompt_tokens / num_rounds,
            "step_ms": 1e3 * decode_s / num_rounds / (sizes.output - 1),
            "latency_s": seconds / num_rounds,
            "calls_per_s": num_rounds * batch_size / seconds,
            "worst_logit_shortfall": worst,
            "right": worst < TOLERATED_SHORTFALL,
        }

    @torch.inference_mode()
    def _shortfall(self, prompt: Sequence[int], output: Sequence[int]) -> float:
        """How far the logit of an output token is below the largest of a plain forward, at worst."""
        logits = plain_logits(self._shape, self._weights, [*prompt, *output[:-1]])
        logits = logits[len(prompt) - 1 :].float()
        chosen = logits.gather(1, torch.tensor(output, device=logits.device)[:, None])[:, 0]
        return float((logits.amax(1) - chosen).max())


def measure_published(
    workload: Workload, model: LladaModel, device: torch.device
) -> Iterator[dict[str, Any]]:
    """The published decoding of as many positions as our canvases have, call after call."""
    sizes = workload.sizes
    prompts = list(workload.prompts.values())[: 1 + CALLS_PER_MEASUREMENT]
    for count in PUBLISHED_TOKENS_PER_FORWARD:
        decoder = DualCacheDecoder(model, tokens_per_forward=count, block_length=sizes.block)
        decoder.decode(prompts[0], sizes.output)  # first use of libraries
        decoder.num_forwards = 0
        synchronize(device)
        begun = time.perf_counter()
        outputs = [decoder.decode(prompt, sizes.output) for prompt in prompts[1:]]
        seconds = (time.perf_counter() - begun) / len(outputs)
        yield {
            "tokens_per_forward": count,
            "forwards_per_call": decoder.num_forwards / len(outputs),
            "latency_s": seconds,
            "calls_per_s": 1 / seconds,
            "right": all(model.config.mask_token_id not in output for output in outputs),
        }


def free_memory() -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
