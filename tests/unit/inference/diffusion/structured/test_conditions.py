"""What one slot decides about others: turns to cite, variants of a union, gates of what is optional."""

from inference.diffusion.structured.conditions import CLOSED, UNDECIDED
from tests.unit.inference.diffusion.structured.canvases import UNION, confidence_at, record


def test_only_turns_of_the_transcript_can_be_cited(canvases):
    turn = {"anyOf": [{"type": "integer", "minimum": 1, "x-evidence": "turn"}, {"type": "null"}]}
    here = canvases(record(t=turn), num_turns=5)
    here.want("/t", "9", 9.0)
    here.want("/t", "4", 1.0)
    assert here.finish() == [{"t": 4}]
    none = canvases(record(t=turn), num_turns=0)
    none.want("/t", "1", 9.0)
    assert none.propose().forced.all(), "null is all that is left"
    assert none.finish() == [{"t": None}]


def test_a_union_waits_for_its_tag_and_closes_the_other_variants(canvases):
    here = canvases(UNION)
    here.want("/pay/kind", "cash", 3.0)
    here.want("/pay/last4", "1234", 20.0)
    proposal = here.propose()
    assert confidence_at(proposal, here.place("/pay/last4")) == 0
    assert confidence_at(proposal, here.place("/pay/paid")) == 0
    here.commit(proposal, here.place("/pay/last4"))
    assert not here.is_masked(here.place("/pay/kind")), "the tag goes first, whatever is chosen"
    assert int(here.tokens[here.place("/pay/last4")]) == here.tokenizer.pad_token_id
    assert here.is_masked(here.place("/pay/paid"))
    assert here.finish()[0]["pay"].keys() == {"kind", "paid"}
    assert "/pay/last4" not in here.record().confidence


def test_gates_close_what_is_inside_them_at_any_depth(canvases):
    inner = record(c={"enum": ["x", "y"]})
    here = canvases(record([], a=record([], b=inner)))
    here.want("/a", "null", 9.0)
    here.commit(here.propose(), here.place("/a"))
    assert here.value() == {}
    assert here.state.choice.tolist() == [[1, CLOSED, CLOSED]]
    there = canvases(record([], a=record([], b=inner)))
    assert there.state.choice.tolist() == [[UNDECIDED] * 3]
    there.want("/a", "{", 9.0)
    there.want("/a/b", "{", 9.0)
    there.want("/a/b/c", "y", 9.0)
    assert there.finish() == [{"a": {"b": {"c": "y"}}}]
