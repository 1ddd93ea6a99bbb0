"""Rules on evidence made by hand: the fault fires, what looks like it does not."""

from dataclasses import replace

from doctor.evidence.activation_stats import ActivationRecord, ActivationStats
from doctor.evidence.base import Source
from doctor.evidence.batch_log import BatchLog, InputStats, LoaderRecord, TargetStats
from doctor.evidence.evaluation_log import EvaluationLog, EvaluationPlace
from doctor.evidence.loss_calls import LossCall, LossCalls
from doctor.evidence.module_tree import ModuleRecord, ModuleTree, ParameterRecord, RootRecord
from doctor.evidence.op_tape import Op, OpTape, Tape, TensorNote
from doctor.evidence.optimizer_log import MissedParameter, OptimizerLog, OptimizerRecord
from doctor.evidence.program_run import Crash, ProgramRun
from doctor.evidence.training_trace import Step, TrainingTrace
from doctor.testing import findings_of

HERE = Source("train.py", 7, "main")


def adam(**changes):
    return OptimizerRecord(
        **{
            "index": 0,
            "kind": "Adam",
            "parameters": ("a",),
            "settings": {"lr": 0.1},
            "created": HERE,
            "steps": 20,
            **changes,
        }
    )


def trace(losses, ratio=1e-3, rate=0.1, norm=1.0):
    steps = [Step(i, 0, loss, rate, norm, 10.0, ratio) for i, loss in enumerate(losses)]
    return TrainingTrace(tuple(steps), HERE)


class TestMissingZeroGrad:
    def test_fires_on_the_backward_line(self):
        log = OptimizerLog((adam(carried=(1.0,) * 19, backward_source=HERE),), backwards=20, steps=20)
        (finding,) = findings_of("OPT003", log)
        assert (finding.name, finding.location.line) == ("missing-zero-grad", 7)
        assert finding.treatment.kind == "clear-gradients"

    def test_accumulation_over_four_batches_is_silent(self):
        log = OptimizerLog((adam(carried=(0.0,) * 19, backwards_per_step=4.0),), backwards=80, steps=20)
        assert not findings_of("OPT003", log)

    def test_a_first_uncleared_step_is_silent(self):
        log = OptimizerLog((adam(carried=(1.0, 0.0, 0.0, 0.0, 0.0)),), backwards=6, steps=6)
        assert not findings_of("OPT003", log)


class TestMissingParameters:
    def test_fires_for_a_registered_parameter_without_an_optimizer(self):
        log = OptimizerLog((adam(),), (MissedParameter("head.weight", (2, 8), True, module="head"),), steps=20)
        (finding,) = findings_of("OPT005", log)
        assert "head.weight" in finding.message

    def test_an_input_that_is_optimised_is_no_parameter_of_the_model(self):
        log = OptimizerLog((adam(),), (MissedParameter("<tensor 4x8 #0>", (4, 8), False),), steps=20)
        assert not findings_of("OPT005", log)
        assert not findings_of("ARC004", log, ModuleTree())


class TestLearningRate:
    def test_a_loss_that_rises_under_large_updates_is_suspicious(self):
        (finding,) = findings_of("OPT001", OptimizerLog((adam(),)), trace([1.0] * 5 + [9.0] * 15, ratio=0.3))
        assert finding.treatment.kind == "search-learning-rate"

    def test_a_large_rate_that_makes_progress_is_silent(self):
        assert not findings_of("OPT001", OptimizerLog((adam(),)), trace([2.3 * 0.9**i for i in range(20)], ratio=0.2))

    def test_a_noisy_flat_loss_under_small_updates_is_silent(self):
        assert not findings_of("OPT001", OptimizerLog((adam(),)), trace([0.69, 0.72, 0.67] * 7, ratio=1e-3))

    def test_standing_still_is_too_low(self):
        assert findings_of("OPT002", OptimizerLog((adam(),)), trace([1.0] * 30, ratio=1e-8))

    def test_warm_up_is_not_too_low(self):
        steps = [Step(i, 0, 1.0, 1e-6 * i, 1.0, 10.0, 1e-8 * i) for i in range(30)]
        assert not findings_of("OPT002", OptimizerLog((adam(),)), TrainingTrace(tuple(steps)))

    def test_slow_fine_tuning_that_improves_is_not_too_low(self):
        assert not findings_of("OPT002", OptimizerLog((adam(),)), trace([2.0 * 0.98**i for i in range(30)], ratio=1e-5))


