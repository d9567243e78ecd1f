"""The training stream: packing, masking, attention over what is packed, resuming at any position."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from inference.diffusion.structured.scaffold import Scaffold
from inference.diffusion.tokenizer import DiffusionTokenizer
from inference.training.dllm import (
    ExampleError,
    TrainConfig,
    TrainingError,
    embedded_config,
    jsonl_examples,
)
from inference.training.dllm.attention import PackedAttention
from inference.training.dllm.canvas import encode_call
from inference.training.dllm.data import PADDING_CALL, Batch, PackedBatches, StreamPosition
from inference.training.dllm.start import fresh_model
from tests.unit.inference.training.tiny_run import (
    CPU,
    examples,
    settings,
)


def batches(
    config: TrainConfig,
    tokenizer: DiffusionTokenizer,
    scaffolds: tuple[Scaffold, ...],
    start: StreamPosition | None = None,
) -> PackedBatches:
    return PackedBatches(config, examples, tokenizer, scaffolds, start or StreamPosition.start(1))


def test_only_slots_are_masked_and_everything_else_is_the_truth(
    tmp_path: Path, tokenizer: DiffusionTokenizer, scaffolds: tuple[Scaffold, ...]
):
    config = settings(tmp_path, mask_draws=3)
    batch = next(iter(batches(config, tokenizer, scaffolds)))
    expected = [
        encode_call(example, tokenizer, scaffolds, max_prompt_tokens=1536)
        for example in islice(examples(0, 1), batch.num_calls)
    ]
    masked = batch.token_ids == tokenizer.mask_token_id
    restored = batch.token_ids.flatten().clone()
    restored[batch.loss_rows] = batch.loss_targets.int()
    restored = restored.view_as(batch.token_ids)
    assert masked.sum() == len(batch.loss_rows)
    assert batch.loss_rows.unique().numel() == len(batch.loss_rows)
    for index, call in enumerate(expected):
        assert call is not None
        here = batch.call_ids == index
        prompt = here & (batch.canvas_ids == 0)
        assert restored[prompt].tolist() == call.prompt.tolist()
        assert batch.positions[prompt].tolist() == list(range(len(call.prompt)))
        for canvas_id in range(1, 7):
            canvas = here & (batch.canvas_ids == canvas_id)
            branch = (canvas_id - 1) // config.mask_draws
            assert restored[canvas].tolist() == call.canvases[branch].tolist()
            first = len(call.prompt)
            assert batch.positions[canvas].tolist() == list(
                range(first, first + len(call.canvases[branch]))
            )
            slots = scaffolds[branch].slot_positions()
            hidden = masked[canvas].nonzero().flatten().tolist()
            assert hidden
            assert set(hidden) <= set(slots)
    assert not masked[batch.call_ids == PADDING_CALL].any()


def test_every_slot_position_weighs_the_same_on_average(
    tmp_path: Path, tokenizer: DiffusionTokenizer, scaffolds: tuple[Scaffold, ...]
):
    weights = np.zeros(len(scaffolds))
    stream = iter(batches(settings(tmp_path), tokenizer, scaffolds))
    for batch in islice(stream, 40):
        assert float(batch.loss_weights.sum()) == pytest.approx(1.0, abs=1e-4)
        np.add.at(weights, batch.loss_branches.numpy(), batch.loss_weights.numpy())
    slots = np.array([len(scaffold.slot_positions()) for scaffold in scaffolds])
    assert weights / weights.sum() == pytest.approx(slots / slots.sum(), abs=1e-4)


def test_the_number_of_masked_positions_is_uniform(
    tmp_path: Path, tokenizer: DiffusionTokenizer, scaffolds: tuple[Scaffold, ...]
):
    num_slots = len(scaffolds[0].slot_positions())
    counts: list[int] = []
    for batch in islice(iter(batches(settings(tmp_path), tokenizer, scaffolds)), 60):
        masked = batch.token_ids == tokenizer.mask_token_id
        for call in range(batch.num_calls):
            here = masked & (batch.call_ids == call)
            counts += [int((here & (batch.canvas_ids == canvas)).sum()) for canvas in (1, 2)]
    shares = np.bincount(counts, minlength=num_slots + 1)[1:] / len(counts)
    assert shares == pytest.approx(np.full(num_slots, 1 / num_slots), abs=0.06)


def test_the_stream_goes_on_from_any_position(
    tmp_path: Path, tokenizer: DiffusionTokenizer, scaffolds: tuple[Scaffold, ...]
):
    config = settings(tmp_path)
    whole = list(islice(iter(batches(config, tokenizer, scaffolds)), 5))
    position = StreamPosition.start(1).after(whole[0]).after(whole[1])
    rest = list(islice(iter(batches(config, tokenizer, scaffolds, position)), 3))
    for expected, found in zip(whole[2:], rest, strict=True):
        for name in Batch._fields:
            left, right = getattr(expected, name), getattr(found, name)
            assert torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right, (
                name
            )


def test_a_call_longer_than_a_row_stops_the_run(
    tmp_path: Path, tokenizer: DiffusionTokenizer, scaffolds: tuple[Scaffold, ...]
):
    config = settings(tmp_path, row_length=128, mask_draws=8)
    with pytest.raises(TrainingError, match="row_length=128"):
        next(iter(batches(config, tokenizer, scaffolds)))


def test_calls_that_do_not_fit_their_slots_are_left_out_and_counted(
    tmp_path: Path, tokenizer: DiffusionTokenizer, scaffolds: tuple[Scaffold, ...]
):
    def stream(shard: int, num_shards: int) -> Iterator[dict[str, Any]]:
        for index, example in enumerate(islice(examples(shard, num_shards), 6)):
            if index % 2:
                example["records"]["visit"]["name"] = "Xyzzyqvwkj"
            yield example

    dataset = PackedBatches(
        settings(tmp_path), stream, tokenizer, scaffolds, StreamPosition.start(1)
    )
    (batch,) = dataset
    assert (batch.num_calls, batch.num_skipped, batch.examples_drawn) == (3, 3, 6)


@pytest.mark.parametrize("missing", ["turns", "records"])
def test_broken_examples_are_named(
    tokenizer: DiffusionTokenizer, scaffolds: tuple[Scaffold, ...], missing: str
):
    example = next(examples(0, 1))
    del example[missing]
    with pytest.raises(ExampleError, match="example 0-0"):
        encode_call(example, tokenizer, scaffolds, max_prompt_tokens=500)


def test_packed_attention_sees_what_each_call_alone_sees(
    tmp_path: Path, tokenizer: DiffusionTokenizer, scaffolds: tuple[Scaffold, ...]
):
    """Hidden states of a packed batch are those of each canvas alone behind its prompt, and of each prompt alone."""
    config = settings(tmp_path)
    batch = next(iter(batches(config, tokenizer, scaffolds)))
    model_config = embedded_config(tokenizer, d_model=32, n_layers=2, n_heads=2, mlp_hidden_size=48)
    model = fresh_model(model_config, seed=1, device=CPU)
    for block in model.blocks:
        nn.init.normal_(block.attn_out.weight, std=0.3)
        nn.init.normal_(block.ff_out.weight, std=0.3)
    attention = PackedAttention(2, 512, CPU, "dense")
    attention.load(batch)
    with torch.inference_mode():
        hidden = model.trunk(batch.token_ids, batch.positions, attention)
        for call, canvas_id in ((0, 0), (0, 2), (batch.num_calls - 1, 4)):
            own = (batch.call_ids == call) & (
                (batch.canvas_ids == 0) | (batch.canvas_ids == canvas_id)
            )
            ids, positions = batch.token_ids[own][None], batch.positions[own][None]
            canvas = batch.canvas_ids[own]
            sees = (canvas[None, :] == 0) | (canvas[:, None] == canvas[None, :])

            def attend(_layer, q, k, v, sees=sees):
                q, k, v = (part.transpose(1, 2) for part in (q, k, v))
                out = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=sees)
                return out.transpose(1, 2)

            alone = model.trunk(ids, positions, attend)[0]
            torch.testing.assert_close(hidden[own], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_equals_the_written_out_mask(
    tmp_path: Path, tokenizer: DiffusionTokenizer, scaffolds: tuple[Scaffold, ...]
):
    dense = PackedAttention(2, 512, CPU, "dense")
    flex = PackedAttention(2, 512, CPU, "flex", compiled=False)
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 512, 4, 16, generator=generator)
    k, v = (torch.randn(2, 512, 2, 16, generator=generator) for _ in range(2))
    for batch in islice(iter(batches(settings(tmp_path), tokenizer, scaffolds)), 2):
        dense.load(batch)
        flex.load(batch)
        with torch.inference_mode():
            torch.testing.assert_close(flex(0, q, k, v), dense(0, q, k, v), rtol=1e-4, atol=1e-5)


def test_jsonl_examples_go_round_and_are_split(tmp_path: Path):
    path = tmp_path / "calls.jsonl"
    path.write_text("".join(json.dumps({"id": i}) + "\n" for i in range(10)))
    shards = [[e["id"] for e in islice(jsonl_examples(path)(shard, 2), 10)] for shard in range(2)]
    assert sorted(shards[0][:5]) == [0, 2, 4, 6, 8]
    assert sorted(shards[1][5:]) == [1, 3, 5, 7, 9]
    assert shards[0][:5] != shards[0][5:]
