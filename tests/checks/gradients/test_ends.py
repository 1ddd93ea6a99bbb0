"""Zero gradients and saturated units, on evidence made by hand."""

from doctor.evidence.activation_stats import ActivationRecord, ActivationStats
from doctor.evidence.base import Source
from doctor.evidence.gradient_flow import GradientFlow, ParameterGradient
from doctor.evidence.module_tree import ModuleRecord, ModuleTree
from doctor.evidence.op_tape import Op, OpTape, Tape, TensorNote
from doctor.evidence.training_trace import Step, TrainingTrace
from doctor.evidence.update_log import GradientEnd, UpdateLog
from doctor.testing import findings_of

HERE = Source("net.py", 9)


def flow(*rms):
    weights = [ParameterGradient(f"w{i}", "", "Linear", i, (8, 8), r, (1.0,) * len(r)) for i, r in enumerate(rms)]
    return GradientFlow(tuple(range(len(rms[0]))), tuple(weights))


class TestExploding:
    def spiking(self, losses):
        norms = [30.0 if i in (14, 20, 26) else 0.7 for i in range(len(losses))]
        steps = tuple(
            Step(i, 0, loss, 1e-3, norm, 10.0, 0.01) for i, (loss, norm) in enumerate(zip(losses, norms, strict=True))
        )
        return findings_of("GRD002", TrainingTrace(steps))

    def test_spikes_are_an_error_where_the_loss_stands(self):
        assert self.spiking([2.0] * 30)[0].level == "error"

    def test_spikes_while_the_loss_falls_are_a_warning(self):
        assert self.spiking([2.0 * 0.95**i for i in range(30)])[0].level == "warning"

    def test_first_steps_as_large_as_the_weights_are_the_rates_doing(self):
        def huge(ratio):
            steps = tuple(Step(i, 0, 2.0, 3.0, 2000.0, 10.0, ratio) for i in range(30))
            return findings_of("GRD002", TrainingTrace(steps))[0].follows_from

        assert huge(1.5) == ("lr-too-high",)
        assert huge(0.01) == ()


class TestZeroGradients:
    clamp = UpdateLog(ends=(GradientEnd("ClampBackward1", HERE),))

    def test_a_clamp_out_of_range_fires_on_its_line(self):
        (finding,) = findings_of("GRD006", flow((0.0,) * 5, (0.0,) * 5), self.clamp)
        assert (finding.level, finding.location.line) == ("error", 9)

    def test_a_branch_that_starts_at_zero_is_silent(self):
        assert not findings_of("GRD006", flow((0.0, 0.1, 0.1, 0.1, 0.1), (0.1,) * 5), self.clamp)

    def lone_token(self, authored):
        attention = ModuleRecord("attention.query", "Linear", authored=authored)
        weights = [
            ParameterGradient("attention.query.weight", "attention.query", "Linear", 0, (8, 8), (0.0,) * 5, (1.0,) * 5)
        ]
        ends = UpdateLog(ends=(GradientEnd("SoftmaxBackward0", HERE),))
        return findings_of(
            "GRD006", GradientFlow(tuple(range(5)), tuple(weights)), ends, ModuleTree(modules=(attention,))
        )

    def test_attention_over_one_token_is_only_told_where_the_attention_is_a_librarys(self):
        assert [f.level for f in self.lone_token(authored=True)] == ["error"]
        assert [f.level for f in self.lone_token(authored=False)] == ["info"]

    def test_dead_relu_units_are_left_to_their_own_rule(self):
        assert not findings_of("GRD006", flow((0.0,) * 5), UpdateLog(ends=(GradientEnd("ReluBackward0", HERE),)))


class TestSaturated:
    def tape(self, *reader):
        def note(number):
            return TensorNote(number, (64, 32), "float32")

        ops = [Op(0, "tanh", (note(1),), (note(2),), source=HERE)]
        ops += [Op(1, name, (note(2),), (note(3),), source=HERE) for name in reader]
        return OpTape((Tape(0, tuple(ops)),))

    def units(self, share):
        return ActivationStats((ActivationRecord("tanh", "", HERE, 32, 4, 256, saturated_share=share),))

    def test_a_hidden_layer_at_its_bounds_fires(self):
        assert findings_of("GRD005", self.units(0.9), self.tape("addmm"))[0].location.line == 9

    def test_an_output_and_a_working_layer_are_silent(self):
        assert not findings_of("GRD005", self.units(0.9), self.tape())
        assert not findings_of("GRD005", self.units(0.1), self.tape("addmm"))
