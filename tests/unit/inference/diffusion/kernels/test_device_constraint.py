"""The constrained step in kernels against the plain one: same logits, same tokens, through whole decodes."""

import json
from pathlib import Path

import pytest
import torch

from inference.diffusion.device.constraint import RuleNotOnDeviceError
from inference.diffusion.rules import Doubt, Factor, Joint, Quota, Threshold
from inference.diffusion.structured.scaffold import compile_scaffold
from tests.unit.inference.diffusion.kernels.twins import Twins

SCHEMAS = json.loads(
    (Path(__file__).parents[5] / "benchmarks" / "structured_schemas.json").read_text("utf-8")
)
GAP = 3  # places between canvases that belong to none


@pytest.fixture
def scaffolds(tokenizer):
    def build(*names, num_turns=7):
        return [
            compile_scaffold(
                SCHEMAS[name], tokenizer, instructions="Read.", name=name, num_turns=num_turns
            )
            for name in names
        ]

    return build


def in_a_row(scaffolds, first=2):
    """Seats for scaffolds that lie behind each other."""
    seats = {}
    for number, scaffold in enumerate(scaffolds):
        seats[f"s{number}"] = (scaffold, first)
        first += scaffold.num_tokens + GAP
    return seats


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        (Threshold(0.45), ("text_short", "union_tagged", "boolean_optional", "array_of_null")),
        (Quota(3), ("nested_optional_deep", "any_of_enum_or_text", "integer_null", "evidence")),
        (Quota(num_steps=5), ("union_tagged", "evidence", "empty_object")),
        (Factor(1.2), ("nested_optional_deep", "union_null", "integer_null", "text_short")),
        (Joint(0.3), ("union_tagged", "integer_null", "text_short")),
        (Doubt(0.6), ("any_of_enum_or_text", "evidence", "text_short")),
    ],
    ids=str,
)
def test_whole_decodes_are_the_same(tokenizer, scaffolds, device, rule, names):
    twins = Twins(tokenizer, rule, device)
    twins.seat(**in_a_row(scaffolds(*names)))
    twins.finish()


def test_canvases_come_and_go(tokenizer, scaffolds, device):
    twins = Twins(tokenizer, Quota(2), device, dtype=torch.int64)
    union, text, nested = scaffolds("union_tagged", "text_short", "nested_optional_deep")
    twins.seat(s0=(union, 3), s3=(text, 70))
    for _ in range(2):
        twins.step()
    twins.seat(s1=(nested, 150))
    twins.step()
    while twins.kernels.num_masked[3]:
        twins.step()
    first = twins.value(3)
    twins.seat(s3=(union, 60))
    twins.step()
    twins.seat(s0=None, s2=(text, 3))
    values = twins.finish()
    assert set(values) == {1, 2, 3}
    assert len(first["initials"]) <= 7


def test_places_without_a_row_are_left_open(tokenizer, scaffolds, device):
    twins = Twins(tokenizer, Threshold(0.3), device)
    twins.seat(**in_a_row(scaffolds("text_short", "union_tagged")))
    for _ in range(3):
        twins.step(share_of_rows=0.5)
    twins.finish()


@pytest.mark.parametrize("spoil", [torch.nan, 1e30], ids=str)
def test_a_broken_forward_still_gives_valid_records(tokenizer, scaffolds, device, spoil):
    twins = Twins(tokenizer, Quota(4), device)
    twins.seat(**in_a_row(scaffolds("text_short", "union_tagged")))
    twins.finish(spoil=spoil)


def test_quotas_are_spread_over_the_steps_asked_for(tokenizer, scaffolds, device):
    twins = Twins(tokenizer, Quota(num_steps=4), device)
    (text,) = scaffolds("text_one_character")
    masked = [len(text.slot_positions())]
    twins.seat(s0=(text, 0))
    while masked[-1]:
        twins.step()
        masked.append(int(twins.kernels.num_masked[0]))
    assert len(masked) - 1 <= 4


def test_buffers_stay_while_the_version_does(tokenizer, scaffolds, device):
    twins = Twins(tokenizer, Threshold(), device)
    text, nested = scaffolds("text_short", "nested_optional_deep")
    twins.seat(s0=(text, 0), s1=(text, 100))
    version, key = twins.kernels.version, twins.kernels.graph_key
    address = twins.kernels.table_of_place.data_ptr()
    twins.seat(s1=(text, 50), s0=None)
    twins.seat(s0=(text, 100))
    assert (twins.kernels.version, twins.kernels.graph_key) == (version, key)
    assert twins.kernels.table_of_place.data_ptr() == address
    twins.seat(s2=(nested, 150))
    assert twins.kernels.version > version
    assert twins.kernels.graph_key != key


def test_a_rule_without_a_kernel_is_refused(tokenizer, device):
    with pytest.raises(RuleNotOnDeviceError, match="use Threshold"):
        Twins(tokenizer, object(), device)
