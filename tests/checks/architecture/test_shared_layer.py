import torch
from torch import nn

from doctor.evidence.base import Source
from doctor.evidence.call_log import CallLog, ModuleCall
from doctor.evidence.module_tree import ModuleRecord, ModuleTree
from doctor.testing import findings_of


def calls_of(path, lines, **fields):
    calls = (ModuleCall("", Source("train.py", 90)), *(ModuleCall(path, Source("net.py", n), caller="") for n in lines))
    return CallLog(calls, **fields)


def tree_of(path, kind):
    root = ModuleRecord("", "Net", builtin=False)
    return ModuleTree(modules=(root, ModuleRecord(path, kind, parameters=20, created=Source("net.py", 5))))


def chain(taped, layer, times=2):
    def compute():
        x = torch.randn(3, 4)
        for _ in range(times):
            x = torch.relu(layer(x))
        return x.mean()

    return taped(compute, fc=layer).tape


def test_one_layer_at_two_places_of_a_chain_is_found(taped):
    tape = chain(taped, nn.Linear(4, 4))
    (finding,) = findings_of("ARC018", tree_of("fc", "Linear"), calls_of("fc", (10, 11)), tape)
    assert (finding.name, finding.location.line) == ("shared-layer", 11)
    assert finding.treatment.modules == ("fc",)


def test_a_shared_batch_norm_is_found(taped):
    tape = chain(taped, nn.BatchNorm1d(4))
    (finding,) = findings_of("ARC018", tree_of("fc", "BatchNorm1d"), calls_of("fc", (10, 11)), tape)
    assert "running statistics" in finding.message


def test_one_instance_several_times_in_a_list_is_found_where_it_is_made(taped):
    tape = chain(taped, nn.Linear(4, 4), 3)
    log = calls_of("fc", (10, 10, 10), aliases=((0, ("fc", "l.0", "l.1", "l.2")),))
    (finding,) = findings_of("ARC018", tree_of("fc", "Linear"), log, tape)
    assert finding.location.line == 5


def test_a_loop_from_one_line_is_recurrence_and_silent(taped):
    tape = chain(taped, nn.Linear(4, 4), 3)
    assert not findings_of("ARC018", tree_of("fc", "Linear"), calls_of("fc", (10, 10, 10)), tape)


def test_siamese_calls_are_no_chain_and_silent(taped):
    layer = nn.Linear(4, 4)

    def compute():
        return (layer(torch.randn(3, 4)) - layer(torch.randn(3, 4))).square().mean()

    tape = taped(compute, fc=layer).tape
    assert not findings_of("ARC018", tree_of("fc", "Linear"), calls_of("fc", (10, 11)), tape)


def test_an_encoder_that_reads_what_was_decoded_is_silent(taped):
    tape = chain(taped, nn.Linear(4, 4))
    modules = (ModuleRecord("fc", "Linear", parameters=20), ModuleRecord("fc.inner", "Linear", parameters=20))
    assert not findings_of("ARC018", ModuleTree(modules=modules), calls_of("fc", (10, 11)), tape)


class TestTwoNames:
    """`self.k = self.q`."""

    def log(self, **fields):
        return calls_of("q", (10, 11), aliases=((0, ("q", "k")),), **fields)

    def tape(self, taped, layer, same=True):
        def compute():
            x = torch.randn(3, 4)
            return (layer(x) * layer(x if same else torch.randn(3, 4))).sum()

        return taped(compute, q=layer).tape

    def test_a_layer_that_gets_one_input_under_two_names_is_found_where_it_gets_the_second(self, taped):
        log = self.log(named_again={(0, "q"): Source("net.py", 6)})
        (finding,) = findings_of("ARC018", tree_of("q", "Linear"), log, self.tape(taped, nn.Linear(4, 4)))
        assert finding.location.line == 6
        assert "q and k" in finding.message

    def test_two_towers_with_one_set_of_weights_are_silent(self, taped):
        assert not findings_of("ARC018", tree_of("q", "Linear"), self.log(), self.tape(taped, nn.Linear(4, 4), False))

    def test_a_layer_of_one_name_that_is_asked_twice_is_silent(self, taped):
        tape = self.tape(taped, nn.Linear(4, 4))
        assert not findings_of("ARC018", tree_of("q", "Linear"), calls_of("q", (10, 11)), tape)
