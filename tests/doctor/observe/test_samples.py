"""What of a model's inputs is kept as its features."""

import torch

from doctor.observe import pairing
from doctor.observe.repeats import distinct
from doctor.observe.watches.samples import _joined


def test_the_numbers_of_a_table_come_first_and_its_categories_behind_them():
    codes, numbers = torch.randint(0, 5, (8, 3)), torch.randn(8, 4)
    for inputs in ([codes, numbers], [numbers, codes]):
        joined = _joined(inputs)
        assert torch.equal(joined[:, :4], numbers)
        assert torch.equal(joined[:, 4:], codes.float())


def test_token_ids_beside_a_mask_images_and_a_pair_of_tables_stay_the_first_input():
    ids, mask = torch.randint(0, 99, (8, 128)), torch.ones(8, 128)
    image, table = torch.randn(8, 3, 6, 6), torch.randn(8, 4)
    assert _joined([ids, mask]) is ids
    assert _joined([image, table]) is image
    assert _joined([table, torch.randn(8, 5)]) is table


def test_samples_of_several_epochs_are_not_taken_for_their_own_neighbours():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(300, 6, generator=generator), torch.randint(0, 3, (300,), generator=generator)
    again = torch.randperm(300, generator=generator)
    inputs, targets = torch.cat([x, x[again]]), torch.cat([y, y[again]])
    first = distinct(inputs)
    assert torch.equal(first, torch.arange(300))
    assert pairing.examine(inputs, targets)["near_errors"] > 4
    assert pairing.examine(inputs[first], targets[first])["near_errors"] < 3


def test_padded_texts_are_told_from_the_fields_of_a_table():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 30, (200, 8), generator=generator)
    texts = ids.masked_fill(torch.arange(8) >= torch.randint(3, 9, (200, 1), generator=generator), 0)
    assert pairing._is_ragged(texts)
    assert not pairing._is_ragged(ids)
    assert not pairing._is_ragged(ids.clamp(max=3))
