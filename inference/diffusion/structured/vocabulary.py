"""What the constraint knows of a tokenizer: the bytes behind its tokens, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Tokenizer(Protocol):
    """What a scaffold needs of a byte-level tokenizer. Caches tell tokenizers apart by identity."""

    @property
    def token_bytes(self) -> Sequence[bytes]:
        """Bytes of every token id; empty for special tokens."""

    @property
    def pad_token_id(self) -> int:
        """Id written after a value, to the end of its slot."""

    @property
    def mask_token_id(self) -> int:
        """Id of a position still to be filled."""

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text, no special tokens added."""


@dataclass(frozen=True, slots=True)
class TokenShapes:
    """Tokens grouped by the sequence of byte groups they are made of.

    Attributes:
        shape_of_token: `[vocab]` int64, the token's shape; -1 for tokens with no bytes or with a byte of no group.
        representatives: `[num_shapes]` int64, one token of each shape.
    """

    shape_of_token: NDArray[np.int64]
    representatives: NDArray[np.int64]


class Vocabulary:
    """The bytes of all tokens, end to end, and the tokenizer they belong to."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.token_bytes = list(tokenizer.token_bytes)
        self._num_bytes = np.array([len(piece) for piece in self.token_bytes], dtype=np.int64)
        self._bytes = np.frombuffer(b"".join(self.token_bytes), dtype=np.uint8)
        self._starts = np.concatenate(([0], np.cumsum(self._num_bytes)[:-1]))
        self._place = np.arange(len(self._bytes)) - np.repeat(self._starts, self._num_bytes)
        # Odd multipliers, so that no power of two swallows a byte at a late place of a long token.
        longest = int(self._num_bytes.max(initial=1))
        self._weights = (
            np.random.default_rng(0).integers(0, 2**63, longest, dtype=np.uint64) * 2 + 1
        )

    @cached_property
    def num_code_points(self) -> NDArray[np.int64]:
        """`[vocab]` characters that begin in each token."""
        begins = np.concatenate(([0], np.cumsum((self._bytes & 0xC0) != 0x80)))
        return begins[self._starts + self._num_bytes] - begins[self._starts]

    @cached_property
    def is_text(self) -> NDArray[np.bool_]:
        """`[vocab]` whether each token is made of whole characters."""
        return np.array([_is_text(piece) for piece in self.token_bytes])

    def __len__(self) -> int:
        return len(self.token_bytes)

    def shapes(self, group_of_byte: NDArray[np.int64]) -> TokenShapes:
        """Group the tokens by `group_of_byte` (`[256]`, -1: the token has no shape)."""
        groups = group_of_byte[self._bytes]
        filled = self._num_bytes > 0
        hashed = (groups + 1).astype(np.uint64) * self._weights[self._place]
        keys = np.zeros(len(self), dtype=np.uint64)
        lowest = np.full(len(self), -1, dtype=np.int64)
        if filled.any():
            keys[filled] = np.add.reduceat(hashed, self._starts[filled])
            lowest[filled] = np.minimum.reduceat(groups, self._starts[filled])
        tokens = np.flatnonzero(lowest >= 0)
        _, first, inverse = np.unique(keys[tokens], return_index=True, return_inverse=True)
        shape_of_token = np.full(len(self), -1, dtype=np.int64)
        shape_of_token[tokens] = inverse
        shapes = TokenShapes(shape_of_token, tokens[first])
        self._assert_no_collision(shapes, groups, tokens)
        return shapes

    def _assert_no_collision(
        self, shapes: TokenShapes, groups: NDArray[np.int64], tokens: NDArray[np.int64]
    ) -> None:
        twins = shapes.representatives[shapes.shape_of_token[tokens]]
        assert (self._num_bytes[twins] == self._num_bytes[tokens]).all(), "hash collision"
        of_token = np.isin(np.repeat(np.arange(len(self)), self._num_bytes), tokens)
        twin_starts = np.repeat(self._starts[twins], self._num_bytes[tokens])
        places = twin_starts + self._place[of_token]
        assert (groups[places] == groups[of_token]).all(), "hash collision"


def _is_text(piece: bytes) -> bool:
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True
