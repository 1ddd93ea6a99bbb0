"""Where the gradient's way ends, and where it only seems to."""

from doctor.evidence.base import Source
from doctor.evidence.critic_log import Critic, CriticLog
from doctor.evidence.loss_graph import BackwardRecord, GraphCut, LossGraph, find_cuts
from doctor.evidence.loss_terms import LossTerms, UnusedTerm
from doctor.evidence.module_tree import ModuleTree, ParameterRecord
from doctor.evidence.op_tape import Op, Tape, TensorNote
from doctor.testing import findings_of

HERE = Source("train.py", 7, "main")


def backward(*reached):
    return BackwardRecord(0, HERE, (), 1.0, False, reached, 4)


def test_a_generator_that_a_later_backward_moved_is_silent():
    names = ("g.weight", "g.bias", "c.weight", "c.bias")
    cuts = (GraphCut("detach", HERE, lost=names[:2]),)
    assert findings_of("LOS006", LossGraph((backward(*names[2:]),), cuts, names))
    assert not findings_of("LOS006", LossGraph((backward(*names[2:]),), (), names, moved=names[:2]))


def test_what_was_computed_without_gradients_carries_none_through_a_later_layer():
    def note(number, grad, parameter=None):
        return TensorNote(number, (4, 4), "float32", grad, parameter=parameter)

    ops = (
        Op(0, "mm", (note(1, True, "g"), note(2, False)), (note(3, None),), source=HERE, grad_enabled=False),
        Op(1, "mm", (note(4, True, "c"), note(3, False)), (note(5, None),), source=HERE),
        Op(2, "detach", (note(5, True),), (note(6, None),), source=HERE),
    )
    assert not list(find_cuts(Tape(0, ops, loss=5), frozenset({"c"})))


class TestFewLostParameters:
    names = tuple(f"layer{i}.weight" for i in range(8))
    graph = LossGraph((backward(*names[1:]),), (GraphCut("cat", HERE, lost=names[:1]),), names)

    def tree(self, optimizer):
        own = ParameterRecord(self.names[0], (4, 4), optimizer=optimizer)
        return ModuleTree(parameters=(own, *(ParameterRecord(n, (4, 4), optimizer=0) for n in self.names[1:])))

    def test_those_that_an_optimizer_holds_are_meant_to_train(self):
        (finding,) = findings_of("LOS006", self.graph, self.tree(0))
        assert "7 of 8 trainable parameters" in finding.message
        assert finding.location.line == 7

    def test_fixed_features_that_no_optimizer_holds_are_silent(self):
        assert not findings_of("LOS006", self.graph, self.tree(None))

    def test_an_average_of_the_weights_that_moves_by_hand_is_silent(self):
        averaged = LossGraph(self.graph.backwards, self.graph.cuts, self.names, moved=self.names[:1])
        assert not findings_of("LOS006", averaged, self.tree(0))


def test_a_criterion_that_no_loss_takes_up_is_left_to_its_own_rule():
    names = ("box.weight", "kind.weight")
    graph = LossGraph((backward(names[0]),), (GraphCut("detach", HERE, lost=names[1:]),), names)
    assert findings_of("LOS006", graph)
    unused = (UnusedTerm("nll_loss_forward", HERE, names[1:]),)
    assert not findings_of("LOS006", graph, LossTerms(unused=unused))


def test_a_generator_cut_off_in_its_own_step_is_told_there():
    names = ("g.weight", "g.bias", "c.weight", "c.bias")
    graph = LossGraph((backward(*names[2:]),), (GraphCut("detach", HERE, lost=names[:2]),), names)
    own = Source("train.py", 12, "main")
    blind = CriticLog((Critic(1, "", 0, cut=(0.1,) * 20, cuts=(HERE, own)),))
    assert findings_of("LOS006", graph, blind)[0].location.line == 12
    seeing = CriticLog((Critic(1, "", 0, cut=(0.1,) * 20, through=(-0.1,) * 20, cuts=(HERE, own)),))
    assert findings_of("LOS006", graph, seeing)[0].location.line == 7


def test_the_copy_of_its_own_result_that_an_unused_layer_keeps_is_no_cut():
    def note(number, grad, parameter=None):
        return TensorNote(number, (4, 4), "float32", grad, parameter=parameter)

    def ops(last):
        return (
            Op(0, "mm", (note(1, True, "p"), note(2, False)), (note(3, None),), source=HERE),
            Op(1, "tanh", (note(3, True),), (note(4, None),), source=HERE),
            Op(2, "detach", (note(4, True),), (note(4, None),), source=HERE),
            *last,
        )

    used = Op(3, "mm", (note(4, False), note(5, True, "c")), (note(6, None),), source=HERE)
    again = Op(3, "detach", (note(4, True),), (note(4, None),), source=HERE)  # the user's: .detach().numpy()
    assert not list(find_cuts(Tape(0, ops(()), loss=9)))
    assert list(find_cuts(Tape(0, ops((used,)), loss=6)))
    assert list(find_cuts(Tape(0, ops((again,)), loss=9)))


def test_what_only_takes_the_shape_of_a_tensor_is_no_cut():
    def tape(name):
        used = TensorNote(3, (4, 4), "float32", True)
        made = Op(0, "mm", (TensorNote(1, (4, 4), "float32", True, parameter="p"),), (used,), source=HERE)
        new = Op(1, name, (used,), (TensorNote(4, (4, 4), "float32", None),), source=HERE)
        read = Op(2, "mul", (TensorNote(4, (4, 4), "float32", False),), (TensorNote(5, (4, 4), "float32", None),))
        return Tape(0, (made, new, read), loss=5)

    assert list(find_cuts(tape("round")))
    assert not list(find_cuts(tape("zeros_like")))
