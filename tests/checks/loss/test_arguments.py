"""Rules on the arguments of loss functions: the fault fires, what looks like it does not."""

from doctor.evidence.base import Source
from doctor.evidence.loss_arguments import CtcFacts, LossArguments, LossPlace
from doctor.evidence.token_alignment import TokenAlignment
from doctor.evidence.training_trace import Step, TrainingTrace
from doctor.testing import findings_of

HERE = Source("train.py", 7, "main")
MADE = Source("train.py", 3, "main")


def place(function, **changes):
    return LossArguments((LossPlace(function, HERE, **{"input_shape": (32, 10), "outputs": (10,), **changes}),))


class TestNllWithoutLogSoftmax:
    def test_raw_scores_fire_on_the_loss_line(self):
        (finding,) = findings_of("LOS003", place("nll_loss", rows=64, normalised=0, log_sum=2.4))
        assert (finding.name, finding.location.line) == ("nll-without-log-softmax", 7)
        assert "raw scores" in finding.message

    def test_probabilities_fire(self):
        (finding,) = findings_of("LOS003", place("nll_loss", rows=64, probabilities=64, log_sum=2.4))
        assert "probabilities" in finding.message

    def test_log_probabilities_are_silent(self):
        assert not findings_of("LOS003", place("nll_loss", rows=64, normalised=64, log_sum=1e-6))

    def test_the_log_of_smoothed_probabilities_is_silent(self):
        assert not findings_of("LOS003", place("nll_loss", rows=64, normalised=0, log_sum=0.03))


class TestWrongLoss:
    def test_another_criterion_is_asked_for_where_this_one_is_made(self):
        (finding,) = findings_of("LOS005", place("cross_entropy", input_shape=(32, 1), outputs=(1,), made=MADE))
        assert (finding.location.line, finding.related[0].location.line) == (3, 7)

    def test_cross_entropy_over_one_class_fires(self):
        (finding,) = findings_of("LOS005", place("cross_entropy", input_shape=(32, 1), outputs=(1,)))
        assert (finding.name, finding.location.line) == ("wrong-loss", 7)

    def test_a_contrastive_batch_of_one_is_silent(self):
        assert not findings_of("LOS005", place("cross_entropy", input_shape=(32, 32), outputs=(32, 1)))

    def test_class_ids_in_a_regression_fire(self):
        assert findings_of("LOS005", place("mse_loss", nominal=(0.92, 0.3, 10), whole_targets=True))

    def test_ratings_in_a_regression_are_silent(self):
        assert not findings_of("LOS005", place("mse_loss", nominal=(0.55, 0.6, 5), whole_targets=True))

    def test_binary_cross_entropy_on_class_ids_fires(self):
        name = "binary_cross_entropy_with_logits"
        assert findings_of("LOS005", place(name, target_minimum=0, target_maximum=4))

    def test_soft_binary_targets_are_silent(self):
        name = "binary_cross_entropy_with_logits"
        assert not findings_of("LOS005", place(name, target_minimum=0.05, target_maximum=0.95))

    def test_several_labels_under_a_softmax_fire_and_one_hot_ones_do_not(self):
        several = {"target_rows": 64, "multi_hot_rows": 40, "one_hot_rows": 20, "whole_targets": True}
        assert findings_of("LOS005", place("cross_entropy", **several))
        one = {"target_rows": 64, "multi_hot_rows": 0, "one_hot_rows": 64, "whole_targets": True}
        assert not findings_of("LOS005", place("cross_entropy", **one))

    def test_samples_without_a_label_beside_some_with_several_fire_and_padding_alone_does_not(self):
        rare = {"target_rows": 100, "multi_hot_rows": 10, "one_hot_rows": 45, "whole_targets": True}
        assert findings_of("LOS005", place("cross_entropy", **rare))
        padded = {"target_rows": 100, "multi_hot_rows": 0, "one_hot_rows": 45, "whole_targets": True}
        assert not findings_of("LOS005", place("cross_entropy", **padded))

    def test_probabilities_as_the_input_of_kl_div_fire_and_log_probabilities_do_not(self):
        assert findings_of("LOS005", place("kl_div", rows=32, probabilities=32, maximum=0.4, positive_share=1.0))
        assert not findings_of("LOS005", place("kl_div", rows=32, normalised=32, maximum=-0.1, target_minimum=0.0))

    def test_log_targets_are_silent_when_declared(self):
        logs = {"rows": 32, "normalised": 32, "maximum": -0.1, "target_minimum": -9.0}
        assert findings_of("LOS005", place("kl_div", **logs))
        assert not findings_of("LOS005", place("kl_div", options={"log_target": True}, **logs))