def note(number, shape, grad=True, parameter=None):
    return TensorNote(number, shape, "float32", grad, parameter=parameter)


def classifier(*between):
    """Ops of a linear layer, of what stands between, and of a cross-entropy."""
    ops = [Op(0, "addmm", (note(1, (10,)), note(2, (8, 4), False), note(3, (4, 10))), (note(4, (8, 10)),), source=HERE)]
    last = 4
    for name in between:
        ops.append(Op(len(ops), name, (note(last, (8, 10)),), (note(last + 1, (8, 10)),), source=Source("net.py", 30)))
        last += 1
    ops.append(Op(len(ops), "_log_softmax", (note(last, (8, 10)),), (note(last + 1, (8, 10)),), source=HERE))
    ops.append(Op(len(ops), "nll_loss_forward", (note(last + 1, (8, 10)),), (note(last + 2, ()),), source=HERE))
    return OpTape((Tape(0, tuple(ops), loss=last + 2),))


class TestDoubleSoftmax:
    def test_fires_on_the_line_of_the_softmax(self):
        (finding,) = findings_of("LOS001", classifier("_softmax", "view"))
        assert (finding.location.path, finding.location.line) == ("net.py", 30)
        assert "wrong-output-activation" in finding.faults

    def test_a_layer_is_named_where_it_is_constructed(self):
        tape = classifier("_softmax")
        (first,) = tape.tapes
        ops = tuple(
            replace(op, module="3", module_kind="Softmax", root=0) if op.name == "_softmax" else op for op in first.ops
        )
        tree = ModuleTree(modules=(ModuleRecord("3", "Softmax", created=Source("net.py", 12)),))
        (finding,) = findings_of("LOS001", OpTape((replace(first, ops=ops),)), tree)
        assert (finding.location.line, finding.treatment.module) == (12, "3")

    def test_logits_are_silent(self):
        assert not findings_of("LOS001", classifier("view"))

    def test_attention_upstream_of_a_layer_is_silent(self):
        assert not findings_of("LOS001", classifier("_softmax", "bmm"))

    def test_log_softmax_twice_is_harmless_and_silent(self):
        assert not findings_of("LOS001", classifier("_log_softmax"))


class TestBroadcast:
    def call(self, one, other):
        return LossCalls((LossCall("mse_loss", HERE, one, other, "float32"),))

    def test_column_against_row_fires(self):
        assert findings_of("LOS004", self.call((32, 1), (32,)))[0].location.line == 7

    def test_equal_shapes_and_batches_of_one_are_silent(self):
        assert not findings_of("LOS004", self.call((32, 1), (32, 1)))
        assert not findings_of("LOS004", self.call((1, 1), (1,)))


class TestCrash:
    def crash(self, message, kind="RuntimeError"):
        frame = Source("train.py", 12, "forward")
        crash = Crash(kind, message, frame, (HERE, frame), "head", "Linear(64, 2)", ((8, 32),))
        return ProgramRun("crashed", script="train.py", crash=crash)

    def test_a_shape_error_is_told_in_plain_words_with_its_line(self):
        (finding,) = findings_of("ARC001", self.crash("mat1 and mat2 shapes cannot be multiplied (8x32 and 64x2)"))
        assert "wants 64 input features and gets 32" in finding.message
        assert (finding.location.line, finding.location.module) == (12, "head")

    def test_another_crash_is_told_by_the_general_rule(self):
        assert not findings_of("ARC001", self.crash("no such key", "KeyError"))
        assert findings_of("ARC002", self.crash("no such key", "KeyError"))

    def test_a_program_that_ends_well_is_silent(self):
        for code in ("ARC001", "ARC002", "OPT020"):
            assert not findings_of(code, ProgramRun("finished", steps=10, backwards=10, optimizers=1))


class TestUnshuffled:
    def log(self, batches, shuffled=False):
        loader = LoaderRecord(0, "TensorDataset", 100, 4, shuffled, source=HERE, used_in_training=True)
        return BatchLog(targets=(TargetStats((4,), "int64", tuple(batches)),), loaders=(loader,))

    def test_sorted_labels_fire_on_the_loaders_line(self):
        (finding,) = findings_of("DAT014", self.log([(c,) * 8 for c in range(8)]))
        assert finding.location.line == 7

    def test_mixed_labels_are_silent_without_shuffling_too(self):
        assert not findings_of("DAT014", self.log([(0, 1, 2, 3, 0, 1, 2, 3)] * 8))

    def test_a_shuffling_loader_is_silent(self):
        assert not findings_of("DAT014", self.log([(c,) * 8 for c in range(8)], shuffled=True))


