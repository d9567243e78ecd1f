import pytest
import torch

from inference.diffusion.kernels import naive
from inference.diffusion.kernels.head import FusedHead, HeadConfig
from inference.diffusion.kernels.vocabulary_layout import class_layout

CONFIGS = [
    HeadConfig(rows=64, columns=128, inner=32, num_stages=2),
    HeadConfig(rows=64, columns=256, inner=32, num_stages=2),
]
TOLERANCE = 1e-3  # of logits up to 32, held in float32


def heads(weight, layout=None):
    yield from (FusedHead(weight, layout, config) for config in [*CONFIGS, None])


def make_head(num_rows, d_model, vocab, dtype, device):
    generator = torch.Generator().manual_seed(num_rows * d_model + vocab)
    hidden = torch.randn(num_rows, d_model, generator=generator)
    weight = torch.randn(vocab, d_model, generator=generator) * (4 / d_model**0.5)
    return hidden.to(device, dtype), weight.to(device, dtype)


def assert_agree(found, hidden, weight, expected, *, tolerance):
    """Scores and sums are close, and a token that differs has as good a logit."""
    torch.testing.assert_close(found.score, expected.score, rtol=0, atol=tolerance)
    torch.testing.assert_close(found.lse, expected.lse, rtol=0, atol=tolerance)
    torch.testing.assert_close(found.row_lse, expected.row_lse, rtol=0, atol=tolerance)
    present = expected.token >= 0
    assert torch.equal(found.token >= 0, present)
    logits = hidden.float() @ weight.float().T
    ids = found.token.reshape(len(hidden), -1).long().clamp(min=0)
    chosen = logits.gather(1, ids).reshape(found.token.shape)
    torch.testing.assert_close(chosen[present], expected.score[present], rtol=0, atol=2 * tolerance)


@pytest.mark.parametrize(
    ("num_rows", "d_model", "vocab"), [(1, 64, 1000), (63, 72, 1537), (65, 200, 77)]
)
def test_reduces_the_whole_vocabulary(num_rows, d_model, vocab, dtype, device):
    hidden, weight = make_head(num_rows, d_model, vocab, dtype, device)
    expected = naive.head_reduce(hidden, weight)
    for head in heads(weight):
        assert_agree(head(hidden), hidden, weight, expected, tolerance=TOLERANCE)


def skewed_tables(vocab, num_classes, device):
    """Two tables: one where most tokens share a class, one of small classes, both without some classes."""
    generator = torch.Generator().manual_seed(vocab)
    few = torch.randint(-60, 5, (vocab,), generator=generator).clamp(min=0)
    many = torch.randint(1 - num_classes, num_classes - 1, (vocab,), generator=generator)
    return torch.stack([few, many.clamp(min=0)]).to(device)


@pytest.mark.parametrize(
    ("num_rows", "d_model", "vocab", "num_classes"), [(19, 72, 701, 9), (2, 64, 301, 67)]
)
def test_reduces_each_class_of_the_table_of_the_row(
    num_rows, d_model, vocab, num_classes, dtype, device
):
    hidden, weight = make_head(num_rows, d_model, vocab, dtype, device)
    token_class = skewed_tables(vocab, num_classes, device)
    row_table = (torch.arange(num_rows, device=device) % 2).int()
    expected = naive.head_reduce_classes(hidden, weight, token_class, row_table, num_classes)
    for head in heads(weight, class_layout(token_class, num_classes)):
        found = head(hidden, row_table)
        assert_agree(found, hidden, weight, expected, tolerance=TOLERANCE)


def test_equal_logits_give_the_lowest_token(device):
    hidden = torch.ones(2, 64, dtype=torch.float16, device=device)
    weight = torch.zeros(900, 64, dtype=torch.float16, device=device)
    weight[[17, 301, 899]] = 0.5
    for head in heads(weight):
        assert head(hidden).token.tolist() == [17, 17]
    token_class = torch.arange(900, device=device)[None] % 2
    row_table = torch.zeros(2, dtype=torch.int32, device=device)
    weight[300] = 0.5
    for head in heads(weight, class_layout(token_class, 2)):
        assert head(hidden, row_table).token.tolist() == [[300, 17]] * 2


def test_a_row_gives_the_same_bits_alone_and_among_others(dtype, device, assert_same_bits):
    hidden, weight = make_head(67, 72, 600, dtype, device)
    for config in CONFIGS:
        head = FusedHead(weight, config=config)
        alone, among = head(hidden[5:6]), head(hidden)
        assert_same_bits(alone.score[0], among.score[5])
        assert_same_bits(alone.lse[0], among.lse[5])
        assert alone.token[0] == among.token[5]


def test_rows_that_no_descriptor_can_describe_are_refused(device):
    with pytest.raises(ValueError, match="d_model=65"):
        FusedHead(torch.zeros(10, 65, dtype=torch.float16, device=device))


@pytest.mark.filterwarnings("ignore:All-NaN:RuntimeWarning")  # numpy's, in the interpreter
def test_a_broken_forward_gives_no_token(device):
    hidden = torch.full((2, 64), torch.nan, dtype=torch.float16, device=device)
    weight = torch.ones(300, 64, dtype=torch.float16, device=device)
    assert FusedHead(weight)(hidden).token.tolist() == [-1, -1]
    token_class = torch.arange(300, device=device)[None] % 2
    row_table = torch.zeros(2, dtype=torch.int32, device=device)
    found = FusedHead(weight, class_layout(token_class, 2))(hidden, row_table)
    assert found.token.tolist() == [[-1, -1]] * 2
