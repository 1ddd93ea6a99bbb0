"""Decay, momentum, clipping, warm-up."""

import pytest

from doctor.evidence.base import Source
from doctor.evidence.clip_log import ClipLog, ClipPlace
from doctor.evidence.module_tree import ModuleRecord, ModuleTree
from doctor.evidence.optimizer_log import OptimizerLog, OptimizerRecord
from doctor.evidence.step_log import GroupRecord, OptimizerGroups, StepLog
from doctor.evidence.training_trace import Step, TrainingTrace
from doctor.testing import findings_of

HERE, CLIP = Source("train.py", 7, "main"), Source("train.py", 22, "main")
FLAT, FALLING = (2.3,) * 40, tuple(2.3 * 0.96**i for i in range(40))


def log(kind):
    return OptimizerLog((OptimizerRecord(0, kind, ("a",), {"lr": 0.1}, created=HERE, step_source=HERE, steps=40),))


def trace(losses=FLAT, rate=1e-3, gradient=1.0, norm=10.0):
    return TrainingTrace(tuple(Step(i, 0, x, rate, gradient, norm, 1e-3) for i, x in enumerate(losses)))


def groups(betas=(), **settings):
    return StepLog((OptimizerGroups(0, (GroupRecord(6, settings, betas, norm=10.0),)),))


class TestWeightDecay:
    def test_decay_that_outweighs_the_gradient_fires(self):
        (finding,) = findings_of("OPT009", log("Adam"), groups(weight_decay=0.5), trace())
        assert (finding.name, finding.location.line) == ("excess-weight-decay", 7)

    def test_a_large_coefficient_of_adam_fires_before_it_outweighs(self):
        assert findings_of("OPT009", log("Adam"), groups(weight_decay=0.15), trace(gradient=10.0))
        assert not findings_of("OPT009", log("Adam"), groups(weight_decay=0.01), trace(gradient=0.5))

    def test_decoupled_decay_that_shrinks_the_weights_fires(self):
        assert findings_of("OPT009", log("AdamW"), groups(weight_decay=10.0), trace())

    def test_many_small_matrices_beside_scales_of_norm_layers_fire(self):
        small = GroupRecord(16, {"weight_decay": 50.0, "decoupled_weight_decay": True}, (), norm=4.0)
        scales = GroupRecord(24, {"weight_decay": 0.0}, (), norm=16.0)
        one = GroupRecord(1, {"weight_decay": 50.0, "decoupled_weight_decay": True}, (), norm=4.0)
        assert findings_of("OPT009", log("AdamW"), StepLog((OptimizerGroups(0, (small, scales)),)), trace())
        assert not findings_of("OPT009", log("AdamW"), StepLog((OptimizerGroups(0, (one, scales)),)), trace())

    def test_usual_decay_is_silent(self):
        assert not findings_of("OPT009", log("AdamW"), groups(weight_decay=0.3), trace(gradient=0.01))
        assert not findings_of("OPT009", log("Adam"), groups(weight_decay=5e-4), trace(gradient=1e-4))
        assert not findings_of("OPT009", log("SGD"), groups(weight_decay=5e-4, momentum=0.9), trace(rate=0.1))


class TestMomentum:
    @pytest.mark.parametrize(
        ("kind", "step_log"),
        [
            ("SGD", groups(momentum=0.999)),
            ("Adam", groups((0.999, 0.9))),
            ("Adam", groups((0.9, 0.09))),
            ("Adam", groups((0.9, 0.999), eps=1.0)),
        ],
    )
    def test_settings_out_of_range_fire(self, kind, step_log):
        (finding,) = findings_of("OPT010", log(kind), step_log, trace())
        assert (finding.name, finding.location.line) == ("bad-momentum", 7)

    @pytest.mark.parametrize(
        ("kind", "step_log"),
        [
            ("SGD", groups(momentum=0.9, nesterov=True)),
            ("Adam", groups((0.5, 0.9), eps=1e-8)),
            ("AdamW", groups((0.95, 0.95), eps=1e-6)),
            ("RMSprop", groups(eps=1e-3, alpha=0.9, momentum=0.9)),
        ],
    )
    def test_usual_and_unusual_but_right_settings_are_silent(self, kind, step_log):
        assert not findings_of("OPT010", log(kind), step_log, trace())

    def test_a_program_that_trains_well_keeps_its_large_momentum(self):
        assert not findings_of("OPT010", log("SGD"), groups(momentum=0.99), trace(FALLING))