class TestInputs:
    def log(self, mean, std, **changes):
        stats = {"minimum": -3.0, "maximum": 3.0, "batches": 4, "samples": 128, "source": HERE, **changes}
        return BatchLog(inputs=(InputStats(0, "input", (32, len(mean)), 1, mean, std, **stats),))

    def test_raw_columns_fire(self):
        assert findings_of("DAT008", self.log((0.1, 700.0), (0.02, 300.0)))

    def test_standardised_pixels_and_normalised_first_are_silent(self):
        assert not findings_of("DAT008", self.log((0.0, 0.1), (1.0, 0.9)))
        assert not findings_of("DAT008", self.log((0.3, 0.0), (0.3, 0.001)))
        assert not findings_of("DAT008", self.log((120.0,), (60.0,), normalised_first=True))


class TestInitialisation:
    def tree(self, **changes):
        weights = [
            ParameterRecord(f"fc{i}.weight", (8, 8), module=f"fc{i}", module_kind="Linear", optimizer=0, **changes)
            for i in range(3)
        ]
        return ModuleTree((RootRecord(0, "Net", 192, 192),), (), tuple(weights))

    def test_zero_layers_fire_and_random_ones_do_not(self):
        assert findings_of("PAR001", self.tree(zero_share=1.0, equal_units=True))
        assert not findings_of("PAR001", self.tree(std=0.1))

    def scales(self, count=3, **changes):
        norms = [
            ParameterRecord(f"bn{i}.weight", (8,), module=f"bn{i}", module_kind="BatchNorm2d", optimizer=0,
                            **{"zero_share": float(i < count), "moved": 0.0 if i < count else 0.1, "reached": 3, **changes})
            for i in range(4)
        ]  # fmt: skip
        return ModuleTree((RootRecord(0, "Net", 192, 192),), (), tuple(norms))

    def test_scales_of_norms_that_stay_zero_fire(self):
        (finding,) = findings_of("PAR001", self.scales())
        assert "3 of 4 norm layers" in finding.message
        assert finding.demonstrated

    def test_the_last_norm_of_a_branch_and_scales_that_grow_are_silent(self):
        assert not findings_of("PAR001", self.scales(count=1))
        assert not findings_of("PAR001", self.scales(moved=0.2))

    def test_equal_rows_fire_unless_they_part(self):
        assert findings_of("PAR002", self.tree(std=0.1, equal_units=True, still_equal_units=True))
        assert not findings_of("PAR002", self.tree(std=0.1, equal_units=True, still_equal_units=False))
        assert not findings_of("PAR002", self.tree(std=0.1))


class TestEvaluation:
    def place(self, **changes):
        fields = {"root": 0, "root_kind": "Net", "source": HERE, "forwards": 4, "train_mode": 4, "grad_enabled": 0}
        return EvaluationLog((EvaluationPlace(**{**fields, "mode_sensitive": ("drop (Dropout p=0.5)",), **changes}),))

    def test_dropout_in_evaluation_fires(self):
        assert findings_of("EVL001", self.place())[0].location.line == 7

    def test_nothing_mode_sensitive_or_before_training_or_within_a_step_is_silent(self):
        assert not findings_of("EVL001", self.place(mode_sensitive=()))
        assert not findings_of("EVL001", self.place(after_training=False))
        assert not findings_of("EVL001", self.place(during_training_window=True))
        assert not findings_of("EVL001", self.place(train_mode=0))

    def test_a_target_network_that_is_asked_at_every_step_is_silent_and_an_average_is_not(self):
        tree = ModuleTree(parameters=(ParameterRecord("slow.weight", (4, 4), root=1, requires_grad=False),))
        trace = TrainingTrace(tuple(Step(i, 0, 1.0, 0.1, 1.0, 1.0, 1e-3) for i in range(40)))
        assert not findings_of("EVL001", self.place(root=1, forwards=40, train_mode=40), tree, trace)
        assert findings_of("EVL001", self.place(root=1, forwards=4), tree, trace)


