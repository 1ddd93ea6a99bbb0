"""Rules on metamorphic experiments: what fires, and what looks like it and does not."""

from dataclasses import replace

from doctor.evidence.base import Source
from doctor.evidence.metamorphic import (
    BatchIndependence,
    Causality,
    ExperimentedCall,
    IgnoredFeatures,
    InputField,
    Layer,
    Metamorphic,
    NormLayer,
    Operation,
    OrderBlindness,
    PaddingInvariance,
    TrainEvalGap,
)
from doctor.evidence.optimizer_log import OptimizerLog, OptimizerRecord
from doctor.testing import findings_of

CALLED, MADE, MASK = (
    Source("train.py", 30, "forward"),
    Source("train.py", 12, "__init__"),
    Source("train.py", 14, "mask"),
)
SOFTMAX = Operation("_softmax", CALLED)


def call(**experiments):
    return Metamorphic(
        (ExperimentedCall(0, "", "Net", CALLED, Source("train.py", 28, "forward"), True, **experiments),)
    )


class TestBatchMixing:
    mixed = BatchIndependence(32, 0, "loader", 1.0, 0.3, cause=SOFTMAX)

    def test_a_softmax_over_the_batch_is_named_with_its_line(self):
        (finding,) = findings_of("ARC008", call(independence=self.mixed))
        assert (finding.name, finding.severity, finding.location.line) == ("batch-mixing", "error", 30)

    def test_a_forgotten_batch_first_is_shown_where_the_layer_is_made(self):
        lstm = Operation("view", CALLED, layer=Layer("LSTM", "rnn", MADE))
        (finding,) = findings_of("ARC008", call(independence=replace(self.mixed, cause=lstm)))
        assert finding.location.line == 12
        assert "batch_first" in finding.remedy

    def test_nodes_of_one_graph_may_mix(self):
        assert not findings_of("ARC008", call(independence=replace(self.mixed, connected=True)))

    def test_experts_with_a_capacity_move_a_few_samples_only(self):
        assert not findings_of("ARC008", call(independence=replace(self.mixed, share=0.2)))

    def test_float_noise_is_no_mixing(self):
        assert not findings_of("ARC008", call(independence=replace(self.mixed, effect=1e-5)))

    def test_a_critic_with_minibatch_statistics_is_told_as_info(self):
        adams = tuple(OptimizerRecord(i, "Adam", ("a",), {"lr": 0.1}, MADE, 20) for i in range(2))
        (finding,) = findings_of("ARC008", call(independence=self.mixed), OptimizerLog(adams, steps=40))
        assert finding.severity == "info"


class TestCausalLeak:
    leak = Causality("idx", 48, 24, 0.4, True, 24, cause=SOFTMAX)

    def test_unmasked_attention_is_named_with_its_line(self):
        (finding,) = findings_of("ARC009", call(causality=self.leak))
        assert (finding.name, finding.severity, finding.location.line) == ("causal-leak", "error", 30)

    def test_a_leak_through_a_scrambled_view_follows_from_it(self):
        (finding,) = findings_of("ARC009", call(causality=self.leak))
        assert "scrambled-reshape" in finding.follows_from

    def test_a_mask_off_by_one_is_shown_where_it_is_built(self):
        (finding,) = findings_of("ARC009", call(causality=replace(self.leak, reach=2, masks=(MASK,))))
        assert finding.location.line == 14

    def test_a_bidirectional_layer_is_shown_where_it_is_made(self):
        both = Operation("cat", CALLED, layer=Layer("LSTM", "rnn", MADE, True, bidirectional=True))
        (finding,) = findings_of("ARC009", call(causality=replace(self.leak, cause=both)))
        assert finding.location.line == 12

    def test_a_causal_model_is_silent(self):
        assert not findings_of("ARC009", call(causality=replace(self.leak, leaks=False, effect=0.0)))

    def test_the_code_of_an_autoencoder_may_tell_of_the_future(self):
        (finding,) = findings_of("ARC009", call(causality=replace(self.leak, compresses=True)))
        assert finding.severity == "info"


