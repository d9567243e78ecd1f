"""Canvases small enough to follow, stepped by hand, and the schemas most of them hold."""

import torch

from inference.diffusion.kernels.naive import head_reduce_classes
from inference.diffusion.structured.assemble import assemble
from inference.diffusion.structured.constraint import ConstraintBatch
from inference.diffusion.structured.table_store import TableStore


def record(required=None, **properties):
    required = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": required}


TEXT = record(a={"type": "string", "maxLength": 20})
MAYBE_TEXT = record(a={"anyOf": [{"type": "string", "maxLength": 20}, {"type": "null"}]})
UNION = record(
    pay={
        "oneOf": [
            record(kind={"const": "card"}, last4={"type": "string", "pattern": "^[0-9]{4}$"}),
            record(kind={"const": "cash"}, paid={"type": "boolean"}),
        ]
    }
)


class Canvases:
    """A batch with its token buffer, stepped by hand from given log-probabilities."""

    def __init__(self, scaffolds, store=None):
        self.scaffolds = scaffolds
        self.tokenizer = scaffolds[0].tokenizer
        self.vocab = len(self.tokenizer.token_bytes)
        self.store = store or TableStore(self.vocab, "cpu")
        starts, size = [], 3
        for scaffold in scaffolds:
            starts.append(size)
            size += scaffold.num_tokens + 2
        self.starts = starts
        self.batch = ConstraintBatch(scaffolds, starts, size, self.store)
        self.tokens = torch.zeros(size, dtype=torch.int64)
        for start, scaffold in zip(starts, scaffolds, strict=True):
            self.tokens[start : start + scaffold.num_tokens] = torch.tensor(scaffold.tokens)
        self.confidence = torch.ones(size)
        self.state = self.batch.new_state()
        self.logits = torch.zeros((size, self.vocab))

    def place(self, pointer, offset=0, branch=0):
        spans = self.scaffolds[branch].spans
        (span,) = [span for span in spans if span.slot.pointer == pointer]
        return self.starts[branch] + span.start + offset

    def want(self, pointer, text, amount=5.0, branch=0):
        """Let the model lean to `text`, and PAD after it, in the slot of `pointer`."""
        spans = self.scaffolds[branch].spans
        (span,) = [span for span in spans if span.slot.pointer == pointer]
        ids = self.tokenizer.encode(text) if text else []
        ids += [self.tokenizer.pad_token_id] * (span.num_tokens - len(ids))
        for offset, token in enumerate(ids[: span.num_tokens]):
            self.logits[self.place(pointer, offset, branch), token] += amount

    def propose(self, place=None):
        if place is None:
            place = (self.tokens == self.tokenizer.mask_token_id).nonzero()[:, 0]
        rows = self.logits[place.clamp_min(0)]
        head = torch.eye(self.vocab)
        table = self.batch.table_of_place[place.clamp_min(0)]
        self.reduction = head_reduce_classes(
            rows, head, self.store.token_class, table, self.store.num_classes
        )
        return self.batch.propose(self.reduction, place, self.tokens, self.state)

    def commit(self, proposal, *places):
        chosen = torch.isin(proposal.place, torch.tensor(places, dtype=torch.int64))
        self.batch.commit(proposal, chosen, self.tokens, self.confidence, self.state)

    def finish(self):
        while (self.tokens == self.tokenizer.mask_token_id).any():
            self.commit(self.propose())
        return [self.value(branch) for branch in range(len(self.scaffolds))]

    def value(self, branch=0):
        return self.record(branch).value

    def record(self, branch=0):
        scaffold, start = self.scaffolds[branch], self.starts[branch]
        canvas = slice(start, start + scaffold.num_tokens)
        return assemble(
            scaffold,
            self.tokens[canvas].tolist(),
            self.confidence[canvas].tolist(),
            self.state.distribution[branch].tolist(),
        )

    def is_masked(self, place):
        return bool(self.tokens[place] == self.tokenizer.mask_token_id)


def confidence_at(proposal, place):
    return float(proposal.confidence[proposal.place == place])