class TestClipping:
    def place(self, limit, norm, **changes):
        fields = {"calls": 40, "source": CLIP, "optimizer": 0, "norms": (norm,) * 40, "elements": 10_000, **changes}
        return ClipLog((ClipPlace("clip_grad_norm_", limit, **fields),))

    def test_a_limit_far_below_the_norm_fires_on_its_line(self):
        (finding,) = findings_of("OPT011", log("SGD"), self.place(1e-3, 1.0), trace())
        assert (finding.name, finding.location.line) == ("clip-too-small", 22)

    def test_a_call_after_the_step_fires_without_a_trial(self):
        (finding,) = findings_of("OPT011", log("Adam"), self.place(1.0, 1.0, misplaced=40), trace())
        assert finding.demonstrated

    def test_a_limit_that_guards_adam_and_good_progress_are_silent(self):
        assert not findings_of("OPT011", log("SGD"), self.place(1.0, 1.4), trace())
        assert not findings_of("OPT011", log("Adam"), self.place(0.1, 5.0), trace())
        assert not findings_of("OPT011", log("SGD"), self.place(0.1, 1.0), trace(FALLING))

    def test_hand_written_clipping_is_seen_and_a_plain_average_is_not(self):
        changes = tuple(0.01 * (1 + 0.1 * i) for i in range(8))
        assert findings_of("OPT011", log("SGD"), ClipLog(changes=changes), trace())
        assert not findings_of("OPT011", log("SGD"), ClipLog(changes=(0.0625,) * 8), trace())


class TestWarmup:
    TRANSFORMER = ModuleTree(
        (), (ModuleRecord("a", "MultiheadAttention"), ModuleRecord("n1", "LayerNorm"), ModuleRecord("n2", "LayerNorm"))
    )

    def test_a_transformer_that_stands_at_its_full_rate_fires(self):
        assert findings_of("OPT015", log("Adam"), trace(), self.TRANSFORMER)[0].treatment.kind == "warmup"

    def test_progress_a_warm_up_and_other_models_are_silent(self):
        assert not findings_of("OPT015", log("Adam"), trace(FALLING), self.TRANSFORMER)
        assert not findings_of("OPT015", log("Adam"), trace(), ModuleTree())
        rising = TrainingTrace(tuple(Step(i, 0, 2.3, 1e-4 * i, 1.0, 10.0, 1e-3) for i in range(40)))
        assert not findings_of("OPT015", log("Adam"), rising, self.TRANSFORMER)


class TestCreepingRate:
    def test_a_fresh_model_that_creeps_is_put_on_trial(self):
        creeping = TrainingTrace(tuple(Step(i, 0, 2.3 - 5e-4 * i, 1e-5, 1.0, 10.0, 1e-4) for i in range(60)))
        assert findings_of("OPT002", log("AdamW"), creeping)

    def test_a_game_whose_loss_rises_is_no_divergence(self):
        two = OptimizerLog(tuple(OptimizerRecord(i, "Adam", ("a",), created=HERE, steps=20) for i in (0, 1)))
        rising = TrainingTrace(tuple(Step(i, 0, 0.3 + 0.02 * i, 1e-3, 1.0, 10.0, 0.01) for i in range(40)))
        assert not findings_of("OPT001", two, rising)


class TestPlateau:
    def run(self, ratio, level, fall=0.0, thrown=0.3):
        losses = [4.5 - (4.5 - level) * min(1, i / 12) - fall * i for i in range(80)]
        ratios = [thrown, *(ratio for _ in losses[1:])]
        return TrainingTrace(
            tuple(Step(i, 0, x, 0.2, 1.0, 100.0, r) for i, (x, r) in enumerate(zip(losses, ratios, strict=True)))
        )

    def test_large_steps_on_a_plateau_are_a_warning_to_be_tried(self):
        (finding,) = findings_of("OPT001", log("AdamW"), self.run(0.03, 3.3))
        assert (finding.level, finding.treatment.kind) == ("warning", "search-learning-rate")

    def test_small_steps_falling_and_low_losses_are_silent(self):
        assert not findings_of("OPT001", log("AdamW"), self.run(0.003, 3.3))
        assert not findings_of("OPT001", log("AdamW"), self.run(0.03, 3.3, fall=0.01))
        assert not findings_of("OPT001", log("AdamW"), self.run(0.03, 0.5))
        assert not findings_of("OPT001", log("AdamW"), self.run(0.03, 3.3, thrown=0.04))


def test_a_rate_of_zero_is_an_error_at_the_optimizer():
    nothing = OptimizerLog((OptimizerRecord(0, "Adam", ("a",), {"lr": 0.0}, created=HERE, step_source=HERE, steps=40),))
    steps = TrainingTrace(tuple(Step(i, 0, 2.3, 0.0, 1.0, 10.0, 0.0) for i in range(40)))
    (finding,) = findings_of("OPT002", nothing, steps)
    assert (finding.level, finding.location.line) == ("error", 7)
    assert "params-not-updating" in finding.faults
