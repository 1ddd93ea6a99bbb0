"""Needless treatments and the table of what trials said of them."""

from benchmarks.false_confirmation import Trial, needless, table
from doctor.evidence.recording import Recording
from doctor.trials.treatments import ClearGradients, Experiment, SearchLearningRate


def test_treatments_without_arguments_fit_every_program():
    found = list(needless(Recording(())))
    assert ClearGradients() in found
    assert any(isinstance(treatment, SearchLearningRate) for treatment in found)
    assert not any(isinstance(treatment, Experiment) for treatment in found)
    assert len({(type(treatment), treatment.model_dump_json()) for treatment in found}) == len(found)


def test_table_counts_confirmed_as_false():
    made = [
        Trial("a", "clear-gradients", "gradients cleared", "confirmed", 0.4),
        Trial("b", "clear-gradients", "gradients cleared", "refuted", 0.0),
    ]
    text = table(made)
    assert "clear-gradients                     2        1             0  1/2 = 50 %" in text
    assert "gain 0.40" in text.splitlines()[-1]
