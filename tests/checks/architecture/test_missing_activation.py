"""Layers of a graph network stay linear through a product with the adjacency."""

from doctor.evidence.base import Source
from doctor.evidence.op_tape import Op, OpTape, Tape, TensorNote
from doctor.testing import findings_of


def note(number, shape, grad=True, parameter=None):
    return TensorNote(number, shape, "float32", grad, parameter=parameter)


def graph_network(*, activation):
    """x W1, A h, (relu), h W2: a graph convolution of 16 units between 8 features and 16."""
    source = Source("gcn.py", 9)
    ops = [
        Op(
            0,
            "mm",
            (note(1, (50, 8), False), note(2, (8, 16), parameter="w1.weight")),
            (note(3, (50, 16)),),
            source=source,
            module="w1",
        ),
        Op(1, "mm", (note(4, (50, 50), False), note(3, (50, 16))), (note(5, (50, 16)),), source=source),
    ]
    last = 5
    if activation:
        ops.append(Op(2, "relu", (note(5, (50, 16)),), (note(6, (50, 16)),), source=source))
        last = 6
    ops.append(
        Op(
            3,
            "mm",
            (note(last, (50, 16)), note(7, (16, 16), parameter="w2.weight")),
            (note(8, (50, 16)),),
            source=source,
            module="w2",
        )
    )
    return OpTape((Tape(0, tuple(ops), loss=8),))


def test_a_product_with_the_adjacency_is_no_activation():
    (finding,) = findings_of("ARC003", graph_network(activation=False))
    assert finding.location.line == 9


def test_a_graph_network_with_relu_is_silent():
    assert not findings_of("ARC003", graph_network(activation=True))
