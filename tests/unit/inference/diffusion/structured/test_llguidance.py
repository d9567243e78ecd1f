"""What may come next in a slot, against another engine's masks, wherever both know the language."""

import random

import llguidance
import llguidance.torch
import numpy as np
import pytest
import torch
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from inference.diffusion.kernels.naive import head_reduce_classes
from inference.diffusion.structured.constraint import ConstraintBatch
from inference.diffusion.structured.scaffold import compile_scaffold
from inference.diffusion.structured.schema.formats import FORMATS
from inference.diffusion.structured.table_store import TableStore

SCHEMAS = {
    "plate": ({"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"}, "[A-Z]{3}-[0-9]{4}"),
    "prefixes": (
        {"type": "string", "pattern": "^(a|ab|abc)(c|bcd)*(d*)$"},
        "(a|ab|abc)(c|bcd)*(d*)",
    ),
    "slug": ({"type": "string", "pattern": "^[a-z]+(-[a-z]+)*$"}, "[a-z]+(-[a-z]+)*"),
    "accents": ({"type": "string", "pattern": "^[à-ÿ日本]+$"}, "[à-ÿ日本]+"),
    "date": ({"type": "string", "format": "date"}, FORMATS["date"]),
    "email": ({"type": "string", "format": "email"}, FORMATS["email"]),
    "positive": ({"type": "integer", "minimum": 7, "maximum": 123456}, None),
    "negative": ({"type": "integer", "minimum": -98765, "maximum": -1}, None),
    "both": ({"type": "integer", "minimum": -4321, "maximum": 98765}, None),
}

MINUS_ZERO = {b"-0"}  # another text of 0, which slots do not write


@pytest.fixture(scope="module")
def oracle(crossing_tokenizer):
    def encode(text):
        return crossing_tokenizer.encode(text.decode() if isinstance(text, bytes) else text)

    class Wrapped:
        eos_token_id = crossing_tokenizer.pad_token_id
        bos_token_id = None
        tokens = crossing_tokenizer.token_bytes
        special_token_ids = (0, 1, 2)

        def __call__(self, text):
            return encode(text)

    return LLTokenizer(TokenizerWrapper(Wrapped()))


def oracle_mask(matcher, vocab):
    bitmask = llguidance.torch.allocate_token_bitmask(1, vocab)
    llguidance.torch.fill_next_token_bitmask(matcher, bitmask)
    bits = np.unpackbits(bitmask.numpy().view(np.uint8), bitorder="little")
    return bits[:vocab].astype(bool)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_same_tokens_are_legal_after_every_prefix(crossing_tokenizer, oracle, name):
    schema, regex = SCHEMAS[name]
    tokenizer, vocab = crossing_tokenizer, len(crossing_tokenizer.token_bytes)
    record = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    scaffold = compile_scaffold(record, tokenizer, instructions="", name=name, num_turns=0)
    (span,) = scaffold.spans
    automaton = span.table
    of_schema, of_regex = LLMatcher.grammar_from_json_schema, LLMatcher.grammar_from_regex
    grammar = of_schema(schema) if regex is None else of_regex(regex)
    dice = random.Random(name)
    for _ in range(12):
        matcher = LLMatcher(oracle, grammar)
        assert not matcher.is_error(), matcher.get_error()
        state = 1
        for _ in range(span.num_tokens):
            ours = automaton.transitions[state][automaton.token_class] != 0
            theirs = oracle_mask(matcher, vocab)
            differing = [tokenizer.token_bytes[t] for t in np.flatnonzero(ours != theirs)]
            assert set(differing) <= MINUS_ZERO, (name, differing[:5])
            token = dice.choice(np.flatnonzero(ours).tolist())
            if token == tokenizer.pad_token_id:
                break
            matcher.consume_token(token)
            state = automaton.transitions[state, automaton.token_class[token]]


def test_masks_in_a_batch_are_those_of_the_next_token(crossing_tokenizer, oracle):
    """With everything before committed, the constrained step allows what the other engine allows next."""
    tokenizer, vocab = crossing_tokenizer, len(crossing_tokenizer.token_bytes)
    pattern = "[a-z]+(-[a-z]+)*"
    schema = {"type": "string", "pattern": f"^{pattern}$", "x-slot-tokens": 12}
    record = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    scaffold = compile_scaffold(record, tokenizer, instructions="", name="x", num_turns=0)
    (span,) = scaffold.spans
    store = TableStore(vocab, "cpu")
    batch = ConstraintBatch([scaffold], [0], scaffold.num_tokens, store)
    matcher = LLMatcher(oracle, LLMatcher.grammar_from_regex(pattern))
    tokens = torch.tensor(scaffold.tokens)
    dice = random.Random(5)
    for place in range(span.start, span.start + 6):
        allowed = oracle_mask(matcher, vocab)
        masked = (tokens == tokenizer.mask_token_id).nonzero()[:, 0]
        for token in dice.sample(range(3, vocab), 60):
            logits = torch.zeros((len(masked), vocab))
            logits[masked == place, token] = 60.0
            reduction = head_reduce_classes(
                logits,
                torch.eye(vocab),
                store.token_class,
                batch.table_of_place[masked],
                store.num_classes,
            )
            proposal = batch.propose(reduction, masked, tokens, batch.new_state())
            taken = int(proposal.token[masked == place]) == token
            assert taken == allowed[token], tokenizer.token_bytes[token]
        legal = [t for t in np.flatnonzero(allowed).tolist() if t != tokenizer.pad_token_id]
        tokens[place] = dice.choice(legal)
        matcher.consume_token(int(tokens[place]))
