from itertools import islice

import pytest

from analytics.simulator.open_text import (
    frames,
    gerund,
    past_forms,
    plural,
    sentences,
    third_person,
    vocabulary,
    with_article,
)


def test_the_lexicon_is_wide_and_the_stream_varied() -> None:
    assert len(vocabulary()) > 6_000
    assert len(frames("train")) + len(frames("heldout")) >= 150
    assert len(set(islice(sentences(1), 50_000))) > 40_000


def test_the_split_parts_frames() -> None:
    assert not set(frames("train")) & set(frames("heldout"))
    assert frames("heldout")


def test_a_seed_gives_one_stream() -> None:
    assert list(islice(sentences(7), 50)) == list(islice(sentences(7), 50))
    assert list(islice(sentences(7), 50)) != list(islice(sentences(8), 50))


def test_sentences_use_only_what_a_recogniser_may_write() -> None:
    for sentence in islice(sentences(3), 5_000):
        assert "{" not in sentence
        assert not set(sentence) & set('"()[]*;_')
        assert " -" not in sentence
        assert " '" not in sentence


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (plural("leaf/leaves"), "leaves"),
        (plural("box"), "boxes"),
        (plural("city"), "cities"),
        (third_person("go"), "goes"),
        (third_person("carry"), "carries"),
        (gerund("make"), "making"),
        (gerund("run"), "running"),
        (gerund("lie"), "lying"),
        (past_forms("stop"), ("stopped", "stopped")),
        (past_forms("carry"), ("carried", "carried")),
        (past_forms("go went gone"), ("went", "gone")),
        (with_article("hour"), "an hour"),
        (with_article("unit"), "a unit"),
        (with_article("apple"), "an apple"),
    ],
)
def test_inflection(made: object, wanted: object) -> None:
    assert made == wanted