class TestDeadUnits:
    def place(self, **changes):
        fields = {"function": "relu", "module": "", "source": HERE, "units": 64, "batches": 4, "samples": 256}
        return ActivationStats((ActivationRecord(**{**fields, **changes}),))

    def test_units_dead_for_every_sample_fire(self):
        assert findings_of("GRD004", self.place(dead_share=0.9))

    def test_nearly_all_units_dead_is_a_fact_and_some_are_for_the_trial(self):
        assert findings_of("GRD004", self.place(dead_share=0.95))[0].demonstrated
        assert not findings_of("GRD004", self.place(dead_share=0.7))[0].demonstrated

    def test_sparse_but_living_units_and_few_samples_are_silent(self):
        assert not findings_of("GRD004", self.place(dead_share=0.1, zero_share=0.85))
        assert not findings_of("GRD004", self.place(dead_share=0.9, samples=16))


class TestUnused:
    def tree(self, calls, optimizer=0):
        used = ParameterRecord(
            "a.weight", (4, 4), module="a", reached=3, backwards_sampled=3, created=HERE, optimizer=0
        )
        lost = ParameterRecord("b.weight", (4, 4), module="b", backwards_sampled=3, created=HERE, optimizer=optimizer)
        modules = tuple(
            ModuleRecord(path, "Linear", parameters=16, calls=n, training_calls=m, created=HERE)
            for path, n, m in (("a", 80, 80), ("b", calls, 0))
        )
        return ModuleTree((RootRecord(0, "Net", 32, 32, HERE, forwards=80),), modules, (used, lost))

    def test_layers_that_are_never_called_fire(self):
        (finding,) = findings_of("ARC005", self.tree(calls=0))
        assert finding.faults == ("unused-layers",)

    def test_layers_that_were_frozen_after_their_training_fire(self):
        tree = self.tree(calls=0)
        used, lost = tree.parameters
        frozen = replace(lost, requires_grad=False)
        assert findings_of("ARC005", replace(tree, parameters=(used, frozen)))
        never = replace(frozen, optimizer=None)
        assert not findings_of("ARC005", replace(tree, parameters=(used, never)))

    def test_layers_that_are_called_without_gradients_are_detached_where_an_optimizer_holds_them(self):
        (finding,) = findings_of("ARC005", self.tree(calls=80))
        assert finding.faults[0] == "detached-graph"
        (finding,) = findings_of("ARC005", self.tree(calls=80, optimizer=None))
        assert finding.faults == ("unused-layers",)

    def test_a_layer_inside_a_running_block_is_told_itself(self):
        used = ParameterRecord("fc.weight", (4, 4), module="fc", reached=3, backwards_sampled=3, optimizer=0)
        fields = {"backwards_sampled": 3, "created": HERE, "optimizer": 0}
        lost = ParameterRecord("blocks.0.f.weight", (4, 4), module="blocks.0.f", **fields)
        modules = (
            ModuleRecord("blocks", "ModuleList"),
            ModuleRecord("blocks.0", "Block", calls=80, training_calls=80, builtin=False),
            ModuleRecord("blocks.0.f", "Linear", parameters=16, created=Source("net.py", 5)),
            ModuleRecord("fc", "Linear", parameters=16, calls=80, training_calls=80),
        )
        tree = ModuleTree((RootRecord(0, "Net", 32, 32, HERE, forwards=80),), modules, (used, lost))
        (finding,) = findings_of("ARC005", tree)
        assert (finding.faults, finding.location.line) == (("unused-layers",), 5)
        assert "never called in training: blocks.0.f" in finding.message

    def test_a_parameter_that_its_own_running_module_never_uses_fires(self):
        def tree(**changes):
            used = ParameterRecord("fc.weight", (4, 4), module="fc", reached=3, backwards_sampled=3, optimizer=0)
            fields = {"module": "", "backwards_sampled": 3, "optimizer": 0, "created": HERE, **changes}
            modules = (
                ModuleRecord(
                    "", "Net", builtin=fields.pop("builtin", False), calls=80, training_calls=80, created=HERE
                ),
                ModuleRecord("fc", "Linear", parameters=16, calls=80, training_calls=80, created=HERE),
            )
            root = RootRecord(0, "Net", 32, 32, HERE, forwards=80)
            return ModuleTree((root,), modules, (used, ParameterRecord("position", (1, 4), **fields)))

        (finding,) = findings_of("ARC005", tree())
        assert "position-blind" in finding.faults
        assert not findings_of("ARC005", tree(moved=0.2))  # at steps whose backward was not sampled
        assert not findings_of("ARC005", tree(optimizer=None))
        assert not findings_of("ARC005", tree(builtin=True))
