"""Where the gradient's way ends, and where it only seems to."""

from doctor.evidence.base import Source
from doctor.evidence.loss_graph import BackwardRecord, GraphCut, LossGraph, find_cuts
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
