"""Which way flat targets of a sequence lie."""

import torch

from doctor.observe.watches import tokens


def batch(fill):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 40, (16, 12), generator=generator)
    tags = torch.randint(0, 4, (16, 12), generator=generator)
    empty = torch.arange(12) >= torch.arange(4, 12).repeat(2)[:, None]
    return ids.masked_fill(empty, 0), tags.masked_fill(empty, fill).reshape(-1)


def test_the_padding_of_flat_tags_tells_that_they_lie_sample_by_sample():
    ids, flat = batch(fill=0)
    found = tokens._alignments(ids, flat)
    ((rows, aligned, time_first),) = found  # read across the batch, padding would meet padding and pass for a match
    assert not time_first
    assert tokens._constancy(rows, aligned) == 1.0


def test_tags_time_step_by_time_step_are_told_as_well():
    ids, flat = batch(fill=-100)
    by_time = flat.reshape(16, 12).t().reshape(-1)
    found = tokens._alignments(ids.t().contiguous(), by_time)
    assert max(found, key=lambda one: tokens._constancy(one[0], one[1]))[2]


def test_no_padding_tells_nothing():
    ids = torch.randint(1, 40, (16, 12), generator=torch.Generator().manual_seed(0))
    assert tokens._constancy(ids, torch.zeros(16, 12, dtype=torch.long)) == -1.0


def test_targets_that_are_the_next_tokens_are_told_and_others_are_not():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 40, (8, 20), generator=generator)
    assert tokens.is_next(ids[:, :-1], ids[:, 1:])
    assert tokens.is_next(ids.t()[:-1], ids.t()[1:].reshape(-1))  # time first
    assert not tokens.is_next(ids[:, :-1], torch.randint(0, 40, (8, 19), generator=generator))  # counts, ratings
    assert not tokens.is_next(ids[:, :-1] % 2, ids[:, 1:] % 2)


def test_a_sign_at_one_place_of_every_sample_is_no_padding_when_read_across_the_batch():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 40, (12, 16), generator=generator)
    ids[-3:] = 2  # an end sign at three places, which is whole rows of the batch across
    ids[-4, 5:] = 2
    assert tokens._tail(ids) is None


def test_padding_behind_texts_of_many_lengths_is_found():
    ids = torch.randint(3, 40, (16, 12), generator=torch.Generator().manual_seed(0))
    ids = ids.masked_fill(torch.arange(12) >= torch.arange(4, 12).repeat(2)[:, None], 2)
    assert tokens._tail(ids)[0] == 2


def test_an_end_sign_before_the_padding_is_told():
    ids = torch.randint(5, 40, (16, 12), generator=torch.Generator().manual_seed(0))
    lengths = torch.arange(4, 12).repeat(2)
    padded = torch.arange(12) >= lengths[:, None]
    assert not tokens._is_ended(ids.masked_fill(padded, 0), padded)
    ids[torch.arange(16), lengths - 1] = 2
    assert tokens._is_ended(ids.masked_fill(padded, 0), padded)
