"""Batch norm, dropout, depth, capacity, output size, the last step of a bidirectional layer."""

import torch
import torch.nn.functional as F
from torch import nn

from doctor.evidence.base import Source
from doctor.evidence.dropout_log import DropoutLog, DropoutNoise, DropoutPlace
from doctor.evidence.gradient_flow import GradientFlow, ParameterGradient
from doctor.evidence.loss_calls import LossCall, LossCalls
from doctor.evidence.module_tree import ModuleRecord, ModuleTree
from doctor.evidence.op_tape import OpTape
from doctor.evidence.reference_run import ReferenceRun
from doctor.evidence.training_trace import Step, TrainingTrace
from doctor.testing import findings_of

HERE = Source("net.py", 12)


def norm(**settings):
    known = {"eps": 1e-5, "momentum": 0.1, "track_running_stats": True, **settings}
    return ModuleTree(modules=(ModuleRecord("bn", "BatchNorm1d", settings=known, training_calls=9, created=HERE),))


class TestBatchNorm:
    def test_a_momentum_in_the_place_of_eps_is_found(self):
        (finding,) = findings_of("ARC013", norm(eps=0.8))
        assert finding.location.line == 12
        assert finding.treatment.eps == 1e-5

    def test_momentum_of_one_and_of_zero_are_found(self):
        assert findings_of("ARC013", norm(momentum=0.99))
        assert findings_of("ARC013", norm(momentum=0.0))
        assert "stay at mean 0" in findings_of("ARC013", norm(momentum=1.5e-4))[0].message

    def test_usual_settings_are_silent(self):
        assert not findings_of("ARC013", norm(eps=1e-3, momentum=0.003))
        assert not findings_of("ARC013", norm(momentum=None))
        assert not findings_of("ARC013", norm(momentum=3e-4))

    def test_batches_of_two_are_found_and_convolutions_of_one_image_are_silent(self, taped):
        flat, deep = nn.BatchNorm1d(5), nn.BatchNorm2d(5)
        two = taped(lambda: flat(torch.randn(2, 5, requires_grad=True)).mean(), bn=flat).tape
        one = taped(lambda: deep(torch.randn(1, 5, 6, 6, requires_grad=True)).mean(), bn=deep).tape
        assert findings_of("ARC013", norm(), OpTape(two.tapes * 2))
        assert not findings_of("ARC013", norm(), OpTape(one.tapes * 2))

    def test_a_norm_on_the_outputs_is_tried_without(self, taped):
        fc, bn = nn.Linear(5, 3), nn.BatchNorm1d(3)
        run = taped(lambda: F.cross_entropy(bn(fc(torch.randn(9, 5))), torch.arange(9) % 3), fc=fc, bn=bn)
        (finding,) = findings_of("ARC013", norm(), run.tape)
        assert finding.treatment.kind == "bypass-module"


def dropout(p, ratio, shape=(32, 64), on_data=False):
    return DropoutLog((DropoutPlace(p, shape, HERE, on_data=on_data),), (DropoutNoise(0, ratio, 1.0),))


class TestDropout:
    def test_a_probability_that_hardly_leaves_anything_needs_no_trial(self):
        (finding,) = findings_of("ARC014", dropout(0.9, 3.0))
        assert finding.demonstrated == "one value in 10 is left"

    def test_much_dropout_that_drowns_the_signal_is_found(self):
        (finding,) = findings_of("ARC014", dropout(0.75, 0.3))
        assert (finding.name, finding.location.line) == ("excess-dropout", 12)

    def test_nine_tenths_are_found_whatever_the_ratio(self):
        assert findings_of("ARC014", dropout(0.9, 3.0))

    def test_few_inputs_are_found(self):
        assert findings_of("ARC014", dropout(0.5, 2.0, (32, 8), on_data=True))

    def test_usual_dropout_and_wide_inputs_are_silent(self):
        assert not findings_of("ARC014", dropout(0.5, 0.5))
        assert not findings_of("ARC014", dropout(0.8, 3.0, (32, 2000), on_data=True))


