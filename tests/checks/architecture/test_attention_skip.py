"""Attention layers in a row with and without a way around them."""

import torch
from torch import nn

from doctor.evidence.attention_skips import attention_skips
from doctor.testing import findings_of


class Attention(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x):
        weights = torch.softmax(self.q(x) @ self.k(x).transpose(1, 2) / 3, dim=-1)
        return self.out(weights @ self.v(x))


def stack(skip, layers=2, between=None):
    blocks = {f"block{i}": Attention() for i in range(layers)}
    first, last = nn.Linear(8, 8), nn.Linear(8, 3)

    def compute():
        x = first(torch.randn(4, 6, 8))
        for block in blocks.values():
            mixed = block(x)
            x = torch.cat([x, mixed], 1)[:, 6:] if skip == "cat" else x + mixed if skip == "add" else mixed
            x = between(x) if between else x
        return last(x.mean(1)).logsumexp(1).mean()

    return compute, {**blocks, "first": first, "last": last}


def judged(run):
    return findings_of("ARC015", attention_skips(run.tape, None))


def found(taped, *arguments, **options):
    compute, modules = stack(*arguments, **options)
    return judged(taped(compute, **modules))


def test_attentions_one_upon_the_other_without_a_sum_are_found(taped):
    (finding,) = found(taped, None)
    assert finding.name == "missing-residual"
    assert "2 of 2 attention layers" in finding.message


def test_sums_and_concatenations_around_them_are_silent(taped):
    assert not found(taped, "add")
    assert not found(taped, "cat")


def test_a_single_attention_is_silent(taped):
    assert not found(taped, None, layers=1)


def test_fused_attention_is_known_as_well(taped):
    layers = {f"a{i}": nn.MultiheadAttention(8, 2, batch_first=True) for i in range(2)}
    last = nn.Linear(8, 3)

    def compute(skip):
        x = torch.randn(4, 6, 8, requires_grad=True).relu()
        for layer in layers.values():
            mixed = layer(x, x, x, need_weights=False)[0]
            x = x + mixed if skip else mixed
        return last(x.mean(1)).logsumexp(1).mean()

    assert judged(taped(lambda: compute(False), **layers, last=last))
    assert not judged(taped(lambda: compute(True), **layers, last=last))


class Masked(nn.MultiheadAttention):
    """Computed step by step, with a softmax of its own, where a mask and dropout come together."""

    def __init__(self):
        super().__init__(8, 2, dropout=0.1, batch_first=True)

    def forward(self, x):
        hidden = torch.ones(6, 6, dtype=torch.bool).triu(1)
        return super().forward(x, x, x, attn_mask=hidden, need_weights=False)[0]


def test_attention_of_pytorch_with_a_mask_and_dropout_counts_as_well(taped):
    blocks = {f"block{i}": Masked() for i in range(2)}

    def compute(skip):
        x = torch.randn(4, 6, 8, requires_grad=True)
        for block in blocks.values():
            x = x + block(x) if skip else block(x)
        return x.logsumexp(2).mean()

    assert judged(taped(lambda: compute(False), **blocks))
    assert not judged(taped(lambda: compute(True), **blocks))
