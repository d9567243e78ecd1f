"""The constrained step in kernels and the plain one side by side: they must do the same."""

import torch

from inference.diffusion.device.constraint import DeviceConstraint
from inference.diffusion.kernels.naive import head_reduce_classes
from inference.diffusion.rules import Progress
from inference.diffusion.structured.constraint import ConstraintBatch
from inference.diffusion.structured.table_store import TableStore

MAX_CANVASES = 5


class Twins:
    """The same canvases under both constraints, each with its own token buffer."""

    def __init__(self, tokenizer, rule, device, *, num_places=400, dtype=torch.int32):
        self.tokenizer, self.rule, self.device = tokenizer, rule, device
        self.num_places, self.vocab = num_places, len(tokenizer.token_bytes)
        self.dice = torch.Generator().manual_seed(0)
        self.store = TableStore(self.vocab, device)
        self.kernels = DeviceConstraint(
            num_places=num_places,
            max_canvases=MAX_CANVASES,
            store=self.store,
            pad_token_id=tokenizer.pad_token_id,
            mask_token_id=tokenizer.mask_token_id,
            rule=rule,
        )
        self.tokens = torch.zeros(num_places, dtype=dtype, device=device)
        self.confidence = torch.ones(num_places, device=device)
        self.plain_tokens = self.tokens.long().clone()
        self.plain_confidence = self.confidence.clone()
        self.seats, self.batch, self.state = {}, None, None
        self.num_steps = [0] * MAX_CANVASES
        self.distance = 0.0  # of confidences

    def seat(self, **canvases):
        """Seat `s0=(scaffold, start)` and so on; None vacates."""
        before = list(self.seats)
        for name, canvas in canvases.items():
            number = int(name[1:])
            if number in self.seats:
                self.kernels.vacate(number)
                del self.seats[number]
            if canvas is not None:
                scaffold, start = canvas
                self.kernels.seat(number, scaffold, start)
                self.seats[number] = canvas
                self.num_steps[number] = 0
                run = slice(start, start + scaffold.num_tokens)
                for buffer in (self.tokens, self.plain_tokens):
                    buffer[run] = torch.tensor(scaffold.tokens).to(buffer)
        self.kernels.lay_out()
        stays = [
            before.index(n) if n in before and f"s{n}" not in canvases else None for n in self.seats
        ]
        plain = ConstraintBatch(
            [scaffold for scaffold, _ in self.seats.values()],
            [start for _, start in self.seats.values()],
            self.num_places,
            self.store,
        )
        self.state = plain.new_state(self.state, stays)
        self.batch = plain
        in_slots = [
            start + place
            for scaffold, start in self.seats.values()
            for place in scaffold.slot_positions()
        ]
        found, expected = self.kernels.table_of_place, plain.table_of_place
        assert torch.equal(found[in_slots].long(), expected[in_slots])

    @property
    def is_masked(self):
        return self.plain_tokens == self.tokenizer.mask_token_id

    def step(self, *, sharpness=1.5, share_of_rows=1.0, spoil=None):
        """One step of both, from the same random logits; they must do the same."""
        place = self.is_masked.nonzero()[:, 0]
        rows = torch.rand(len(place), generator=self.dice) < share_of_rows
        rows[0] = True
        place = place[rows.to(place.device)]
        hidden = torch.randn(len(place), 16, generator=self.dice) * sharpness
        if spoil is not None:
            hidden[::3] = spoil
        head = torch.randn(self.vocab, 16, generator=self.dice)
        reduction = head_reduce_classes(
            hidden.to(self.device),
            head.to(self.device),
            self.store.token_class,
            self.batch.table_of_place[place],
            self.store.num_classes,
        )
        row_of_place = torch.full((self.num_places,), -1, dtype=torch.int32, device=self.device)
        row_of_place[place] = torch.arange(len(place), dtype=torch.int32, device=self.device)
        self.kernels.step(reduction, row_of_place, self.tokens, self.confidence)
        proposal = self.batch.propose(reduction, place, self.plain_tokens, self.state)
        found = self.kernels.confidence_of_place[place]
        torch.testing.assert_close(found, proposal.confidence, rtol=2e-4, atol=1e-6)
        self._commit(proposal, self._choose(place, found))
        assert torch.equal(self.tokens.long(), self.plain_tokens)
        torch.testing.assert_close(self.confidence, self.plain_confidence, rtol=2e-4, atol=1e-6)

    def _choose(self, place, confidence):
        """The rule's choice, of the confidences that the kernels found: a last digit may decide who is first."""
        by_place = torch.zeros(self.num_places, device=self.device)
        by_place[place] = confidence
        chosen = torch.zeros(self.num_places, dtype=torch.bool, device=self.device)
        for number, (scaffold, start) in self.seats.items():
            run = slice(start, start + scaffold.num_tokens)
            own = by_place[run][None]
            progress = Progress(
                torch.tensor([self.num_steps[number]], device=self.device),
                self.is_masked[run].sum()[None],
            )
            chosen[run] = self.rule.choose(own, own > 0, progress)[0]
            self.num_steps[number] += bool((own > 0).any())
        return chosen[place]

    def _commit(self, proposal, chosen):
        self.batch.commit(proposal, chosen, self.plain_tokens, self.plain_confidence, self.state)
        for number, (scaffold, start) in self.seats.items():
            run = slice(start, start + scaffold.num_tokens)
            assert self.kernels.num_masked[number] == self.is_masked[run].sum()

    def finish(self, **options):
        """Steps to the end; the values of all canvases."""
        for _ in range(100):
            if not self.is_masked.any():
                break
            self.step(**options)
        assert not self.is_masked.any()
        return {number: self.value(number) for number in self.seats}

    def value(self, number):
        scaffold, start = self.seats[number]
        return scaffold.decode_value(self.tokens[start : start + scaffold.num_tokens].tolist())