def plain(depth, skip=False):
    layers = {f"b{i}": nn.Linear(6, 6) for i in range(depth)}

    def compute():
        x = torch.randn(4, 6, requires_grad=True)
        for layer in layers.values():
            x = torch.tanh(layer(x)) + (x if skip else 0.0)
        return x.mean()

    gradients = tuple(ParameterGradient(f"b{i}.weight", f"b{i}", "Linear", i, (6, 6), (10.0 ** (i - depth),), (1.0,))
                      for i in range(depth))  # fmt: skip
    tree = ModuleTree(modules=tuple(ModuleRecord(name, "Linear", parameters=42, created=HERE) for name in layers))
    return compute, layers, tree, GradientFlow((0,), gradients)


class TestResidual:
    def test_a_deep_chain_with_fading_gradients_is_found(self, taped):
        compute, layers, tree, flow = plain(10)
        (finding,) = findings_of("ARC015", taped(compute, **layers).tape, tree, flow)
        assert finding.treatment.kind == "insert-residual"

    def test_skips_and_shallow_chains_are_silent(self, taped):
        compute, layers, tree, flow = plain(10, skip=True)
        assert not findings_of("ARC015", taped(compute, **layers).tape, tree, flow)
        compute, layers, tree, flow = plain(4)
        assert not findings_of("ARC015", taped(compute, **layers).tape, tree, flow)


def squeezed(taped, width, reference):
    a, b = nn.Linear(16, width), nn.Linear(width, 10)
    run = taped(lambda: F.cross_entropy(b(torch.relu(a(torch.randn(8, 16)))), torch.arange(8)), a=a, b=b)
    modules = tuple(ModuleRecord(name, "Linear", created=HERE) for name in "ab")
    calls = LossCalls((LossCall("cross_entropy", HERE, (8, 10), (8,), "int64"),))
    trace = TrainingTrace(tuple(Step(i, 0, 1.8, 0.1, 1.0, 1.0, 1e-3) for i in range(40)))
    return findings_of("ARC016", run.tape, ModuleTree(modules=modules), calls, trace, reference)


class TestCapacity:
    learnt = ReferenceRun("classes", 500, 0.4, 2.5, 2.3, 0.05)

    def test_a_bottleneck_that_falls_behind_the_reference_is_found(self, taped):
        (finding,) = squeezed(taped, 1, self.learnt)
        assert (finding.name, finding.location.line) == ("insufficient-capacity", 12)

    def test_wide_layers_and_hard_data_are_silent(self, taped):
        assert not squeezed(taped, 16, self.learnt)
        assert not squeezed(taped, 1, ReferenceRun("classes", 500, 1.7, 2.5, 2.3, 0.05))


class TestOutputSize:
    def call(self, one, two, function="mse_loss"):
        return LossCalls((LossCall(function, HERE, one, two, "float32"),))

    def test_ten_outputs_for_one_target_are_found(self):
        assert findings_of("ARC007", self.call((32, 10), (32, 1)))

    def test_equal_shapes_and_sequences_are_silent(self):
        assert not findings_of("ARC007", self.call((32, 10), (32, 10)))
        assert not findings_of("ARC007", self.call((32, 1), (32, 1)))


def final_step(taped, read):
    rnn, out = nn.LSTM(4, 3, batch_first=True, bidirectional=True), nn.LazyLinear(2)
    settings = {"batch_first": True, "bidirectional": True, "hidden_size": 3}
    tree = ModuleTree(modules=(ModuleRecord("rnn", "LSTM", settings=settings),))

    def compute():
        states, (hidden, _) = rnn(torch.randn(5, 7, 4))
        return out(read(states, hidden)).mean()

    out(torch.zeros(5, read(torch.zeros(5, 7, 6), torch.zeros(2, 5, 3)).shape[-1]))
    return findings_of("ARC021", taped(compute, rnn=rnn, out=out).tape, tree)


class TestLastStep:
    def test_the_last_step_of_both_directions_is_found(self, taped):
        (finding,) = final_step(taped, lambda states, hidden: states[:, -1])
        assert finding.name == "backward-direction-at-last-step"

    def test_final_states_means_and_halves_are_silent(self, taped):
        assert not final_step(taped, lambda states, hidden: torch.cat([hidden[0], hidden[1]], 1))
        assert not final_step(taped, lambda states, hidden: states.mean(1))
        assert not final_step(taped, lambda states, hidden: torch.cat([states[:, -1, :3], states[:, 0, 3:]], 1))
