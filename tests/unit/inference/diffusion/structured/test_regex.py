import random
import re

import pytest

from inference.diffusion.structured.schema.patterns import full_match
from inference.diffusion.structured.schema.regex import RegexError, lengths, parse, text_of

PATTERNS = [
    "cat|dog",
    "^cat",
    "cat$",
    "^$|^a",
    "^(?:a|ab)(c|bcd)*$",
    r"^\d{2,3}-\w+$",
    r"^[^a-c]{1,2}$",
    r"^[^\s\d]?x$",
    r"^\D\S\W$",
    r"^(?P<year>\d)(?<rest>[a\-b])+?$",
    r"^a.c$",
    r"^[\]\[x]{0,2}$",
    r"^\x61b\u{64}$",
    "(?:^a$|^b{0}$)",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_means_a_search_over_text_that_can_be_written(pattern):
    ours = re.compile(re.sub(r"\\u\{(\w+)\}", _plain_escape, text_of(full_match(pattern))))
    theirs = re.compile(
        re.sub(r"\(\?<(?=\w)", "(?P<", re.sub(r"\\u\{(\w+)\}", _plain_escape, pattern))
    )
    dice = random.Random(pattern)
    for _ in range(3000):
        text = "".join(dice.choices("abcdx019-_ []é", k=dice.randrange(5)))
        if ours.fullmatch(text):
            assert theirs.search(text), text
        elif text.isascii():
            assert not theirs.search(text), text


def _plain_escape(match):
    return f"\\U{int(match[1], 16):08x}"


@pytest.mark.parametrize(
    "pattern",
    [
        *("(?=a)b", "(?<!a)b", r"\bword\b", r"(a)\1", "(?i)a", r"\p{L}", "(?<name", "(a", "a)"),
        *("a**", "a*+", "a^b", "^*", "[b-a]", "[a", "{2}", "a{2,1}", '^"$', r"^\\$", "^\n$"),
    ],
)
def test_what_is_not_regular_or_cannot_be_written_is_refused(pattern):
    with pytest.raises(RegexError):
        full_match(pattern)


def test_lengths_are_in_code_points():
    assert lengths(parse("a{2,3}(é|日本)?")) == (2, 5)
    assert lengths(parse("a+")) == (1, None)
    assert lengths(full_match("a")) == (1, None)