class TestCtc:
    def facts(self, **changes):
        return place("ctc_loss", rows=100, normalised=100, ctc=CtcFacts(samples=32, labels=160, batches=2, **changes))

    def test_a_blank_among_the_labels_fires(self):
        (finding,) = findings_of("LOS009", self.facts(blank_labels=20))
        assert (finding.name, finding.location.line) == ("ctc-blank-or-lengths", 7)

    def test_raw_scores_fire(self):
        assert findings_of("LOS009", place("ctc_loss", rows=100, log_sum=3.0, ctc=CtcFacts(samples=32)))

    def test_transcripts_without_labels_fire_and_a_few_silent_clips_do_not(self):
        (finding,) = findings_of("LOS009", self.facts(empty=14))
        assert finding.faults == ("empty-transcripts",)
        assert not findings_of("LOS009", self.facts(empty=2))

    def test_infeasible_alignments_fire_and_one_short_clip_does_not(self):
        assert findings_of("LOS009", self.facts(infeasible=12, zero_infinity=True))
        assert not findings_of("LOS009", self.facts(infeasible=1, zero_infinity=True))

    def test_lengths_in_another_unit_fire_and_rounded_ones_do_not(self):
        assert findings_of("LOS009", self.facts(ratios=(0.5, 0.49, 0.51) * 8))
        assert not findings_of("LOS009", self.facts(ratios=(1.0, 1.02, 0.98) * 8))

    def test_full_lengths_over_padding_are_silent(self):
        assert not findings_of("LOS009", self.facts(ratios=(1.0, 1.4, 1.9, 1.1) * 8, full_batches=2))


class TestWeights:
    def test_weights_that_grow_with_frequency_fire(self):
        (finding,) = findings_of("LOS014", place("cross_entropy", counts=(800, 200, 50), weight=(2.3, 0.6, 0.1)))
        assert (finding.location.line, finding.faults) == (7, ("loss-weighting",))

    def test_inverse_frequencies_are_silent(self):
        assert not findings_of("LOS014", place("cross_entropy", counts=(800, 200, 50), weight=(0.4, 1.8, 7.0)))

    def test_balanced_batches_are_silent(self):
        assert not findings_of("LOS014", place("cross_entropy", counts=(340, 350, 360), weight=(0.4, 1.0, 3.0)))

    def test_an_inverted_pos_weight_fires_and_the_right_one_does_not(self):
        name = "binary_cross_entropy_with_logits"
        assert findings_of("LOS014", place(name, counts=([100], [900]), pos_weight=(0.11,)))
        assert not findings_of("LOS014", place(name, counts=([100], [900]), pos_weight=(9.0,)))


def test_a_first_loss_far_above_that_of_ignorance_is_a_hint():
    trace = TrainingTrace((Step(0, 0, 30.0, 0.1, 1.0, 1.0, 1e-3),), HERE)
    (finding,) = findings_of("LOS015", place("cross_entropy"), trace)
    assert finding.level == "info"
    usual = TrainingTrace((Step(0, 0, 2.5, 0.1, 1.0, 1.0, 1e-3),), HERE)
    assert not findings_of("LOS015", place("cross_entropy"), usual)


def test_a_regression_on_token_ids_is_a_wrong_loss():
    line = Source("train.py", 52)
    (finding,) = findings_of("LOS005", LossArguments(), TokenAlignment(regressed=(line,)))
    assert (finding.level, finding.location.line) == ("error", 52)
    assert not findings_of("LOS005", LossArguments(), TokenAlignment())
