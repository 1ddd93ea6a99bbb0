"""Inputs and targets that contradict each other; columns that should not be features."""

import torch

from doctor.evidence.base import Source
from doctor.evidence.data_lines import DataLine, DataLines
from doctor.evidence.input_moments import InputMoments, InputStatistics, Moments
from doctor.evidence.pair_facts import PairFacts
from doctor.observe import pair_facts
from doctor.testing import findings_of


def examined(x, y):
    found = pair_facts.examine(x, y)
    return PairFacts(**{k: tuple(v) if isinstance(v, list) else v for k, v in found.items()})


def blobs(noise=0.0, spread=0.4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 6, (900,), generator=generator)
    x = torch.randn(6, 8, generator=generator)[y] * 2 + spread * torch.randn(900, 8, generator=generator)
    wrong = torch.rand(900, generator=generator) < noise
    return x, torch.where(wrong, torch.randint(0, 6, (900,), generator=generator), y)


def codes(x, y):
    facts = examined(x, y)
    return [c for c in ("DAT005", "DAT010", "DAT011", "DAT013", "DAT025") if findings_of(c, facts)]


def test_clean_classes_are_silent():
    assert codes(*blobs()) == []


def test_overlapping_classes_are_no_label_noise():
    assert codes(*blobs(spread=2.0)) == []


def test_a_third_of_random_labels_is_label_noise():
    assert codes(*blobs(noise=0.35)) == ["DAT013"]


def test_one_in_five_labels_of_two_classes_flipped_is_label_noise():
    x, y = blobs()
    flipped = torch.rand(900, generator=torch.Generator().manual_seed(5)) < 0.2
    assert codes(x, torch.where(flipped, 1 - y % 2, y % 2)) == ["DAT013"]
    assert codes(x, y % 2) == []


def test_two_classes_that_overlap_at_their_border_are_no_label_noise():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1200, 8, generator=generator)
    chance = torch.sigmoid(3 * x.sum(1) / 8**0.5)
    assert codes(x, (torch.rand(1200, generator=generator) < chance).long()) == []


def test_a_rare_class_that_nothing_tells_is_no_label_noise():
    generator = torch.Generator().manual_seed(1)
    y = (torch.rand(1200, generator=generator) < 0.18).long()
    assert codes(torch.randn(1200, 8, generator=generator), y) == []


def test_rare_classes_that_distance_does_not_recognise_are_no_label_noise():
    generator = torch.Generator().manual_seed(3)
    y = torch.multinomial(torch.tensor([0.62, 0.14, 0.10, 0.08, 0.06]), 1500, True, generator=generator)
    assert codes(torch.randn(1500, 8, generator=generator), y) == []


def test_equal_inputs_with_two_labels_conflict():
    x, y = blobs()
    x[:60], y[:60] = x[60:120], (y[60:120] + 1) % 6
    assert "DAT005" in codes(x, y)


def test_equal_inputs_with_equal_labels_do_not_conflict():
    x, y = blobs()
    x[:60], y[:60] = x[60:120], y[60:120]
    assert codes(x, y) == []


def test_a_copy_of_the_class_among_the_columns_is_leakage():
    x, y = blobs()
    x[:, 3] = (y * 7 % 6).float()
    assert "DAT011" in codes(x, y)


def test_a_feature_with_a_threshold_is_no_leakage():
    x = torch.randn(400, 5, generator=torch.Generator().manual_seed(1))
    assert codes(x, (x[:, 0] > 0).long()) == []


def test_a_scaled_copy_of_a_number_is_leakage():
    x = torch.randn(400, 5, generator=torch.Generator().manual_seed(1))
    y = x.sum(1) ** 2
    x[:, 2] = 0.1 * y + 3
    assert "DAT011" in codes(x, y)


def test_a_standardised_row_number_is_an_id():
    x, y = blobs()
    numbers = torch.arange(900.0)[torch.randperm(900, generator=torch.Generator().manual_seed(2))]
    x[:, 1] = (numbers - numbers.mean()) / numbers.std()
    assert "DAT025" in codes(x, y)


def test_measured_integers_are_no_id():
    x, y = blobs()
    x[:, 1] = torch.randint(0, 5000, (900,), generator=torch.Generator().manual_seed(2)).float()
    assert codes(x, y) == []


def test_a_constant_column_is_told_as_info():
    x, y = blobs()
    x[:, 5] = 4.0
    (finding,) = findings_of("DAT010", examined(x, y))
    assert finding.severity == "info"


def moments(mean):
    return Moments(200, (mean, 0.0), (1.0, 1.0), (1.0, 1.0), (-3.0, -3.0), (3.0, 3.0))


def test_a_column_that_moved_is_drift():
    assert findings_of("DAT015", InputStatistics((InputMoments(0, 2, moments(0.0), moments(1.6)),)))


def test_sampling_noise_is_no_drift():
    assert not findings_of("DAT015", InputStatistics((InputMoments(0, 2, moments(0.0), moments(0.2)),)))


def windows(target):
    series = torch.randn(400, 3, generator=torch.Generator().manual_seed(3)).cumsum(0).cumsum(0)
    cut = series.unfold(0, 12, 1).transpose(1, 2)[:-1]
    return cut, series[target : target + len(cut), 1]


def test_a_window_that_reaches_over_its_own_target_is_leakage_placed_where_windows_are_cut():
    x, y = windows(target=11)
    lines = DataLines((DataLine("window", "", Source("train.py", 8)),))
    (finding,) = findings_of("DAT011", examined(x, 3 * y + 1), lines)
    assert (finding.location.line, finding.name) == (8, "target-leakage")
    assert "step 11 of 12" in finding.message
    assert "feature 1" in finding.message


def test_a_target_next_to_the_last_value_of_its_window_is_silent():
    assert codes(*windows(target=12)) == []


def test_windows_that_hold_some_of_several_targets_are_leakage():
    series = torch.randn(400, 3, generator=torch.Generator().manual_seed(3)).cumsum(0).cumsum(0)
    cut = series.unfold(0, 12, 1).transpose(1, 2)[:-12]
    ahead = [torch.stack([series[i + k : i + k + len(cut), 1] for k in range(4)], 1) for i in (10, 12)]
    (finding,) = findings_of("DAT011", examined(cut, ahead[0]))
    assert "step 10 of 12" in finding.message
    assert not findings_of("DAT011", examined(cut, ahead[1]))
