"""Optimizers made anew, accumulation, precision, frozen weights."""

import dataclasses

from doctor.evidence.accumulation_log import AccumulationLog, Window
from doctor.evidence.base import Source
from doctor.evidence.frozen_weights import FrozenRoot, FrozenWeights
from doctor.evidence.module_tree import ModuleTree, ParameterRecord, RootRecord
from doctor.evidence.optimizer_log import OptimizerLog, OptimizerRecord
from doctor.evidence.precision_log import AutocastRegion, PrecisionLog, ScalerUse
from doctor.evidence.program_run import Crash, ProgramRun
from doctor.evidence.step_log import OptimizerMade, StepLog
from doctor.testing import findings_of

HERE, THERE = Source("train.py", 7, "main"), Source("train.py", 21, "main")
LOG = OptimizerLog((OptimizerRecord(0, "SGD", ("a",), created=HERE, steps=40),), steps=40)


class TestReset:
    def made(self, count, gap, **changes):
        fields = {"stateful": True, "untouched": True, **changes}
        first = OptimizerMade(0, "Adam", HERE, 0, fields["stateful"])
        return StepLog(made=(first, *(OptimizerMade(0, "Adam", HERE, gap * (i + 1), **fields) for i in range(count))))

    def test_a_new_optimizer_each_step_is_an_error_at_its_line(self):
        (finding,) = findings_of("OPT012", self.made(30, 1))
        assert (finding.name, finding.location.line, finding.severity) == ("optimizer-reset", 7, "error")

    def test_a_new_optimizer_each_epoch_is_a_warning(self):
        assert findings_of("OPT012", self.made(3, 25))[0].severity == "warning"

    def test_two_phases_plain_sgd_new_weights_and_loaded_weights_are_silent(self):
        assert not findings_of("OPT012", self.made(1, 40))
        assert not findings_of("OPT012", self.made(5, 10, stateful=False))
        assert not findings_of("OPT012", self.made(5, 10, untouched=False))
        assert not findings_of("OPT012", self.made(5, 10, loads=3))


class TestAccumulation:
    def log(self, ratio, batches=8, head="NllLossBackward0", backwards=8, **changes):
        windows = (Window(backwards, batches),) * 6
        return AccumulationLog(0, windows, (ratio,) * 40, (head,) * 40, ("mean",), (THERE,), **changes)

    def test_undivided_losses_fire_on_the_backward_line(self):
        (finding,) = findings_of("OPT013", LOG, self.log(1.0))
        assert (finding.name, finding.location.line) == ("accumulation-unscaled", 21)
        assert finding.treatment.factor == 1 / 8

    def test_a_loss_written_by_hand_fires_unless_it_ends_in_a_division(self):
        assert findings_of("OPT013", LOG, self.log(None, head="MeanBackward0"))
        assert not findings_of("OPT013", LOG, self.log(None, head="DivBackward0"))

    def test_gradients_cleared_before_each_backward_are_silent(self):
        closure = OptimizerLog((dataclasses.replace(LOG.optimizers[0], zero_grads=48),))
        assert not findings_of("OPT013", closure, self.log(1.0))

    def test_divided_losses_one_backward_and_several_tasks_of_one_batch_are_silent(self):
        assert not findings_of("OPT013", LOG, self.log(1 / 8))
        assert not findings_of("OPT013", LOG, self.log(1.0, backwards=1, batches=1))
        assert not findings_of("OPT013", LOG, self.log(1.0, batches=1))


