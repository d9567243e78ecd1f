"""Records decoded from random logits: what a schema lets through, and the hardest case for the constraint."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from inference.diffusion.kernels.naive import head_reduce_classes
from inference.diffusion.structured.assemble import AssembledRecord, assemble
from inference.diffusion.structured.constraint import ConstraintBatch
from inference.diffusion.structured.scaffold import Scaffold
from inference.diffusion.structured.table_store import TableStore

_WIDTH = 16  # of the random head: enough for rows to disagree


def random_records(
    scaffolds: Sequence[Scaffold], *, seed: int, store: TableStore | None = None
) -> list[AssembledRecord]:
    """Decode one record per scaffold, all in one batch, from logits without meaning.

    Each step commits a random set of positions at random sharpness of the logits.

    Args:
        scaffolds: of one tokenizer.
        seed: same seed, same records.
        store: tables to reuse between calls.
    """
    dice = torch.Generator().manual_seed(seed)
    tokenizer = scaffolds[0].tokenizer
    vocab = len(tokenizer.token_bytes)
    store = store or TableStore(vocab, "cpu")
    starts, num_places = [], 0
    for scaffold in scaffolds:
        starts.append(num_places)
        num_places += scaffold.num_tokens
    batch = ConstraintBatch(scaffolds, starts, num_places, store)
    tokens = torch.tensor([token for scaffold in scaffolds for token in scaffold.tokens])
    confidence = torch.ones(num_places)
    state = batch.new_state()
    sharpness = 4 * float(torch.rand((), generator=dice))
    share = float(torch.rand((), generator=dice))
    while len(place := (tokens == tokenizer.mask_token_id).nonzero()[:, 0]):
        hidden = torch.randn(len(place), _WIDTH, generator=dice) * sharpness
        head = torch.randn(vocab, _WIDTH, generator=dice)
        table = batch.table_of_place[place]
        reduction = head_reduce_classes(hidden, head, store.token_class, table, store.num_classes)
        proposal = batch.propose(reduction, place, tokens, state)
        chosen = torch.rand(len(place), generator=dice) < share**2
        batch.commit(proposal, chosen, tokens, confidence, state)
    return [
        _record(scaffold, start, tokens, confidence, state.distribution[row])
        for row, (scaffold, start) in enumerate(zip(scaffolds, starts, strict=True))
    ]


def _record(
    scaffold: Scaffold, start: int, tokens: Tensor, confidence: Tensor, distribution: Tensor
) -> AssembledRecord:
    canvas = slice(start, start + scaffold.num_tokens)
    return assemble(
        scaffold, tokens[canvas].tolist(), confidence[canvas].tolist(), distribution.tolist()
    )