class TestMissingAttentionMask:
    seen = PaddingInvariance("ids", 0.2, 13, 42, True, 0.9, attention=2, unmasked=2, cause=SOFTMAX)

    def test_attention_that_sees_padding_is_named_with_its_line(self):
        (finding,) = findings_of("ARC010", call(padding=self.seen))
        assert (finding.name, finding.severity, finding.location.line) == ("missing-attention-mask", "warning", 30)

    def test_a_masked_model_is_silent(self):
        assert not findings_of("ARC010", call(padding=replace(self.seen, effect=0.0, unmasked=0)))

    def test_padding_before_the_texts_is_told_as_such(self):
        (finding,) = findings_of("ARC010", call(padding=replace(self.seen, leading=True)))
        assert "padding before ids hold other ids" in finding.message

    def test_a_mean_over_padding_is_told_as_info(self):
        (finding,) = findings_of("ARC010", call(padding=replace(self.seen, attention=0, unmasked=0, cause=None)))
        assert finding.severity == "info"


class TestPositionBlind:
    blind = OrderBlindness("ids", 20, 1e-7, True, False, True, Operation("embedding", CALLED))

    def test_a_tagger_without_positions_is_warned_of(self):
        (finding,) = findings_of("ARC017", call(order=self.blind))
        assert (finding.severity, finding.location.line) == ("warning", 30)

    def test_a_pooled_set_is_told_as_info(self):
        (finding,) = findings_of("ARC017", call(order=replace(self.blind, per_position=False)))
        assert finding.severity == "info"

    def test_a_bigram_model_whose_positions_never_meet_is_silent(self):
        assert not findings_of("ARC017", call(order=replace(self.blind, mixes=False)))

    def test_a_model_with_positions_is_silent(self):
        assert not findings_of("ARC017", call(order=replace(self.blind, effect=0.1)))


class TestIgnoredInput:
    x, context = InputField("x", (50, 8), "float32", True), InputField("context", (50, 5), "float32", False)

    def test_an_input_that_changes_nothing_is_named(self):
        (finding,) = findings_of("ARC019", call(fields=(self.x, self.context)))
        assert finding.message.startswith("context")
        assert finding.severity == "warning"

    def test_lengths_that_nobody_reads_are_told_as_info(self):
        (finding,) = findings_of("ARC019", call(fields=(self.x, InputField("lengths", (50,), "int64", False))))
        assert finding.severity == "info"

    def test_a_model_that_follows_no_input_at_all_is_another_fault(self):
        assert not findings_of("ARC019", call(fields=(replace(self.x, used=False), self.context)))

    def test_labels_that_only_reach_the_loss_do_not_speak_for_the_model(self):
        labels = InputField("labels", (50,), "int64", True, moves=False)
        assert not findings_of("ARC019", call(fields=(replace(self.x, used=False, moves=False), labels)))

    def test_a_feature_sliced_off_is_named(self):
        (finding,) = findings_of("ARC019", call(fields=(self.x,), features=IgnoredFeatures("x", 1, 8, (7,), 1)))
        assert "1 of 8 features" in finding.message


class TestBatchNormGap:
    shared = NormLayer("bn", 2, 64, 0.1, 80, 0.7, 2.0, between=1.5, ratio_between=11.0, source=MADE)

    def test_one_norm_for_two_places_is_shown_where_it_is_made(self):
        (finding,) = findings_of("ARC020", call(train_eval_gap=TrainEvalGap(0.9, (self.shared,), 1)))
        assert (finding.faults, finding.location.line) == (("batchnorm-misuse",), 12)

    def test_towers_that_share_a_norm_on_like_inputs_are_silent(self):
        alike = replace(self.shared, between=0.1, ratio_between=1.2)
        assert not findings_of("ARC020", call(train_eval_gap=TrainEvalGap(0.6, (alike,), 1)))

    def test_statistics_of_a_small_momentum_are_not_judged(self):
        slow = replace(self.shared, calls=1, momentum=0.01, shift=5.0)
        assert not findings_of("ARC020", call(train_eval_gap=TrainEvalGap(0.9, (slow,), 1)))

    def test_a_small_gap_is_silent(self):
        assert not findings_of("ARC020", call(train_eval_gap=TrainEvalGap(0.2, (self.shared,), 1)))