class TestPrecision:
    def region(self, dtype):
        return (AutocastRegion("cuda", dtype, 20, HERE),)

    def test_float16_without_a_scaler_fires(self):
        (finding,) = findings_of("OPT014", PrecisionLog(self.region("float16")))
        assert (finding.name, finding.location.line) == ("amp-no-scaler", 7)

    def test_a_clip_before_unscale_and_a_step_around_the_scaler_fire(self):
        early = ScalerUse(1, True, scales=20, steps=20, updates=20, clips_before_unscale=20, clip_source=THERE)
        assert findings_of("OPT014", PrecisionLog(self.region("float16"), early))[0].location.line == 21
        around = ScalerUse(1, True, scales=20, plain_steps=20, plain_step_source=THERE)
        assert findings_of("OPT014", PrecisionLog(self.region("float16"), around))[0].severity == "error"

    def test_bfloat16_and_the_whole_order_are_silent(self):
        assert not findings_of("OPT014", PrecisionLog(self.region("bfloat16")))
        whole = ScalerUse(1, True, scales=20, unscales=20, steps=20, updates=20)
        assert not findings_of("OPT014", PrecisionLog(self.region("float16"), whole))


class TestFrozen:
    RUN = ProgramRun("budget", steps=80)

    def tree(self, moved=None, optimizer=None):
        head = ParameterRecord("fc.weight", (10, 32), reached=3)
        body = ParameterRecord("body.0.weight", (32, 32), requires_grad=False, moved=moved, optimizer=optimizer)
        return ModuleTree((RootRecord(0, "Net", 2000, 320, HERE, forwards=80),), (), (head, body))

    def frozen(self, **changes):
        fields = {"examined": 3, "untrained": 3, "names": ("body.0.weight",), "lines": (THERE,), **changes}
        return FrozenWeights((FrozenRoot(0, 2000, 1700, **fields),))

    def test_a_random_frozen_body_fires_where_it_is_frozen(self):
        (finding,) = findings_of("OPT016", self.RUN, self.frozen(), self.tree())
        assert (finding.name, finding.location.line) == ("frozen-params", 21)

    def test_learnt_loaded_and_moving_bodies_and_one_random_layer_are_silent(self):
        assert not findings_of("OPT016", self.RUN, self.frozen(untrained=0), self.tree())
        assert not findings_of("OPT016", self.RUN, self.frozen(loads=1), self.tree())
        assert not findings_of("OPT016", self.RUN, self.frozen(), self.tree(moved=0.1))
        assert not findings_of("OPT016", self.RUN, self.frozen(untrained=1, examined=1), self.tree())

    def test_one_random_layer_that_an_optimizer_was_given_is_on_trial(self):
        frozen = self.frozen(untrained=1, examined=1)
        (finding,) = findings_of("OPT016", self.RUN, frozen, self.tree(optimizer=0))
        assert (finding.level, finding.treatment.kind) == ("warning", "unfreeze-parameters")

    def test_frozen_embeddings_as_drawn_fire_where_they_are_made(self):
        tables = {"tables": ("user.weight", "item.weight"), "table": HERE, "examined": 0, "untrained": 0}
        frozen = FrozenWeights((FrozenRoot(0, 2000, 300, **tables, by_default=True),))
        (finding,) = findings_of("OPT016", self.RUN, frozen, self.tree())
        assert (finding.name, finding.location.line) == ("frozen-params", 7)
        assert finding.demonstrated
        (asked,) = findings_of("OPT016", self.RUN, FrozenWeights((FrozenRoot(0, 2000, 300, **tables),)), self.tree())
        assert not asked.demonstrated
        for learnt in ({"pretrained": True}, {"loads": 1}):
            assert not findings_of(
                "OPT016", self.RUN, FrozenWeights((FrozenRoot(0, 2000, 300, **tables, **learnt),)), self.tree()
            )

    def test_nothing_to_learn_explains_the_crash(self):
        crash = Crash("RuntimeError", "element 0 of tensors does not require grad and does not have a grad_fn", THERE)
        frozen = FrozenWeights((FrozenRoot(0, 2000, 2000, lines=(HERE,)),))
        (finding,) = findings_of("OPT016", ProgramRun("crashed", crash=crash), frozen, self.tree())
        assert finding.severity == "error"
