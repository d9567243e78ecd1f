"""An autoregressive decoder of LLaDA-8B's size (the shape of Llama-3-8B): what a user would otherwise run.

It is made as fast as plain means allow: the forward pass (`llama`) fuses projections, prompts are packed without
padding, keys and values have a static cache, and a decoding step of the whole batch is one CUDA graph that feeds itself
its tokens. On a CPU the same code runs on the kernels' plain twins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.baselines.llama import Attention, LlamaModel, Packed, Shape, Weights

PREFILL_TOKENS = 16_384  # of packed prompts in one forward; more is not faster and takes memory


class AutoregressiveDecoder:
    """Greedy decoding of a fixed batch: all prompts are encoded, then all sequences grow by one token per step."""

    def __init__(
        self,
        shape: Shape,
        weights: Weights,
        *,
        batch_size: int,
        max_prompt: int,
        max_new: int,
        attention: Attention,
    ) -> None:
        self._device = weights.head.device
        self._capacity = max_prompt + max_new
        self._max_new = max_new
        num_rows = batch_size * self._capacity
        cache = (shape.n_layers, num_rows, shape.n_kv_heads, shape.head_dim)
        self._keys, self._values = (weights.head.new_zeros(cache) for _ in range(2))
        self._model = LlamaModel(shape, weights, max_positions=self._capacity, attention=attention)
        self._slots = self._range(batch_size) * self._capacity
        self._offsets = (self._range(batch_size + 1) * self._capacity).int()
        self._tokens = torch.zeros(batch_size, dtype=torch.int64, device=self._device)
        self._lengths = torch.zeros_like(self._tokens)
        self._output = torch.zeros(batch_size, max_new, dtype=torch.int64, device=self._device)
        self._num_written = torch.zeros(1, dtype=torch.int64, device=self._device)
        self._step: Callable[[], None] = self._decode_step
        if self._device.type == "cuda":
            self._step = self._captured()

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """`max_new` tokens for each of the prompts, as many as the batch has places."""
        self.prefill(prompts)
        for _ in range(self._max_new - 1):
            self.step()
        return self.output()

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Sequence[int]]) -> None:
        """Encode the prompts and choose the first token of each."""
        assert len(prompts) == len(self._tokens), "the batch size is fixed"
        first = 0
        for size in _group_sizes([len(prompt) for prompt in prompts]):
            self._prefill_group(first, prompts[first : first + size])
            first += size
        self._lengths.copy_(torch.tensor([len(prompt) for prompt in prompts]))
        self._output.zero_()
        self._output[:, 0] = self._tokens
        self._num_written.fill_(1)

    def step(self) -> None:
        """Grow every sequence by one token."""
        self._step()

    def output(self) -> list[list[int]]:
        """The tokens chosen so far, and zeros after them; waits for the device."""
        return self._output.tolist()

    def _prefill_group(self, first: int, prompts: Sequence[Sequence[int]]) -> None:
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        ends = lengths.cumsum(0)
        slots = torch.arange(first, first + len(prompts))
        positions = torch.cat([torch.arange(length) for length in lengths.tolist()])
        packed = Packed(
            positions=positions.to(self._device),
            cache_rows=(positions + (slots * self._capacity).repeat_interleave(lengths)).to(
                self._device
            ),
            query_offsets=F.pad(ends, (1, 0)).int().to(self._device),
            key_offsets=self._offsets[first : first + len(prompts) + 1],
            key_lengths=lengths.int().to(self._device),
            max_queries=int(lengths.max()),
            max_keys=self._capacity,
        )
        token_ids = torch.tensor([token for prompt in prompts for token in prompt])
        hidden = self._trunk(token_ids.to(self._device), packed)
        last = hidden[(ends - 1).to(self._device)]
        self._tokens[first : first + len(prompts)] = self._model.next_tokens(last)

    def _decode_step(self) -> None:
        """One token for every sequence, from the tokens and lengths on the device, which it moves on."""
        self._lengths += 1
        batch_size = len(self._tokens)
        packed = Packed(
            positions=self._lengths - 1,
            cache_rows=self._slots + self._lengths - 1,
            query_offsets=torch.arange(batch_size + 1, dtype=torch.int32, device=self._device),
            key_offsets=self._offsets,
            key_lengths=self._lengths.int(),
            max_queries=1,
            max_keys=self._capacity,
        )
        self._tokens.copy_(self._model.next_tokens(self._trunk(self._tokens, packed)))
        self._output.index_copy_(1, self._num_written, self._tokens[:, None])
        self._num_written += 1

    @torch.inference_mode()
    def _captured(self) -> Callable[[], None]:
        """The decoding step as a CUDA graph."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._decode_step()
            self._num_written.zero_()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._decode_step()
        return graph.replay

    def _trunk(self, token_ids: Tensor, packed: Packed) -> Tensor:
        """Final hidden states, `[num_tokens, d_model]`; keys and values of the tokens enter the cache."""
        return self._model.trunk(token_ids, packed, self._keys, self._values)

    def _range(self, end: int) -> Tensor:
        return torch.arange(end, device=self._device)


def _group_sizes(lengths: Sequence[int]) -> list[int]:
    """How many prompts go into each forward."""
    sizes: list[int] = []
    total = 0
    for length in lengths:
        if sizes and total + length <= PREFILL_TOKENS:
            sizes[-1] += 1
            total += length
        else:
            sizes.append(1)
            total = length
    return sizes
